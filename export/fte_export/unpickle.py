"""Reads a pickle's structure without importing or calling anything it names.

A pickle is a program for a small stack machine, and Python's own machine calls whatever that program asks for. This one
calls nothing: every global becomes a name, every call a record of its arguments. Only the few globals that describe a
tensor are understood, each by a function of this module. `pickletools` splits the stream into opcodes.

Which names are let through, as names:

- those of the standard library that data needs (`HARMLESS`); any other of the standard library is refused, because no
  tensor needs it and a hostile pickle does (`os.system`, `builtins.eval`, `subprocess.Popen`);
- every name outside the standard library (`torch.nn.modules.conv.Conv1d`, `glow.WaveGlow`, a user's `model.Net`),
  because whole pickled modules name them; they stay names.

Work and memory are paid from the file's `Budget`, where they are spent, whatever the pickle says.
"""

import pickletools
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, TypeGuard

from fte_export.budget import Budget, Fault, check_name, shown

PICKLE_BYTES = 64 << 20
"""Size of all pickles of one checkpoint, bytes; those of the published ones are below 1 MiB."""
_ENTRY_BYTES = 100
"""What an entry of a dictionary takes in memory."""
_AT_ONCE = 256
"""Opcodes that are paid for together."""
_CALL = 4
"""Operations that a call costs beside those of its arguments."""

_PYTHON_2_MODULES = {"__builtin__", "copy_reg", "commands", "popen2", "cPickle", "exceptions", "urllib2", "StringIO"}
_STANDARD_LIBRARY = sys.stdlib_module_names | _PYTHON_2_MODULES

_BUILTINS = (
    "bool bytearray bytes complex dict float frozenset int list long object range set slice str tuple unicode xrange"
)
HARMLESS: Mapping[str, frozenset[str]] = {
    "__builtin__": frozenset(_BUILTINS.split()),
    "_codecs": frozenset({"encode"}),  # how protocol 2 writes bytes, as in a numpy scalar
    "argparse": frozenset({"Namespace"}),
    "builtins": frozenset(_BUILTINS.split()),
    "collections": frozenset({"Counter", "OrderedDict", "defaultdict", "deque"}),
    "copy_reg": frozenset({"_reconstructor"}),
    "copyreg": frozenset({"_reconstructor"}),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
    "functools": frozenset({"partial"}),
    "pathlib": frozenset({"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"}),
    "types": frozenset({"SimpleNamespace"}),
}
"""The names of the standard library that data needs, by module; even these are never imported."""

STORAGE_TYPES: Mapping[str, str] = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
    "UntypedStorage": "uint8",
}
"""Element type of torch's storage classes, by class name."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name the pickle asks for: never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return shown(f"{self.module}.{self.name}")


@dataclass(frozen=True, slots=True, eq=False)
class Inert:
    """An object the pickle asks for: never built, only what it was called with and given."""

    maker: object
    args: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    """Its plain attributes, as pickle's default way of restoring them would leave them; also the items of a mapping."""

    @property
    def class_name(self) -> Global | None:
        """The class it would be an instance of."""
        maker = self.maker
        if isinstance(maker, Global) and maker.name == "_reconstructor" and self.args:
            maker = self.args[0]
        return maker if isinstance(maker, Global) else None


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A flat array that lies in the file outside the pickle."""

    key: str
    dtype: str
    """Name of the element type, or of a storage class that is none of `STORAGE_TYPES`."""
    count: int
    """Elements."""
    first: int = 0
    """Where it begins in the storage of that key, elements; not 0 only for the views of old files."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor as its pickle describes it, nothing of it checked against the file yet."""

    storage: Storage
    dtype: str
    offset: int
    """Elements."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Elements."""


def load_pickle(stream: IO[bytes], budget: Budget, storages: dict[str, Storage] | None = None) -> object:
    """Read one pickle from ``stream`` and leave that after its end; classes and objects come out as inert records.

    The storages it refers to are added to ``storages``, whole, by key.
    Raises Fault when the pickle is damaged, asks for what no tensor needs, or is past its budget.
    """
    try:
        return _Machine(budget, {} if storages is None else storages).run(stream)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise Fault("is damaged: its pickle makes no sense") from error


class _Machine:
    """The stack machine of one pickle. Methods named after opcodes run them."""

    def __init__(self, budget: Budget, storages: dict[str, Storage]) -> None:
        self.budget = budget
        self.storages = storages
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: IO[bytes]) -> object:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
            if count % _AT_ONCE == 0:
                self.budget.spend(_AT_ONCE)
            operation = _OPERATIONS.get(opcode.name)
            if operation is not None:
                operation(self, arg)
            elif opcode.name == "STOP":
                return self.stack.pop()
            elif opcode.name not in _IGNORED:
                raise Fault(f"uses the pickle opcode {opcode.name}, which no checkpoint needs, and was not loaded")
        raise Fault("is damaged: its pickle has no end")

    def text(self, value: str | bytes | bytearray) -> None:
        if len(value) > _ENTRY_BYTES:
            self.budget.hold(len(value))
        self.stack.append(value)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop_many(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("stack underflow")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_marked()

    def drop_marked(self, _: Any) -> None:
        self.pop_marked()

    def memoize(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def dictionary(self, _: Any) -> None:
        items = self.pop_marked()
        self.push({})
        self.set_items(items)

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise TypeError("items for what is no list")

    def set_items(self, items: list[Any]) -> None:
        target, pairs = self.stack[-1], _pairs(items)
        if isinstance(target, dict):
            self.insert(target, pairs, len(items))
        elif isinstance(target, Inert):
            self.insert(target.attributes, pairs, len(items), may_replace=True)
        else:
            raise TypeError("keys for what is no dictionary")

    def insert(
        self, target: dict[str, Any], pairs: Iterable[tuple[object, Any]], count: int, *, may_replace: bool = False
    ) -> dict[str, Any]:
        """Add the entries under strings: nothing we look for lies under other keys, and hashing some has no bound.

        Which of two values of one key counts is told by no file, so that two are refused; but ``may_replace`` them
        where attributes of an object and its items meet. ``count``: of the pairs, at least.
        """
        self.budget.hold(_ENTRY_BYTES * count)
        self.budget.spend(count)
        for key, value in pairs:
            if not isinstance(key, str):
                continue
            if len(key) > _ENTRY_BYTES:  # equal keys are compared letter by letter, as often as the pickle says
                self.budget.touch(len(key))
            if key in target and not may_replace:
                raise Fault(f"has the key {shown(key)!r} twice in one dictionary, so that it is not known which counts")
            target[key] = value
        return target

    def name(self, arg: str) -> None:
        self.push(self.named(*arg.split(" ", 1)))

    def name_from_stack(self, _: Any) -> None:
        self.push(self.named(*self.pop_many(2)))

    def named(self, module: object, name: object) -> Global:
        self.budget.spend(_CALL)
        return _global(module, name)

    def persistent(self, _: Any) -> None:
        """torch's references out of the pickle: a storage, or the class of a module with its source (old files)."""
        identifier = self.stack.pop()
        if not isinstance(identifier, tuple):
            raise TypeError("a reference that is no tuple")
        self.budget.spend(_CALL + len(identifier))
        kind, *rest = identifier
        if kind not in ("module", "storage"):
            raise ValueError("an unknown kind of reference")
        self.push(rest[0] if kind == "module" else self.storage(*rest))

    def storage(self, storage_class: Any, key: Any, _location: Any, count: Any, view: Any = None) -> Storage:
        if not (isinstance(storage_class, Global) and isinstance(key, str) and is_count(count)):
            raise ValueError("an impossible storage")
        check_name(key)
        dtype = STORAGE_TYPES.get(storage_class.name, storage_class.name)
        whole = self.storages.setdefault(key, Storage(key, dtype, count))
        if whole.dtype != dtype or whole.count != count:
            raise ValueError("two storages of one name")
        return whole if view is None else _storage_view(whole, view)

    def reduce(self, _: Any) -> None:
        maker, args = self.pop_many(2)
        self.call(maker, args)

    def new_with_keywords(self, _: Any) -> None:
        maker, args, _keywords = self.pop_many(3)
        self.call(maker, args)

    def instance(self, arg: str) -> None:
        args = tuple(self.pop_marked())
        self.call(self.named(*arg.split(" ", 1)), args)

    def instance_from_stack(self, _: Any) -> None:
        maker, *args = self.pop_marked()
        self.call(maker, tuple(args))

    def call(self, maker: Any, args: Any) -> None:
        if not isinstance(args, tuple):
            raise TypeError("arguments that are no tuple")
        self.push(self.made(maker, args))

    def made(self, maker: object, args: tuple[Any, ...] | list[Any]) -> object:
        """What calling ``maker`` stands for: a tensor, a plain container, or an inert record."""
        self.budget.spend(_CALL + len(args))  # they are copied, and a pickle may give one list again and again
        if isinstance(maker, Global):
            build = _MAKERS.get((maker.module, maker.name))
            if build is not None:
                return build(self, *args)
        return Inert(maker, tuple(args))

    def build(self, _: Any) -> None:
        """Keep what BUILD sets: a dictionary of attributes, or a pair of it and that of the slots."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Inert):
            for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
                if isinstance(part, dict):
                    self.insert(target.attributes, part.items(), len(part), may_replace=True)


def _global(module: object, name: object) -> Global:
    """The name, or Fault when it is one of the standard library that data does not need."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError("a global's name is no string")
    check_name(module)
    check_name(name)
    found = Global(module, name)
    root = module.partition(".")[0]
    if root in _STANDARD_LIBRARY and name not in HARMLESS.get(module, ()):
        raise Fault(f"asks for {found}, which no tensor needs; the file may be hostile and was not loaded")
    return found


def _storage_view(whole: Storage, view: Any) -> Storage:
    """A part of a storage, which only old files have: (key, first element, elements)."""
    _key, first, count = view
    if not is_count(first) or not is_count(count) or first + count > whole.count:
        raise ValueError("a view out of its storage")
    return Storage(whole.key, whole.dtype, count, first)


def _tensor(_machine: _Machine, storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> StoredTensor:
    """torch._utils._rebuild_tensor, and _rebuild_tensor_v2 with (requires_grad, hooks, metadata) more."""
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without storage")
    if len(more) > 2 and more[2]:
        raise Fault("holds a tensor in conjugated or negated form, which no weight is in")
    return _checked_tensor(storage, storage.dtype, offset, shape, strides)


def _typed_tensor(_machine: _Machine, storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> StoredTensor:
    """torch._utils._rebuild_tensor_v3, with (requires_grad, hooks, dtype) more: the storage itself is untyped."""
    if not isinstance(storage, Storage) or not isinstance(more[2], Global):
        raise TypeError("a tensor without storage or type")
    return _checked_tensor(storage, more[2].name, offset, shape, strides)


def _checked_tensor(storage: Storage, dtype: str, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    shape = _elements(shape)
    strides = _elements(strides)
    if not is_count(offset) or len(shape) != len(strides):
        raise ValueError("a tensor of impossible shape")
    return StoredTensor(storage, dtype, offset, shape, strides)


def _elements(sizes: Any) -> tuple[int, ...]:
    if isinstance(sizes, Inert):  # torch.Size((2, 3))
        (sizes,) = sizes.args
    if not isinstance(sizes, tuple) or len(sizes) > 8 or not all(is_count(size) for size in sizes):
        raise ValueError("a size that is no count")
    return sizes


def is_count(value: object) -> TypeGuard[int]:
    """Whether ``value`` is an integer that can be a number of elements of something that fits a file."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _first(_machine: _Machine, value: object = None, *_more: object) -> object:
    """A parameter or variable is, to us, the tensor it wraps."""
    return value


def _from_type(machine: _Machine, maker: object, _type: object, args: Any, *_state: object) -> object:
    """torch._utils._rebuild_from_type_v2: a subclass of Tensor, or one with attributes."""
    if isinstance(maker, Global) and maker.name == "_rebuild_from_type_v2":
        return None
    if not isinstance(args, tuple | list):
        raise TypeError("arguments that are no tuple")
    return machine.made(maker, args)


def _ordered(machine: _Machine, pairs: Any = (), *_more: object) -> object:
    if not isinstance(pairs, tuple | list):
        raise TypeError("entries that are no list")
    return machine.insert({}, ((pair[0], pair[1]) for pair in pairs), len(pairs))


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


_MAKERS: Mapping[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch.nn.parameter", "Parameter"): _first,
    ("torch.autograd.variable", "Variable"): _first,
}
"""What the names that describe data stand for."""

_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_IGNORED = frozenset({"PROTO", "FRAME"})

_OPERATIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys((*_TEXTS, *_BYTES), _Machine.text),
    **dict.fromkeys(_NUMBERS, _Machine.push),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_SET": lambda m, _: m.push([]),  # a list: hashing what a set may hold has no bound
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "LIST": lambda m, _: m.push(m.pop_marked()),
    "FROZENSET": lambda m, _: m.push(m.pop_marked()),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_marked())),
    "TUPLE1": lambda m, _: m.push(m.pop_many(1)),
    "TUPLE2": lambda m, _: m.push(m.pop_many(2)),
    "TUPLE3": lambda m, _: m.push(m.pop_many(3)),
    "DICT": _Machine.dictionary,
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_marked()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_marked()),
    "SETITEM": lambda m, _: m.set_items(list(m.pop_many(2))),
    "SETITEMS": lambda m, _: m.set_items(m.pop_marked()),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.drop_marked,
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "PUT": _Machine.memoize,
    "BINPUT": _Machine.memoize,
    "LONG_BINPUT": _Machine.memoize,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.instance_from_stack,
    "BUILD": _Machine.build,
}
"""Opcodes that do something. Not among them, and so refused: extension codes, textual references, shared buffers."""
