"""Imports run one way, and speaking needs neither torch nor onnx."""

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import fte
import fte_export
from fte.errors import import_fault

RUNTIME = Path(fte.__file__).parent
EXPORT = Path(fte_export.__file__).parent

LAYERS = (
    {"constants", "errors", "interruption", "strict_json"},
    {"ahead", "checks", "files"},
    {"audio", "bundle", "limiter", "melfile", "noise", "plot", "text"},
    {"alignment", "installed", "sound"},
    {"health", "timings"},
    {"backends"},
    {"decoder", "vocoder"},
    {"style"},
    {"speech"},
    {"takes"},
    {"renderer"},
    {"stream"},
    {"synthesizer"},
    {"record"},
    {"longform"},
    {"bench", "doctor"},
    {"cli"},
)
"""Each may import those before it. A package is one module here."""
COMPILED = {"_native"}
"""Modules in C++, which import nothing of ours."""
THIRD_PARTY = {"anyascii", "numpy", "safetensors", "soundfile", "soxr"}
"""What importing the runtime may ask of an environment; its command line and tables take more."""
ALSO = {"bench": {"rich"}, "doctor": {"rich"}, "cli": {"rich", "typer"}}
LAZY = {
    "matplotlib": {"bench", "plot", "style", "cli"},
    "cuda": {"backends"},
    "onnxruntime": {"backends"},
    "pycuda": {"backends"},
    "pyworld": {"style"},
    "sklearn": {"style", "cli"},
    "umap": {"style"},
}
"""Packages that are imported only inside functions, and where."""
EXPORT_MAY_IMPORT = {
    "fte",
    "fte.backends",
    "fte.bundle",
    "fte.constants",
    "fte.errors",
    "fte.files",
    "fte.strict_json",
    "fte.text",
}
TORCH_IN = {"flowtron", "torch_rival", "verify", "waveglow"}
"""Modules of fte_export that import torch; the others write graphs without it."""


@dataclass(frozen=True)
class Import:
    """One import statement's module."""

    module: str
    """Importing module, without its package: `text.cleaning`."""
    target: str
    """Imported module, or module and name: `fte.bundle.Bundle`."""
    lazy: bool
    """Inside a function, or for type checkers only."""

    @property
    def layer(self) -> str:
        return self.module.partition(".")[0]

    @property
    def root(self) -> str:
        return self.target.partition(".")[0]


def imports_of(package: Path) -> Iterator[Import]:
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        yield from imports_in(ast.parse(path.read_text(encoding="utf-8")), module.removesuffix(".__init__"), lazy=False)


def imports_in(node: ast.AST, module: str, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module} imports relatively"
            yield from (Import(module, f"{child.module}.{alias.name}", lazy) for alias in child.names)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
                isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            )
            yield from imports_in(child, module, lazy or inside)


RUNTIME_IMPORTS = list(imports_of(RUNTIME))
EXPORT_IMPORTS = list(imports_of(EXPORT))
MODULES = sorted({i.module for i in RUNTIME_IMPORTS})


def rank(layer: str) -> int:
    return next(i for i, layers in enumerate(LAYERS) if layer in layers)


def test_every_module_of_the_runtime_has_a_layer():
    found = {p.stem for p in RUNTIME.glob("*.py")} | {p.name for p in RUNTIME.iterdir() if (p / "__init__.py").exists()}
    assert found - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__"])
def test_the_runtime_imports_one_way(module):
    """Lazy imports count as well: they too would make a circle."""
    for found in (i for i in RUNTIME_IMPORTS if i.module == module and i.root == "fte" and i.target != "fte"):
        layer = found.target.split(".")[1]
        if layer in COMPILED:
            continue
        assert layer == found.layer or rank(layer) < rank(found.layer), found


def test_the_package_itself_imports_the_facade_only_when_asked():
    assert {i.target for i in RUNTIME_IMPORTS if i.module == "__init__" and i.root == "fte" and not i.lazy} == set()


def test_only_the_command_line_and_the_tiny_voice_import_the_exporter_and_torch_and_only_lazily():
    found = [i for i in RUNTIME_IMPORTS if i.root in ("fte_export", "torch", "onnx")]
    assert found
    assert [i for i in found if i.layer not in ("cli", "installed") or not i.lazy] == []


def test_the_runtime_asks_little_of_an_environment():
    for found in (i for i in RUNTIME_IMPORTS if i.root not in sys.stdlib_module_names | {"fte"} and not i.lazy):
        assert found.root in THIRD_PARTY | ALSO.get(found.layer, set()), found


@pytest.mark.parametrize(("package", "layers"), LAZY.items())
def test_optional_packages_are_imported_lazily_where_they_are_used(package, layers):
    found = [i for i in RUNTIME_IMPORTS if i.root == package]
    assert found
    assert [i for i in found if i.layer not in layers or not i.lazy] == []


def test_the_exporter_imports_only_the_contract_of_the_runtime():
    for found in (i for i in EXPORT_IMPORTS if i.root == "fte"):
        module = ".".join(found.target.split(".")[:2])
        assert module in EXPORT_MAY_IMPORT, found


def test_only_the_definitions_in_torch_and_their_verification_import_torch():
    found = {i.module for i in EXPORT_IMPORTS if i.root == "torch"}
    assert found == TORCH_IN
    importers = [i for i in EXPORT_IMPORTS if i.root == "fte_export" and i.target.split(".")[1] in TORCH_IN]
    assert [i for i in importers if i.module not in TORCH_IN and not i.lazy] == []


BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(sys.argv[2].split(","))
sys.meta_path.insert(0, Blocked())
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the packages named in its second argument as good as not installed."""
    code = BLOCK + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def test_a_voice_speaks_where_torch_and_onnx_are_not_installed(tiny_path):
    script = """
        import fte
        voice = fte.Synthesizer.load(sys.argv[1], device="cpu")
        speech = voice.synthesize("Hello there.", seed=1, max_frames=20)
        assert len(speech.samples) == 20 * 256 and abs(speech.samples).max() > 0
        print(sorted(BLOCKED & {name.partition(".")[0] for name in sys.modules}))
        """
    done = python(script, str(tiny_path), "torch,onnx,fte_export,matplotlib,typer,rich")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_importing_the_package_alone_loads_nothing_heavy():
    done = python("import fte; print(fte.__version__, 'numpy' in sys.modules)", "", "numpy,torch,onnx,onnxruntime")
    assert done.stdout.split() == [fte.__version__, "False"]


def test_a_bundle_is_read_without_a_backend(tiny_path):
    script = "from fte.bundle import Bundle; print(Bundle.open(sys.argv[1]).check_files())"
    assert python(script, str(tiny_path), "numpy,onnxruntime,torch,onnx").stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("missing", "command", "says"),
    [
        (
            "torch",
            ["export", "--checkpoint", "x.pt", "-o", "v"],
            "exporting needs the package torch: install flowtron-fte",
        ),
        (
            "onnx",
            ["export", "--checkpoint", "x.pt", "-o", "v"],
            "exporting needs the package onnx: install flowtron-fte",
        ),
        (
            "onnx",
            ["synth", "Hi.", "--voice", "tiny"],
            "the tiny voice is made on the spot, which needs the package 'onnx'",
        ),
        (
            "onnxruntime",
            ["synth", "Hi.", "--voice", "VOICE"],
            "ONNX Runtime is not installed: install flowtron-fte[cpu]",
        ),
        ("matplotlib", ["synth", "Hi.", "--voice", "VOICE", "--plot", "x.png"], "--plot needs matplotlib: install"),
    ],
)
def test_the_command_line_names_the_package_that_is_missing(missing, command, says, tiny_path, tmp_path):
    script = """
        import os
        os.chdir(sys.argv[3])
        os.environ["XDG_CACHE_HOME"] = sys.argv[3]
        from fte.cli import main
        voice, sys.argv = sys.argv[1], ["fte", *sys.argv[4:]]
        sys.argv = [voice if a == "VOICE" else a for a in sys.argv]
        main()
        """
    done = python(script, str(tiny_path), missing, str(tmp_path), *command)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and says in done.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (ModuleNotFoundError("No module named 'pyworld'", name="pyworld"), True),
        (ModuleNotFoundError("No module named 'pyworld.pyworld'", name="pyworld.pyworld"), True),
        (ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources"), False),
        (ImportError("libfoo.so.1: cannot open shared object file", name="pyworld.pyworld"), False),
        (ImportError("numpy.core.multiarray failed to import\nlong advice"), False),
    ],
)
def test_a_package_that_is_there_and_broken_is_not_called_missing(error, missing):
    told = import_fault(error, ["pyworld"], "install it")
    reason = str(error).partition("\n")[0]
    broken = f"the package pyworld is installed and cannot be imported ({reason}): install what it lacks, or it anew"
    assert told == ("install it" if missing else broken)


BREAK = """
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            raise ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources")

sys.meta_path.insert(0, Broken())
import importlib
"""


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("matplotlib", "fte.style.figure.check_figure()"),
        ("matplotlib", "fte.plot._figure(1.0)"),
        ("matplotlib", "fte.bench.plot.check_picture(pathlib.Path('x.png'))"),
        ("matplotlib", "fte.cli.synth._check_plot(pathlib.Path('x.png'))"),
        ("pyworld", "fte.style.figure.check_figure()"),
        ("umap", "fte.style.separation.project(numpy.eye(8), list('ababcdcd'), 'umap')"),
        ("onnxruntime", "fte.backends.OnnxRuntimeBackend('cpu')"),
        ("tensorrt", "fte.backends.trt_library.find_library('tensorrt')"),
        ("fte._native", "fte.backends.native.import_native()"),
        ("torch", "fte.cli.export._exporter()"),
    ],
)
def test_every_optional_import_tells_its_own_error(package, call):
    module = call.rpartition("(")[0].partition("(")[0].rpartition(".")[0]
    code = (
        BREAK
        + f"import pathlib, numpy, {module}\ntry:\n    {call}\nexcept fte.errors.FteError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, "", package], capture_output=True, text=True, timeout=60)
    told = f"the package {package} is installed and cannot be imported (No module named 'pkg_resources')"
    assert told in done.stdout, done.stderr
