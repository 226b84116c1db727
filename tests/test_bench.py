"""`fte bench`: its arithmetic against counting and cases done by hand, its report, and what it refuses."""

import dataclasses
import io
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from rich.console import Console

import fte
from fte.backends import OnnxRuntimeBackend
from fte.backends.tiny_graph import Value, one_node_model
from fte.bench import BenchOptions, check_picture, compare, parse_streams, plot_report, read_report, run_bench
from fte.bench import ceiling as ceilings
from fte.bench.ceiling import Ceiling, Work, frame_multiply_adds, measure_ceiling, vocoder_multiply_adds, work_of
from fte.bench.compare import MOST_BYTES, comparison_table
from fte.bench.machine import peak_mb, reset_peak
from fte.bench.options import SENTENCES, batch_sizes
from fte.bench.streams import Distribution, Heard, listen, measure_streams, starvation, summarize
from fte.cli import main
from fte.cli.status import INPUT, OUTPUT, USAGE
from fte.constants import LIMITS, SAMPLE_RATE
from fte.errors import BackendError, RequestError
from fte.synthesizer import Synthesizer
from fte_export.random_voice import (
    PUBLISHED_WAVEGLOW,
    TINY_FLOWTRON,
    TINY_WAVEGLOW,
    random_flowtron,
    random_waveglow,
)

pytestmark = pytest.mark.usefixtures("one_thread", "quick_ceiling")

SMALL = BenchOptions(batch=3, frames=12, symbols=5, repeats=1, streams=(1, 2), rounds=1, sentence_frames=40)


@pytest.fixture
def quick_ceiling(monkeypatch):
    """Measure the machine for an instant only."""
    monkeypatch.setattr(ceilings, "LARGE_BYTES", 1 << 22)
    monkeypatch.setattr(ceilings, "TRIAL_SECONDS", 0.0)
    monkeypatch.setattr(ceilings, "_ROWS", 64)


@pytest.fixture(scope="module")
def report(tiny) -> dict:
    """A report of the tiny voice in fp32, as JSON gives it back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "LARGE_BYTES", 1 << 22)
        patch.setattr(ceilings, "TRIAL_SECONDS", 0.0)
        patch.setattr(ceilings, "_ROWS", 64)
        return json.loads(json.dumps(run_bench(tiny, SMALL), allow_nan=False))


@pytest.fixture
def bench(monkeypatch, capsys, tmp_path):
    """A function that runs `fte bench` in an empty folder and gives status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fte", "bench", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        return (status, *capsys.readouterr())

    return command


def shown(renderable: object) -> str:
    out = io.StringIO()
    Console(file=out, width=200, markup=False).print(renderable)
    return out.getvalue()


# Graphs without the onnx package.


@pytest.mark.parametrize(
    ("operator", "rows", "weight", "result"),
    [("MatMul", np.float32, np.float32, np.float32), ("MatMulInteger", np.uint8, np.int8, np.int32)],
)
def test_a_model_written_by_hand_is_valid_and_computes_the_product(operator, rows, weight, result, tmp_path):
    constant = np.arange(-400, 400, dtype=np.int64).astype(weight).reshape(4, 200)
    model = one_node_model(operator, [Value("x", rows, (3, 4))], Value("y", result, (3, 200)), {"w": constant})
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    (tmp_path / "x.onnx").write_bytes(model)
    x = np.arange(12).reshape(3, 4).astype(rows)
    (y,) = OnnxRuntimeBackend("cpu", 1).load(tmp_path / "x.onnx").run(["y"], {"x": x})
    assert y.dtype == result
    assert np.array_equal(y, x.astype(np.int64) @ constant.astype(np.int64))


# What the models need.


@pytest.mark.parametrize(
    "sizes",
    [
        TINY_FLOWTRON,
        dataclasses.replace(TINY_FLOWTRON, n_flows=3, n_lstm_layers=1, has_gate=False, n_attention=24),
        dataclasses.replace(TINY_FLOWTRON, n_flows=1, n_lstm_layers=3, n_hidden=32),
    ],
)
def test_a_frame_multiplies_with_every_weight_of_the_flows_once(sizes):
    per_text = ("attention_layer.key", "attention_layer.value")  # once an utterance, not once a frame
    counted = sum(
        array.size
        for name, array in random_flowtron(sizes).arrays.items()
        if name.startswith("flows.") and ".weight" in name and not any(part in name for part in per_text)
    )
    assert frame_multiply_adds(sizes) == counted


@pytest.mark.parametrize(
    "sizes",
    [TINY_WAVEGLOW, dataclasses.replace(TINY_WAVEGLOW, n_flows=5, n_early_every=3, n_layers=2, kernel_size=5)],
)
def test_a_second_of_audio_multiplies_with_every_weight_of_the_vocoder_once_a_group(sizes):
    weights = {name: a.size for name, a in random_waveglow(sizes).arrays.items() if name.endswith(".weight")}
    upsampling = weights.pop("upsample.weight") * SAMPLE_RATE / sizes.upsample_stride
    counted = sum(weights.values()) * SAMPLE_RATE / sizes.n_group + upsampling
    assert vocoder_multiply_adds(sizes, SAMPLE_RATE) == pytest.approx(counted, abs=1)


def test_the_published_waveglow_needs_224_billion_multiply_adds():
    assert vocoder_multiply_adds(PUBLISHED_WAVEGLOW, SAMPLE_RATE) == pytest.approx(224e9, rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_frame_reads_the_weight_files_of_all_flows(tiny, precision):
    sizes = [(tiny.bundle.path / f"flow_{k}.{precision}.bin").stat().st_size for k in (0, 1)]
    work = work_of(tiny.manifest, precision)
    assert (work.frame_bytes, work.step_bytes) == (sum(sizes), max(sizes))
    assert (work.decoder_precision, work.vocoder_precision) == (precision, precision)


def test_a_precision_without_a_ceiling_is_refused(tiny):
    files = {name: dataclasses.replace(f, precision="fp16") for name, f in tiny.manifest.files.items()}
    work = work_of(dataclasses.replace(tiny.manifest, files=files), "fp32")
    with pytest.raises(RequestError, match="precision 'fp16' has no ceiling on a CPU: measure one of fp32, int8"):
        measure_ceiling(work, 1)


# What the machine allows.

WORK = Work(
    decoder_precision="int8",
    step_bytes=6_000_000,
    frame_bytes=10_000_000,
    frame_multiply_adds=4_000_000,
    vocoder_precision="fp32",
    vocoder_multiply_adds=50_000_000_000,
)


def test_the_floor_of_a_step_is_the_slower_of_reading_and_multiplying(monkeypatch):
    monkeypatch.setattr(ceilings, "read_rate", lambda size, _: {6_000_000: 20e9}.get(size, 10e9))
    monkeypatch.setattr(ceilings, "multiply_rate", lambda precision, _: {"int8": 16e9, "fp32": 100e9}[precision])
    ceiling = measure_ceiling(WORK, 1)
    assert ceiling.step_seconds(WORK, 1) == pytest.approx(0.5e-3)  # 10 MB at 20 GB/s; multiplying takes 0.25 ms
    assert ceiling.step_seconds(WORK, 8) == pytest.approx(2e-3)  # 8 x 4 M at 16 G/s
    assert (ceiling.bound(WORK, 1), ceiling.bound(WORK, 8)) == ("reading", "multiplying")
    assert ceiling.decode_ms_per_frame == pytest.approx(0.5)
    assert ceiling.vocoder_rtfx == pytest.approx(2)


def test_without_a_vocoder_its_ceiling_is_left_out():
    ceiling = measure_ceiling(dataclasses.replace(WORK, vocoder_precision=None, vocoder_multiply_adds=None), 1)
    assert ceiling.vocoder_rtfx is None and list(ceiling.gmac_per_second) == ["int8"]


@pytest.mark.parametrize("size", [1000, 123_457, 1 << 22, 1 << 23])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_read_rate_counts_the_bytes_that_were_read(size, threads, monkeypatch):
    monkeypatch.setattr(ceilings, "best_seconds", lambda call: call() and 2.0)
    covered = 2 * ceilings.read_rate(size, threads)
    assert covered == pytest.approx(max(size, 1 << 22), rel=0.05)


def test_the_best_of_the_runs_after_the_first_counts(monkeypatch):
    clock = iter([0, 5, 10, 13, 20, 24, 30, 36, 40, 47])
    monkeypatch.setattr(ceilings, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert ceilings.best_seconds(lambda: None) == 3


def test_the_peak_of_memory_rises_and_begins_anew():
    reset_peak()
    before = peak_mb()
    block = np.ones(8_000_000)
    high = peak_mb()
    del block
    reset_peak()
    assert before is not None and high is not None
    assert high - before == pytest.approx(64, abs=8)
    assert peak_mb() < high - 48


# Streams.


@pytest.mark.parametrize(
    ("arrivals", "durations", "underruns", "seconds"),
    [
        ([0.5], [1.0], 0, 0.0),
        ([0.5, 1.4, 2.4], [1.0, 1.0, 1.0], 0, 0.0),
        ([0.5, 1.5], [1.0, 1.0], 0, 0.0),  # just in time
        ([0.5, 1.7, 2.6], [1.0, 1.0, 1.0], 1, 0.2),  # the pause gives the third chunk time
        ([0.0, 2.0, 5.0], [1.0, 1.0, 1.0], 2, 3.0),
        ([], [], 0, 0.0),
    ],
)
def test_a_player_starves_when_a_chunk_comes_after_the_last_was_played(arrivals, durations, underruns, seconds):
    found = starvation(arrivals, durations)
    assert found.underruns == underruns and found.seconds == pytest.approx(seconds)


def test_percentiles_are_in_milliseconds():
    found = Distribution.of([i / 1000 for i in range(101)])
    assert found is not None
    assert dataclasses.astuple(found) == pytest.approx((101, 50, 90, 95, 99, 100))
    assert Distribution.of([]) is None


def test_the_figures_of_streams():
    heard = [Heard((0.1, 0.5), (1.0, 1.0)), Heard((0.3, 1.5), (1.0, 2.0))]
    row = summarize(2, heard, wall_seconds=2.0)
    assert (row.requests, row.audio_seconds, row.rtfx) == (2, 5.0, 2.5)
    assert row.first_audio_ms.p50 == pytest.approx(200) and row.first_audio_ms.max == pytest.approx(300)
    assert row.gap_ms is not None and (row.gap_ms.count, row.gap_ms.max) == (2, pytest.approx(1200))
    assert (row.underruns, row.starved_requests, row.starved_seconds) == (1, 1, pytest.approx(0.2))


def test_a_sentence_is_one_utterance_of_the_given_length(tiny):
    heard = listen(tiny, SENTENCES[0], 70, 0)
    assert sum(heard.durations) * SAMPLE_RATE == pytest.approx(70 * 256)
    assert len(heard.arrivals) == 2 and 0 < heard.arrivals[0] < heard.arrivals[1]  # of 24 and 46 frames


def test_every_stream_speaks_every_sentence_in_every_round_and_one_before(tiny, monkeypatch):
    spoken = []

    def stream(voice, request):
        spoken.append((request.text, request.request))
        return original(voice, request)

    original = Synthesizer.stream
    monkeypatch.setattr(Synthesizer, "stream", stream)
    row = measure_streams(tiny, dataclasses.replace(SMALL, rounds=2, sentence_frames=2), 2)
    assert row.requests == 40 and len(spoken) == 42
    assert sorted(text for text, _ in spoken[2:]) == sorted(SENTENCES * 4)
    assert len(set(spoken[2:])) == 40  # each with noise of its own


def test_a_stream_that_fails_ends_the_others(tiny, monkeypatch):
    made = []

    def stream(voice, request):
        made.append(request)
        if len(made) == 5:
            raise BackendError("broken")
        return original(voice, request)

    original = Synthesizer.stream
    monkeypatch.setattr(Synthesizer, "stream", stream)
    with pytest.raises(BackendError, match="broken"):
        measure_streams(tiny, dataclasses.replace(SMALL, rounds=1000, sentence_frames=2), 2)
    assert len(made) < 100


def test_the_sentences_have_the_length_of_those_of_ljspeech():
    assert len(set(SENTENCES)) == 10 and all(80 <= len(sentence) <= 120 for sentence in SENTENCES)


# The report.


def test_the_ceiling_is_stated_before_the_voice_is_timed(tiny, monkeypatch):
    class VoiceTimedError(Exception):
        pass

    def timed(*_):
        raise VoiceTimedError

    told: list[str] = []
    monkeypatch.setattr("fte.bench.report.measure_batches", timed)
    with pytest.raises(VoiceTimedError):
        run_bench(tiny, SMALL, show=lambda part: told.append(shown(part)))
    assert (
        f"Ceiling of this machine (threads: {tiny.backend.threads})" in told[-2]
        and "GB/s" in told[-2]
        and "RTFX" in told[-2]
    )


def test_the_report_agrees_with_itself(report):
    (backend,) = report["backends"]
    ceiling, work = backend["ceiling"], report["work"]
    assert [row["batch"] for row in backend["batches"]] == [1, 2, 3]
    for row in backend["batches"]:
        assert row["ms_per_frame"] == pytest.approx(row["ms_per_step"] / row["batch"])
        assert row["frames_per_second"] == pytest.approx(1000 / row["ms_per_frame"])
        assert row["rtfx"] == pytest.approx(row["frames_per_second"] * 256 / 22050)
        assert row["ceiling_fraction"] == pytest.approx(row["ceiling_ms_per_frame"] / row["ms_per_frame"])
        assert row["end_to_end_rtfx"] < row["rtfx"]
        assert 10 < row["peak_mb"] < 100_000
    reading = 1e3 * work["frame_bytes"] / (1e9 * ceiling["step_gb_per_second"])
    multiplying = 1e3 * work["frame_multiply_adds"] / (1e9 * ceiling["gmac_per_second"]["fp32"])
    assert ceiling["decode_ms_per_frame"] == pytest.approx(max(reading, multiplying))
    vocoder = backend["vocoder"]
    assert vocoder["rtfx"] == pytest.approx(1000 / vocoder["ms_per_frame"] * 256 / 22050)
    assert vocoder["ceiling_fraction"] == pytest.approx(vocoder["rtfx"] / ceiling["vocoder_rtfx"])
    for row, streams in zip(backend["streams"], (1, 2), strict=True):
        assert (row["streams"], row["requests"]) == (streams, 10 * streams)
        assert row["audio_seconds"] == pytest.approx(row["requests"] * 40 * 256 / 22050)
        assert row["rtfx"] == pytest.approx(row["audio_seconds"] / row["wall_seconds"])
        first = row["first_audio_ms"]
        assert 0 < first["p50"] <= first["p90"] <= first["p95"] <= first["p99"] <= first["max"]


def test_the_command_prints_the_report_and_shows_the_tables_beside_it(bench, tiny_path):
    small = ["--batch=1", "--frames=8", "--symbols=5", "--repeats=1", "--sentence-frames=30", "--precision=int8"]
    status, out, err = bench("--voice", tiny_path, *small, "--json", "bench.json", "--plot", "bench.png")
    assert (status, out.count("\n")) == (0, 1)
    document = json.loads(out)
    assert document == json.loads(Path("bench.json").read_text("utf-8"))
    assert (document["schema"], document["version"], document["fte"]) == ("fte-bench", 1, fte.__version__)
    assert document["voice"] == "tiny" and document["backends"][0]["precision"] == "int8"
    assert document["options"] == {
        "batch": 1,
        "frames": 8,
        "symbols": 5,
        "repeats": 1,
        "streams": [1],
        "rounds": 1,
        "sentence_frames": 30,
    }
    titles = ("Ceiling of this machine", "Decoder (text", "Vocoder (mel", "Streams: milli", "Streams: throughput")
    places = [err.index(title) for title in titles]
    assert places == sorted(places)
    assert Path("bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_voice_without_a_vocoder_is_measured(golden_bundle, monkeypatch):
    bundle = golden_bundle("flowtron_two_flows")
    voice = Synthesizer.load(bundle.path, "cpu", "fp32")
    monkeypatch.setattr("fte.synthesizer.griffin_lim", lambda mel, **_: np.zeros(len(mel) * 256, np.float32))
    monkeypatch.setattr("fte.renderer.griffin_lim", lambda mel, **_: np.zeros(len(mel) * 256, np.float32))
    told: list[str] = []
    found = run_bench(
        voice, dataclasses.replace(SMALL, batch=1, streams=(1,), sentence_frames=4), lambda p: told.append(shown(p))
    )
    (backend,) = found["backends"]
    assert backend["vocoder"] is None and backend["ceiling"]["vocoder_rtfx"] is None
    assert backend["batches"][0]["end_to_end_rtfx"] > 0 and backend["streams"][0]["gap_ms"] is None
    assert any("no vocoder" in text for text in told)


def test_elsewhere_than_on_the_cpu_no_ceiling_is_claimed(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(tiny.backend, "device", "cuda")
    found = run_bench(tiny, dataclasses.replace(SMALL, batch=1, streams=(1,), sentence_frames=4))
    (backend,) = found["backends"]
    assert backend["ceiling"] is None and backend["batches"][0]["ceiling_fraction"] is None
    plot_report(tmp_path / "x.svg", found)
    assert (tmp_path / "x.svg").stat().st_size > 10_000


def test_batches_double_up_to_the_largest():
    assert [batch_sizes(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


class FakeRival:
    """Computes nothing, but tells what it was asked for."""

    description, precision = "a rival", "fp32"

    def __init__(self):
        self.asked = []

    def decoding(self, batch, frames, symbols):
        return lambda: self.asked.append((batch, frames, symbols))

    def vocoding(self, frames):
        return lambda: self.asked.append(frames)


def test_a_rival_is_measured_on_the_same_batches_against_the_same_ceiling(tiny, tmp_path):
    rival = FakeRival()
    options = dataclasses.replace(SMALL, batch=2, streams=(1,), sentence_frames=4, repeats=1)
    report = run_bench(tiny, options, rivals=[rival], skipped={"tensorrt": "no engines"})
    ours, theirs = report["backends"]
    assert theirs["backend"] == "a rival" and theirs["ceiling"] == ours["ceiling"]
    assert [row["batch"] for row in theirs["batches"]] == [row["batch"] for row in ours["batches"]] == [1, 2]
    assert {(b, options.frames, options.symbols) for b in (1, 2)} | {options.frames} == set(rival.asked)
    assert report["skipped"] == {"tensorrt": "no engines"}
    plot_report(tmp_path / "x.svg", report)
    assert any(row.name.startswith("backend 2, batch 2") for row in compare(report, report))


# Two reports.


def test_a_report_is_the_same_as_itself(report):
    rows = compare(report, report)
    assert {row.verdict for row in rows} == {"same"}
    names = [row.name for row in rows]
    for name in ("ceiling: step_gb_per_second", "batch 3: ms_per_frame", "vocoder: rtfx", "streams 2: gap_ms.p95"):
        assert name in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("key", "factor", "verdict"),
    [
        ("ms_per_frame", 1.5, "worse"),
        ("ms_per_frame", 0.5, "better"),
        ("ms_per_frame", 1.04, "same"),
        ("end_to_end_rtfx", 1.5, "better"),
        ("end_to_end_rtfx", 0.5, "worse"),
        ("peak_mb", 2.0, "worse"),
    ],
)
def test_the_direction_decides_what_is_better(report, key, factor, verdict):
    other = json.loads(json.dumps(report))
    other["backends"][0]["batches"][0][key] *= factor
    changed = {row.name: row for row in compare(report, other)}[f"batch 1: {key}"]
    assert changed.ratio == pytest.approx(factor) and changed.verdict == verdict


def test_underruns_where_there_were_none_are_worse(report):
    reports = [json.loads(json.dumps(report)) for _ in "ab"]
    for number, each in enumerate(reports):
        each["backends"][0]["streams"][0]["underruns"] = 3 * number
    row = {row.name: row for row in compare(*reports)}["streams 1: underruns"]
    assert (row.ratio, row.verdict) == (None, "worse")


def test_figures_that_one_report_lacks_are_left_out(report):
    other = json.loads(json.dumps(report))
    other["backends"][0]["vocoder"] = None
    assert not any(row.name.startswith("vocoder") for row in compare(report, other))


def test_the_command_compares_two_files(bench, report):
    Path("a.json").write_text(json.dumps(report, indent=1), "utf-8")
    other = json.loads(json.dumps(report))
    other["backends"][0]["batches"][0]["ms_per_frame"] *= 2
    Path("b.json").write_text("some table\n" + json.dumps(other) + "\n", "utf-8")  # the whole output of a run
    status, out, err = bench("--compare", "a.json", "b.json")
    assert (status, err) == (0, "")
    line = next(line for line in out.splitlines() if "batch 1: ms_per_frame" in line)
    assert "2.00" in line and "less" in line and "worse" in line
    assert "a: a.json: tiny, fp32, ONNX Runtime" in out


def test_different_options_are_named(report):
    other = report | {"options": report["options"] | {"frames": 13, "rounds": 2}}
    with pytest.raises(RequestError, match="a and b differ in the options frames, rounds: measure both with the same"):
        compare(report, other)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no report"),
        (b"\xff\xfe", "is no report"),
        (b"[" * 200_000, "is no report"),
        (b"[1]", "is no report"),
        (b'{"schema": "fte-voice", "version": 1}', "is no report: give a file that fte bench --json wrote"),
        (b'{"schema": "fte-bench", "version": 1, "x": NaN}', "is no report"),
        (b'{"schema": "fte-bench", "version": 2}', "has another version of the report than 1"),
        (b'{"schema": "fte-bench", "version": 1, "version": 1}', "is no report"),
        (b" " * (MOST_BYTES + 1), f"is larger than {MOST_BYTES} bytes"),
    ],
)
def test_a_file_that_is_no_report_is_refused(tmp_path, content, says):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RequestError, match=says):
        read_report(tmp_path / "a.json")


def test_a_report_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"cannot read .*a\.json: No such file"):
        read_report(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["options"], []),
        (["backends"], None),
        (["backends"], []),
        (["backends"], [1]),
        (["backends", 0, "batches"], {}),
        (["backends", 0, "batches"], [{}] * 1000),
        (["backends", 0, "batches", 0, "batch"], "1"),
        (["backends", 0, "batches", 0, "batch"], True),
        (["backends", 0, "batches", 0, "ms_per_frame"], "fast"),
        (["backends", 0, "batches", 0, "ms_per_frame"], -1),
        (["backends", 0, "batches", 0, "ms_per_frame"], 10**400),
        (["backends", 0, "batches", 0, "ms_per_frame"], math.inf),
        (["backends", 0, "streams", 0, "gap_ms"], 3),
        (["voice"], "\x1b[31m"),
        (["voice"], "x" * 1000),
        (["backends", 0, "precision"], 8),
    ],
)
def test_a_damaged_report_is_refused(report, path, value):
    damaged = json.loads(json.dumps(report))
    place = damaged
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(RequestError, match="is a damaged report"):
        comparison_table(report, damaged)


# Refusals.


@pytest.mark.parametrize(
    ("options", "says", "expected"),
    [
        (["--batch", "0"], "batch is 0: give 1 to 64", USAGE),
        (["--batch", LIMITS.batch + 1], "batch is 65", USAGE),
        (["--frames", "0"], "frames is 0", USAGE),
        (["--symbols", LIMITS.symbols + 1], "symbols is 1001", USAGE),
        (["--repeats", "0"], "repeats is 0", USAGE),
        (["--rounds", "1001"], "rounds is 1001: give 1 to 1000", USAGE),
        (["--sentence-frames", LIMITS.frames + 1], "sentence_frames is 10001", USAGE),
        (["--streams", "0"], "streams has 0: give numbers from 1 to 64", USAGE),
        (["--streams", "4,4"], "streams has 2 numbers: give 1 to 16 different ones", USAGE),
        (["--streams", "1,x"], "streams is '1,x': give whole numbers with commas between them, such as 1,4,8", USAGE),
        (["--streams", ",".join(map(str, range(1, 18)))], "streams has 17 numbers: give 1 to 16 different ones", USAGE),
        (["--json", "no/bench.json"], "cannot write no/bench.json: no is not a folder", OUTPUT),
        (
            ["--plot", "bench.txt"],
            "cannot draw bench.txt: the name of a picture must end in one of .png, .pdf, .svg",
            USAGE,
        ),
        (["--plot", "no/bench.png"], "cannot write no/bench.png: no is not a folder", OUTPUT),
        (["--compare", "a.json", "b.json", "--json", "c.json"], "--compare measures nothing and writes no file", USAGE),
        (["--compare", "a.json", "b.json"], "cannot read a.json: No such file or directory", INPUT),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(bench, options, says, expected, monkeypatch):
    monkeypatch.setattr(Synthesizer, "load", lambda *_: pytest.fail("the voice was loaded"))
    status, out, err = bench("--voice", "nowhere", *options)
    assert (status, out) == (expected, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err
    assert list(Path().iterdir()) == []


def test_a_voice_of_other_symbols_is_refused_before_anything_is_measured(tiny, monkeypatch):
    monkeypatch.setattr("fte.bench.report.measure_ceiling", lambda *_: pytest.fail("something was measured"))
    manifest = dataclasses.replace(tiny.manifest, symbols=tiny.manifest.symbols[::-1])
    voice = Synthesizer(dataclasses.replace(tiny.bundle, manifest=manifest), tiny.backend, "fp32")
    with pytest.raises(RequestError, match="not trained with the public symbols"):
        run_bench(voice, SMALL)


def test_numbers_of_streams_are_read_from_a_list():
    assert parse_streams("1, 4,8") == (1, 4, 8)


def test_a_picture_without_matplotlib_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RequestError, match="--plot needs matplotlib: install flowtron-fte\\[plot\\]"):
        check_picture(Path("x.png"))


def test_the_ceiling_of_this_machine_is_plausible():
    ceiling = measure_ceiling(WORK, 1)
    assert isinstance(ceiling, Ceiling)
    assert 0.1 < ceiling.memory_gb_per_second < 10_000 and 0.01 < ceiling.gmac_per_second["fp32"] < 100_000
