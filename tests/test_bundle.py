"""A bundle is believed only after it was checked, and everything wrong with it is said at once."""

import copy
import dataclasses
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fte.bundle import Bundle, foreign_files, name_fault, parse_manifest
from fte.constants import LIMITS
from fte.errors import BundleError
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, tiny_voice

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def manifest(tiny_path: Path) -> dict[str, Any]:
    """The tiny voice's manifest as JSON gives it; tests change copies."""
    data: dict[str, Any] = json.loads((tiny_path / "manifest.json").read_text(encoding="utf-8"))
    return data


@pytest.fixture
def copied(tiny_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return Path(shutil.copytree(tiny_path, tmp_path / "voice"))


def faults_of(data: object) -> list[str]:
    """The faults of a manifest, one by one."""
    with pytest.raises(BundleError) as error:
        parse_manifest(data, "M")
    text = str(error.value)
    assert "\n" not in text
    beginning = "M is faulty, export the voice again: "
    assert text.startswith(beginning)
    return text.removeprefix(beginning).split("; ")


def edited(manifest: dict[str, Any], *edits: Edit) -> dict[str, Any]:
    data = copy.deepcopy(manifest)
    for edit in edits:
        edit(data)
    return data


def put(path: str, value: Any) -> Edit:
    """An edit that sets what stands at a path of keys joined by '/'."""

    def edit(data: Any) -> None:
        *parents, last = path.split("/")
        for key in parents:
            data = data[int(key) if isinstance(data, list) else key]
        data[int(last) if isinstance(data, list) else last] = value

    return edit


def drop(path: str) -> Edit:
    def edit(data: Any) -> None:
        *parents, last = path.split("/")
        for key in parents:
            data = data[key]
        del data[last]

    return edit


def rename(path: str, new: str) -> Edit:
    def edit(data: Any) -> None:
        *parents, last = path.split("/")
        for key in parents:
            data = data[key]
        data[new] = data.pop(last)

    return edit


# Opening.


def test_a_bundle_says_what_the_voice_is(tiny_path):
    manifest = Bundle.open(tiny_path).manifest
    assert (manifest.format, manifest.version, manifest.name) == ("fte-voice", 1, "tiny")
    assert manifest.flowtron == TINY_FLOWTRON
    assert manifest.speakers == ("speaker_0", "speaker_1", "speaker_2")
    assert len(manifest.symbols) == 185
    assert set(manifest.graphs) == {"fp32", "int8"}
    assert "random numbers" in manifest.warning


def test_a_path_may_be_a_string(tiny_path):
    assert Bundle.open(str(tiny_path)).manifest.name == "tiny"


def test_a_manifest_survives_being_written_and_read(tiny_path):
    manifest = dataclasses.replace(Bundle.open(tiny_path).manifest, speakers=("Ærøskøbing", "李", 'a "b" \\'))
    assert parse_manifest(json.loads(manifest.to_json()), "M") == manifest


def test_the_manifest_names_every_file_in_the_folder_with_its_size_and_hash(tiny_path):
    manifest = Bundle.open(tiny_path).manifest
    found = {path.name: path.read_bytes() for path in tiny_path.iterdir() if path.name != "manifest.json"}
    assert {name: (entry.bytes, entry.sha256) for name, entry in manifest.files.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in found.items()
    }


def test_a_sound_bundle_has_no_faulty_files(tiny_path):
    assert Bundle.open(tiny_path).check_files() == []


@pytest.mark.parametrize("name", ["nowhere", "file", "n" * 300])
def test_what_is_no_folder_is_no_bundle(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=f"{name} is not a voice bundle: there is no such folder"):
        Bundle.open(tmp_path / name)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"is not a voice bundle: it has no manifest\.json"):
        Bundle.open(tmp_path)


def test_a_manifest_that_is_a_pipe_or_a_folder_or_a_link_is_none(tmp_path, tiny_path):
    """A pipe would wait for ever for someone to write into it."""
    for i, make in enumerate((os.mkfifo, Path.mkdir, lambda path: path.symlink_to(tiny_path / "manifest.json"))):
        folder = tmp_path / str(i)
        folder.mkdir()
        make(folder / "manifest.json")
        with pytest.raises(BundleError, match=r"it has no manifest\.json"):
            Bundle.open(folder)


# Text that is no manifest.

NO_JSON = {
    "empty": (b"", "Expecting value"),
    "cut": (b'{"format": "fte-voice", "vers', "Unterminated string"),
    "bytes": (b"\x80\x00\xff", "codec can't decode"),
    "deep lists": (b"[" * 100_000, "recursion"),
    "deep objects": (b'{"a":' * 100_000, "recursion"),
    "NaN": (b'{"format": "fte-voice", "version": NaN}', "NaN is no JSON number"),
    "Infinity": (b'{"format": "fte-voice", "version": -Infinity}', "-Infinity is no JSON number"),
    "a key twice": (b'{"format": "fte-voice", "format": "fte-voice"}', "the key 'format' stands twice"),
    "a key twice inside": (b'{"a": {"b\\n": 1, "c": 2, "b\\n": 3}}', r"the key 'b\n' stands twice"),
    "a number of 5000 digits": (b'{"version": 1' + b"0" * 5000 + b"}", "Exceeds the limit"),
}


@pytest.mark.parametrize(("text", "says"), NO_JSON.values(), ids=NO_JSON.keys())
def test_what_is_no_json_is_refused_for_what_it_is(text, says, tmp_path):
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError) as error:
        Bundle.open(tmp_path)
    message = str(error.value)
    assert says in message and "is not valid JSON" in message and "\n" not in message


def test_a_manifest_past_the_limit_is_not_read(tmp_path):
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(LIMITS.manifest_bytes + 1)
    with pytest.raises(BundleError, match=f"larger than {LIMITS.manifest_bytes} bytes"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    "data", [None, 1, "fte-voice", ["fte-voice"], {}, {"format": "gguf"}, {"format": ["fte-voice"]}]
)
def test_another_format_is_named_as_such(data):
    with pytest.raises(BundleError, match="M is not the manifest of a voice bundle: its format is not 'fte-voice'"):
        parse_manifest(data, "M")


@pytest.mark.parametrize(
    ("version", "shown"),
    [(2, "2"), (0, "0"), ("1", "'1'"), (None, "None"), (10**100, "a whole number too long to show")],
)
def test_another_version_says_which_and_what_to_do(version, shown, manifest):
    with pytest.raises(BundleError) as error:
        parse_manifest(manifest | {"version": version}, "M")
    message = str(error.value)
    assert f"{shown} and this fte reads version 1: use the fte that wrote it, or export the voice again" in message
    assert len(message) < 200


# Faults of a manifest.

FAULTS: dict[str, tuple[Edit, str]] = {
    "missing key": (drop("symbols"), "symbols is missing"),
    "missing key inside": (drop("flowtron/n_hidden"), "flowtron.n_hidden is missing"),
    "missing key of a file": (drop("files/encoder.fp32.bin/bytes"), "files.encoder.fp32.bin.bytes is missing"),
    "unknown key": (put("colour", 1), "colour is unknown"),
    "unknown key inside": (put("waveglow/n_halves", 1), "waveglow.n_halves is unknown"),
    "unknown key with odd characters": (put("a\x1b[31m\n", 1), r"'a\x1b[31m\n' is unknown"),
    "text for a number": (put("flowtron/n_hidden", "64"), "flowtron.n_hidden is a text and should be a whole number"),
    "truth for a number": (put("flowtron/n_flows", True), "flowtron.n_flows is true or false and should be a whole"),
    "number for a truth": (put("flowtron/has_gate", 1), "flowtron.has_gate is a whole number and should be true or"),
    "fraction for a whole": (put("audio/hop", 256.0), "audio.hop is a number and should be a whole number"),
    "truth for a frequency": (put("audio/mel_fmax", True), "audio.mel_fmax is true or false and should be a number"),
    "null": (put("name", None), "name is null and should be a text"),
    "null sizes": (put("flowtron", None), "flowtron is null and should be an object"),
    "list for an object": (put("files", []), "files is a list and should be an object"),
    "object for a list": (put("symbols", {}), "symbols is an object and should be a list"),
    "text for a list": (put("speakers", "abc"), "speakers is a text and should be a list"),
    "number in a list": (put("speakers/1", 7), "speakers[1] is a whole number and should be a text"),
    "text for a file": (put("files/encoder.fp32.bin", "x"), "files.encoder.fp32.bin is a text and should be an object"),
    "version as truth": (put("version", True), "version is true or false and should be a whole number"),
    "zero": (put("flowtron/n_attention", 0), "flowtron.n_attention is 0, outside 1..1048576"),
    "negative": (put("waveglow/n_channels", -1), "waveglow.n_channels is -1, outside 1..1048576"),
    "too large": (put("flowtron/n_mels", 1 << 21), "flowtron.n_mels is 2097152, outside 1..1048576"),
    "too many flows": (put("flowtron/n_flows", 1 << 20), "flowtron.n_flows is 1048576, outside 1..64"),
    "huge size": (put("waveglow/n_flows", 10**4000), "waveglow.n_flows is a whole number too long to show, outside"),
    "huge frequency": (put("audio/mel_fmax", 10**4000), "audio.mel_fmax is a whole number too long to show"),
    "not a number": (put("audio/mel_fmin", float("nan")), "audio.mel_fmin is nan, which no frequency is"),
    "infinite": (put("audio/mel_fmax", float("inf")), "audio.mel_fmax is inf, which no frequency is"),
    "edges in the wrong order": (put("audio/mel_fmin", 9000), "audio.mel_fmin and audio.mel_fmax are 9000 and 8000"),
    "band above half the rate": (put("audio/mel_fmax", 11026), "and 11026, not two edges from 0 to 11025"),
    "sample rate": (put("audio/sample_rate", 0), "audio.sample_rate is 0, outside 1000..192000"),
    "window": (put("audio/fft_size", 1 << 17), "audio.fft_size is 131072, outside 1..65536"),
    "hop": (put("audio/hop", 0), "audio.hop is 0, outside 1..1024"),
    "hop beside the vocoder's": (put("audio/hop", 255), "waveglow.upsample_stride is 256 and audio.hop is 255"),
    "mels of the two models": (put("waveglow/n_mels", 79), "waveglow.n_mels is 79 and flowtron.n_mels is 80"),
    "too few symbols": (put("symbols", ["a"]), "symbols has 1 entries and flowtron.n_text is 185"),
    "too few speakers": (put("speakers", []), "speakers has 0 entries and flowtron.n_speakers is 3"),
    "speakers of one name": (put("speakers", ["a", "b", "a"]), "speakers has 'a' 2 times"),
    "odd group": (put("waveglow/n_group", 9), "waveglow.n_group is 9"),
    "no channels left": (put("waveglow/n_early_every", 1), "waveglow.n_group is 8, of which -2 are left"),
    "stride no multiple of the group": (put("waveglow/n_group", 6), "256, not a multiple of n_group, 6"),
    "kernel shorter than the stride": (put("waveglow/upsample_kernel", 100), "upsample_kernel is 100, less than"),
    "control characters in a name": (put("name", "a\x1b[2J"), r"name is 'a\x1b[2J', which has characters that cannot"),
    "half of a pair": (put("warning", "\ud800"), r"warning is '\ud800', which has characters that cannot be shown"),
    "a line break in a speaker": (put("speakers/0", "a\nb"), r"speakers[0] is 'a\nb', which has characters"),
    "a hash of another length": (
        put("files/vocoder.int8.bin/sha256", "0" * 63),
        "files.vocoder.int8.bin.sha256 is '000",
    ),
    "a hash in capitals": (put("sources/flowtron/sha256", "A" * 64), "sources.flowtron.sha256 is 'AAA"),
    "a hash with a line break": (put("sources/flowtron/sha256", "0" * 64 + "\n"), "sources.flowtron.sha256 is '000"),
    "negative bytes": (put("files/vocoder.int8.bin/bytes", -1), "files.vocoder.int8.bin.bytes is -1, outside"),
    "no source": (drop("sources/flowtron"), "sources lacks flowtron"),
    "no source of the vocoder": (drop("sources/waveglow"), "sources lacks waveglow"),
    "no graphs": (put("graphs", {}), "graphs is empty"),
    "a role too few": (drop("graphs/int8/flow_1_guided"), "graphs.int8 lacks flow_1_guided"),
    "an empty precision": (put("graphs/fp16", {}), "graphs.fp16 lacks encoder"),
    "a vocoder too few": (drop("graphs/fp32/vocoder"), "graphs.fp32 lacks vocoder"),
    "a graph that is no file": (put("graphs/fp32/flow_0", "x.onnx"), "graphs.fp32.flow_0 names x.onnx, which is not"),
    "a graph of another role": (
        put("graphs/fp32/flow_0", "flow_1.fp32.onnx"),
        "graphs.fp32.flow_0 names flow_1.fp32.onnx, whose role is flow_1",
    ),
    "a graph outside": (put("graphs/fp32/flow_0", "../x"), "graphs.fp32.flow_0 names '../x', which is not among"),
}


@pytest.mark.parametrize(("edit", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_place(edit, says, manifest):
    assert any(says in fault for fault in faults_of(edited(manifest, edit)))


@pytest.mark.parametrize(
    "name",
    [
        "../encoder.bin",
        "a/b",
        "/etc/passwd",
        "..",
        ".",
        "",
        ".hidden",
        "a\\b",
        "a b",
        "a\x00b",
        "a\n",
        "é",
        "C:x",
        "n" * 129,
    ],
)
def test_a_file_name_that_could_lead_elsewhere_is_refused(name, manifest):
    faults = faults_of(edited(manifest, rename("files/encoder.fp32.bin", name)))
    assert any(fault.startswith("files has ") and "which is not a plain name" in fault for fault in faults)


@pytest.mark.parametrize("path", ["sources/flowtron", "graphs/int8", "graphs/int8/flow_0"])
def test_other_names_are_plain_too(path, manifest):
    faults = faults_of(edited(manifest, rename(path, "a\x1b/b")))
    assert any(r"has 'a\x1b/b', which is not a plain name" in fault for fault in faults)


def test_every_fault_is_listed_at_once(manifest):
    """Faults of several parts of a manifest, none of which hides another."""
    chosen = ["unknown key", "unknown key inside", "text for a number", "truth for a frequency", "number in a list"]
    chosen += [
        "zero",
        "negative",
        "too few symbols",
        "missing key of a file",
        "control characters in a name",
        "negative bytes",
    ]
    chosen += ["a hash in capitals", "no source of the vocoder", "a role too few", "a graph of another role"]
    text = "; ".join(faults_of(edited(manifest, *(FAULTS[name][0] for name in chosen))))
    assert [name for name in chosen if FAULTS[name][1] not in text] == []


def test_thousands_of_faults_stay_one_short_sentence(manifest):
    data = edited(manifest, put("speakers", list(range(5000))))
    with pytest.raises(BundleError) as error:
        parse_manifest(data, "M")
    assert "speakers[999] is" in str(error.value)
    assert str(error.value).endswith("; and 4001 more")


def test_a_value_of_any_length_is_shown_in_a_few_characters(manifest):
    (fault,) = faults_of(edited(manifest, put("sources/flowtron/sha256", "x" * 1_000_000)))
    assert len(fault) < 200


def test_a_bundle_without_a_vocoder_is_sound(manifest):
    def without(data: dict[str, Any]) -> None:
        data["waveglow"] = None
        del data["sources"]["waveglow"]

    assert parse_manifest(edited(manifest, without), "M").waveglow is None


def test_what_has_a_default_may_be_left_out(manifest):
    optional = ("audio", "text", "warning", "exporter")
    parsed = parse_manifest(edited(manifest, *map(drop, optional)), "M")
    assert (parsed.audio.sample_rate, parsed.audio.hop, parsed.text.arpabet) == (22050, 256, True)


def paths_of(data: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested objects and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, value in items for found in [(*prefix, key), *paths_of(value, (*prefix, key))]]


ODD = [None, True, False, 0, -1, 1, 2, 64, 65, 2**31, 2**64, -(10**400), 0.5, 1e308, float("nan"), float("-inf")]
ODD += ["", "fp32", "..", "a/b", "\x00", "\ud800", "é" * 300, "0" * 64, [], [[]], [1], ["a"], {}, {"": {}}, {"a": None}]


def test_random_damage_is_read_or_refused(manifest):
    """Nothing but BundleError comes out of a manifest, whatever stands where."""
    chance = random.Random(20_260_101)
    places = paths_of({key: value for key, value in manifest.items() if key != "symbols"}) + [("symbols", 3)] * 3
    refused = 0
    for _ in range(800):
        data = copy.deepcopy(manifest)
        for _ in range(chance.randint(1, 4)):
            *parents, last = chance.choice(places)
            parent = data
            try:
                for key in parents:
                    parent = parent[key]
                if chance.random() < 0.2:
                    del parent[last]
                elif chance.random() < 0.2 and isinstance(parent, dict):
                    parent[str(chance.choice(ODD))] = parent[last]
                else:
                    parent[last] = copy.deepcopy(chance.choice(ODD))
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change took the place away
        try:
            parsed = parse_manifest(data, "M")
        except BundleError as error:
            refused += 1
            str(error).encode()  # can be printed anywhere
        else:
            assert parse_manifest(json.loads(parsed.to_json()), "M") == parsed
    assert refused > 400


def test_random_bytes_changed_in_the_text_are_read_or_refused(tiny_path, tmp_path):
    chance = random.Random(20_260_102)
    text = (tiny_path / "manifest.json").read_bytes()
    for _ in range(300):
        data = bytearray(text)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "manifest.json").write_bytes(data)
        try:
            Bundle.open(tmp_path)
        except BundleError as error:
            assert "\n" not in str(error)


# Files.


def flip(path: Path) -> None:
    """Change one bit in the middle, keeping the size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def link_to_itself_elsewhere(path: Path) -> None:
    """A link whose target even has the right content."""
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (flip, r"flow_0\.fp32\.bin is not the file that was exported \(its SHA-256 differs\)"),
    "truncated": (truncate, r"flow_0\.fp32\.bin is not the file that was exported"),
    "longer": (extend, r"flow_0\.fp32\.bin is not the file that was exported"),
    "missing": (Path.unlink, r"lacks its file flow_0\.fp32\.bin"),
    "link": (link_to_itself_elsewhere, r"lacks its file flow_0\.fp32\.bin"),
    "folder": (folder_instead, r"lacks its file flow_0\.fp32\.bin"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_not_handed_out(damage, says, copied):
    damage(copied / "flow_0.fp32.bin")
    bundle = Bundle.open(copied)
    with pytest.raises(BundleError, match=says):
        bundle.file("flow_0.fp32.bin")


@pytest.mark.parametrize("role", ["flow_0", "flow_0_guided"])
def test_a_graph_is_not_handed_out_when_the_weights_it_reads_were_edited(role, copied):
    flip(copied / "flow_0.fp32.bin")
    bundle = Bundle.open(copied)
    assert bundle.file(f"{role}.fp32.onnx").is_file()
    with pytest.raises(BundleError, match=r"flow_0\.fp32\.bin is not the file that was exported"):
        bundle.graph("fp32", role)


def test_every_graph_depends_on_a_weight_file(tiny_path):
    """Were one of them to name none, its weights would be read unchecked."""
    manifest = Bundle.open(tiny_path).manifest
    graphs = [n for n, entry in manifest.files.items() if not entry.role.startswith(("weights_", "engine"))]
    for name in graphs:
        weights = [n for n in manifest.files if n.endswith(".bin") and n.encode() in (tiny_path / name).read_bytes()]
        assert len(weights) == 1, name


def test_other_graphs_of_a_damaged_bundle_are_still_handed_out(copied):
    flip(copied / "flow_0.fp32.bin")
    assert Bundle.open(copied).graph("fp32", "flow_1") == copied / "flow_1.fp32.onnx"
    assert Bundle.open(copied).graph("int8", "flow_0") == copied / "flow_0.int8.onnx"


def test_a_graph_that_a_precision_shares_is_that_of_the_other(tiny_path):
    bundle = Bundle.open(tiny_path)
    assert bundle.graph("int8", "encoder") == bundle.graph("fp32", "encoder") == tiny_path / "encoder.fp32.onnx"


def test_each_damaged_file_gets_its_sentence(copied):
    flip(copied / "encoder.fp32.onnx")
    truncate(copied / "vocoder.int8.bin")
    (copied / "posterior.fp32.bin").unlink()
    faults = Bundle.open(copied).check_files()
    assert len(faults) == 3
    for name in ("encoder.fp32.onnx", "vocoder.int8.bin", "posterior.fp32.bin"):
        assert sum(name in fault for fault in faults) == 1


def test_an_unknown_precision_or_role_is_refused_by_name(tiny_path):
    bundle = Bundle.open(tiny_path)
    with pytest.raises(BundleError, match="has no precision 'fp16': it was exported with fp32, int8"):
        bundle.graph("fp16", "encoder")
    with pytest.raises(BundleError, match="has no style: it was exported without it"):
        bundle.graph("fp32", "style")


# The voice's identity.


def test_the_voice_hash_is_that_of_the_source_checkpoints(tiny_path):
    bundle = Bundle.open(tiny_path)
    flowtron, waveglow = (bundle.manifest.sources[model].sha256 for model in ("flowtron", "waveglow"))
    expected = hashlib.sha256(f"flowtron:{flowtron}\nwaveglow:{waveglow}".encode()).hexdigest()
    assert bundle.voice_hash == expected


def test_the_voice_hash_tells_weights_apart_and_nothing_else(tiny_path, tmp_path):
    write_voice(dataclasses.replace(tiny_voice(), name="other", speakers=("a", "b", "c")), tmp_path / "same", ["fp32"])
    write_voice(tiny_voice(seed=1), tmp_path / "other", ["fp32"])
    tiny, same, other = (Bundle.open(p).voice_hash for p in (tiny_path, tmp_path / "same", tmp_path / "other"))
    assert tiny == same != other


# What a folder holds beside a bundle.


def test_a_bundle_and_an_empty_folder_hold_nothing_foreign(tiny_path, tmp_path):
    assert foreign_files(tiny_path) == foreign_files(tmp_path) == []


def test_what_is_not_of_the_bundle_is_foreign_even_in_a_damaged_one(copied):
    (copied / "speech.wav").touch()
    (copied / "flow_1.fp32.bin").unlink()
    folder_instead(copied / "flow_0.fp32.bin")
    assert foreign_files(copied) == ["flow_0.fp32.bin", "speech.wav"]


def test_a_bundle_of_another_version_is_still_one(copied, manifest):
    (copied / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    assert foreign_files(copied) == []


@pytest.mark.parametrize("text", [None, "{}", "not JSON", '{"format": "gguf"}', "[]"])
def test_a_folder_of_something_else_is_no_bundle_to_replace(text, tmp_path):
    (tmp_path / "thesis.pdf").touch()
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        foreign_files(tmp_path)


@pytest.mark.parametrize("name", ["anna", "Ærø 李", "a'b\"c", "x" * 500])
def test_names_that_can_be_shown_are_good(name):
    assert name_fault(name) == ""


@pytest.mark.parametrize("name", ["", " ", "a\n", "\x1b[31m", "\x9b", "\udcff"])
def test_names_that_cannot_be_shown_are_not(name):
    assert name_fault(name) != ""
