"""TensorRT engines of a bundle's graphs. Needs neither torch nor onnx: TensorRT reads the graphs itself."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fte.backends.cuda import CudaError, Device
from fte.backends.engines import BuiltEngine, EngineKey, EngineStore, Profile, graph_sha256
from fte.backends.trt_library import Library
from fte.bundle import Bundle
from fte.errors import BackendError, RequestError
from fte.files import atomic_file

Progress = Callable[[str, float], None]
"""Called with what is being built and the fraction of it done, 0 to 1. What it raises ends the build."""

POSTERIOR_FRAMES = 1024
"""Longest reference that a posterior engine takes, 12 s, and a batch of 1."""
_TIMING_CACHE = "timing.cache"


@dataclass(frozen=True)
class BuildOptions:
    """What the user of `fte build` can choose."""

    precision: str = "fp16"
    block: int = 16
    """Frames decoded at once."""
    profile: Profile = field(default_factory=Profile)
    targets: tuple[int, ...] = ()
    """Compute capabilities, such as 89; none for the GPU of this machine."""
    guided: bool = False
    """Whether flows are also built with priors and imposed attention."""
    posterior: bool = False
    """Whether the posterior pass is built: styles need it, speaking does not."""


def roles_of(bundle: Bundle, options: BuildOptions) -> list[str]:
    """The roles to build. Raises RequestError where the bundle lacks the precision or its blocks."""
    if options.precision not in bundle.manifest.graphs:
        known = ", ".join(bundle.manifest.graphs)
        raise RequestError(
            f"{bundle.path} has no precision {options.precision!r}, but {known}: export it with --precision fp32,fp16"
        )
    if options.block not in bundle.blocks(options.precision):
        known = ", ".join(map(str, bundle.blocks(options.precision))) or "none"
        raise RequestError(
            f"{bundle.path} has no blocks of {options.block} frames in {options.precision}: it has {known}"
        )
    guides = ("", "_guided") if options.guided else ("",)
    flows = [
        f"flow_{k}{guide}_block_{options.block}" for k in range(bundle.manifest.flowtron.n_flows) for guide in guides
    ]
    vocoder = ["vocoder"] if bundle.manifest.waveglow else []
    return ["encoder", *flows, *vocoder, *(["posterior"] if options.posterior else [])]


def build_engines(
    bundle: Bundle, options: BuildOptions, library: Library, store: EngineStore, progress: Progress
) -> Iterator[tuple[BuiltEngine, bool]]:
    """Build what ``store`` lacks; yield each engine and whether it was built now.

    Raises RequestError and BackendError as the options, the bundle and the library allow.
    """
    targets = _targets(options, library)
    for role in roles_of(bundle, options):
        graph = bundle.manifest.graphs[options.precision][role]
        for target, name in targets:
            key = EngineKey(
                graph_sha256(bundle, graph), library.name, library.version, name, options.precision, options.profile
            )
            known = store.exact(key)
            if known is not None:
                yield known, False
                continue
            path = bundle.graph(options.precision, role)
            what = f"{role} for {name}"
            progress(what, 0.0)
            started = time.perf_counter()
            shapes = _axis_ranges(bundle, role, options.profile)
            data = build(library, path, shapes, target, store, partial(progress, what))
            progress(what, 1.0)
            yield store.add(key, graph, data, time.perf_counter() - started), True


def _targets(options: BuildOptions, library: Library) -> list[tuple[int | None, str]]:
    """What to build for, and its name in a key."""
    if options.targets:
        if not library.targets:
            raise RequestError(f"{library.description} builds for the GPU of this machine alone: leave --sm out")
        return [(target, f"sm_{target}") for target in options.targets]
    try:
        with Device() as device:
            if library.targets:
                target = int("".join(map(str, device.compute_capability)))
                return [(target, f"sm_{target}")]
            return [(None, device.name)]
    except CudaError as error:
        able = ",".join(map(str, library.targets))
        way_out = f"say for which GPUs with --sm, such as --sm {able}" if able else "build on the machine with the GPU"
        raise RequestError(f"there is no GPU here to build for: {way_out} ({error})") from error


AxisRanges = Sequence[Mapping[str, tuple[int, int, int]]]
"""For each profile: axis -> its smallest, usual and largest size."""


def _axis_ranges(bundle: Bundle, role: str, profile: Profile) -> AxisRanges:
    """The profiles of a graph: one for each size of batch, the vocoder and the posterior pass for one utterance."""
    symbols = (1, max(1, profile.symbols // 2), profile.symbols)
    if role == "posterior":
        return [{"B": (1, 1, 1), "N": symbols, "T": (1, POSTERIOR_FRAMES // 2, POSTERIOR_FRAMES)}]
    if role == "vocoder":
        assert bundle.manifest.waveglow is not None
        groups = bundle.manifest.waveglow.upsample_stride // bundle.manifest.waveglow.n_group
        frames = (1, profile.max_frames, profile.max_frames)
        return [{"B": (1, 1, 1), "T": frames, "G": (groups, groups * frames[1], groups * frames[2])}]
    starts = (1, *(batch + 1 for batch in profile.batches))
    return [{"B": (start, batch, batch), "N": symbols} for start, batch in zip(starts, profile.batches, strict=False)]


def build(
    library: Library,
    path: Path,
    ranges: AxisRanges,
    target: int | None,
    store: EngineStore,
    progress: Callable[[float], None],
) -> Any:
    """The engine of the graph at ``path``, serialized, as a buffer.

    Raises BackendError where the graph is not understood or cannot be built, in the words of the library.
    """
    library.log.messages.clear()
    builder = library.new_builder()
    network = library.new_network(builder)
    parser = library.module.OnnxParser(network, library.log)
    if not parser.parse_from_file(str(path)):
        reasons = [" ".join(parser.get_error(i).desc().split())[:300] for i in range(parser.num_errors)]
        raise BackendError(f"{library.description} does not understand {path.name}: {'; '.join(reasons[:2])}")
    config = library.new_config(builder, target)
    for axes in ranges:
        config.add_optimization_profile(_optimization_profile(builder, network, axes, path.name))
    cache = _load_timing_cache(library, config, store)
    monitor = _make_monitor(library, progress)
    config.progress_monitor = monitor
    data = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if data is None:
        raise BackendError(f"{library.description} cannot build {path.name}: {library.log.last()}")
    _save_timing_cache(cache, config, store)
    return data


def _optimization_profile(builder: Any, network: Any, axes: Mapping[str, tuple[int, int, int]], graph: str) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        value = network.get_input(i)
        names = [value.get_dimension_name(axis) for axis in range(len(value.shape))]
        if unknown := [name for name, size in zip(names, value.shape, strict=True) if size < 0 and name not in axes]:
            raise BackendError(f"{graph}: the axis {unknown[0]!r} of {value.name} has no range: export the voice again")
        shapes = [
            tuple(axes[name][which] if size < 0 else size for name, size in zip(names, value.shape, strict=True))
            for which in range(3)
        ]
        profile.set_shape(value.name, *shapes)
    return profile


def _load_timing_cache(library: Library, config: Any, store: EngineStore) -> Any:
    """What earlier builds measured of this GPU's kernels; None where the library measures nothing when it builds."""
    if library.targets:
        return None
    path = store.folder / _TIMING_CACHE
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _save_timing_cache(cache: Any, config: Any, store: EngineStore) -> None:
    if cache is not None:
        store.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_file(store.folder / _TIMING_CACHE) as temporary:
            temporary.write_bytes(config.get_timing_cache().serialize())


def _make_monitor(library: Library, progress: Callable[[float], None]) -> Any:
    """Tells how far the outermost phases of a build have come, and ends it when ``progress`` raises.

    An interrupt of the user's is raised there too: it is where the build comes back to Python.
    """

    class Monitor(library.module.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.stopped_by: BaseException | None = None
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            try:
                if parent is None:
                    with self._lock:
                        self._steps[phase] = steps
            except BaseException as error:  # nothing may be raised through the library
                self.stopped_by = error

        def phase_finish(self, phase: str) -> None:
            try:
                with self._lock:
                    self._steps.pop(phase, None)
            except BaseException as error:
                self.stopped_by = error

        def step_complete(self, phase: str, step: int) -> bool:
            try:
                with self._lock:
                    steps = self._steps.get(phase)
                if steps and self.stopped_by is None:
                    progress(min(1.0, (step + 1) / steps))
            except BaseException as error:
                self.stopped_by = error
            return self.stopped_by is None

    return Monitor()
