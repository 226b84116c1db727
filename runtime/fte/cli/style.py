"""`fte style ...`: styles from recordings, their arithmetic, and pictures of the latent space."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fte.bundle import Bundle
from fte.cli import completion
from fte.cli.command import Command, Group
from fte.cli.common import (
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    VoiceArgument,
    VoiceOption,
    check_machine,
    check_package,
    check_place,
    check_precision,
    make_folder,
    out_console,
    say,
    voice_path,
)
from fte.errors import OutputError, RequestError
from fte.style.library import STYLES, find_style, own_styles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fte.style.references import Found, Skipped
    from fte.style.style import Style
    from fte.synthesizer import Synthesizer

_LABEL = "{label}"
"""What stands for each label in the names of representatives."""

app = typer.Typer(cls=Group, help="Styles: from recordings, mixed, on the way from one to another, and looked at.")

StyleArgument = Annotated[
    str,
    typer.Argument(
        metavar="STYLE", help="A style file, or names of the voice's own.", autocompletion=completion.styles
    ),
]


@app.command(cls=Command)
def extract(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The style, .safetensors; by default among the voice's own.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the style; that of the file by default.")] = "",
    voice: VoiceOption = "tiny",
    ravdess: Annotated[Path | None, typer.Option(metavar="DIR", help="Recordings with RAVDESS names.")] = None,
    filelist: Annotated[Path | None, typer.Option(help="A file of lines path|text|speaker[|label].")] = None,
    folder: Annotated[Path | None, typer.Option(metavar="DIR", help="Sounds, each with a .txt beside it.")] = None,
    emotion: Annotated[str, typer.Option(help="Of RAVDESS: names or numbers, comma-separated.")] = "",
    intensity: Annotated[str, typer.Option(help="Of RAVDESS: normal or strong.")] = "",
    actor: Annotated[str, typer.Option(help="Of RAVDESS: numbers, comma-separated.")] = "",
    label: Annotated[str, typer.Option(help="Only recordings with this label.")] = "",
    speaker: Annotated[str, typer.Option(help="The voice's speaker as whom the recordings are heard.")] = "0",
    aggregation: Annotated[str, typer.Option(help="time_and_batch (a vector) or batch.")] = "time_and_batch",
    frames: Annotated[int | None, typer.Option(help="Of a batch mean; the longest by default.")] = None,
    sigma: Annotated[float, typer.Option(help="Suggested standard deviation around the style.")] = 0.5,
    lam: Annotated[float, typer.Option("--lambda", help="The public notebook's lambda.")] = 1e-4,
    speaker_independent: Annotated[
        bool, typer.Option("--speaker-independent", help="Take the mean of each actor or speaker out first.")
    ] = False,
    keep_unaligned: Annotated[
        bool, typer.Option("--keep-unaligned", help="Keep recordings that do not seem to say their text.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace styles of the voice.")] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Make a style of recordings: the mean of their z."""
    from fte.style.means import centred, mean_style
    from fte.style.style import save_style

    if out is None and not name:
        raise RequestError("neither --out nor --name was given: name the file or the style")
    kind = _aggregation(aggregation)
    _check_spread(sigma, lam, frames if kind == "batch" else None)
    if frames is not None and kind != "batch":
        raise RequestError("--frames is the length of a batch mean: give --aggregation batch with it, or leave it out")
    check_machine(device, "auto", threads)
    target = _target(out, name, voice, overwrite)
    # A speaker's mean is that of all emotions, so the filter by emotion comes after it.
    wanted = _split(emotion)
    found = _references(
        ravdess, filelist, folder, () if speaker_independent else wanted, _split(intensity), _split(actor), speaker
    )
    _check_labels(found, label, _emotions(wanted) if speaker_independent else frozenset())
    synthesizer = _load(voice, device, precision, threads)
    extraction = synthesizer.extractor.extract(found.references, keep_unaligned=keep_unaligned)
    _report_skipped([*found.skipped, *extraction.rejected])
    evidence: list[Any] = list(extraction.evidence)
    if speaker_independent:
        people = [e.reference.attributes.get("actor", str(e.speaker)) for e in evidence]
        evidence = list(centred(evidence, people))
    chosen = [
        e
        for e in evidence
        if label in ("", e.label) and (not speaker_independent or not wanted or e.label in _emotions(wanted))
    ]
    if not chosen:
        raise RequestError(f"none of {len(found.references)} recordings could be used: see the reasons above")
    style = mean_style(
        name or target.stem,
        chosen,
        voice_hash=synthesizer.bundle.voice_hash,
        aggregation=kind,
        lam=lam,
        sigma=sigma,
        n_frames=frames,
    )
    make_folder(target.parent)
    save_style(target, style, overwrite=overwrite or out is not None)
    say(f"{target}: {len(chosen)} of {len(found.references)} recordings, {_whose(style)}")


@app.command(cls=Command)
def representatives(
    voice: VoiceOption = "tiny",
    ravdess: Annotated[Path | None, typer.Option(metavar="DIR", help="Recordings with RAVDESS names.")] = None,
    filelist: Annotated[Path | None, typer.Option(help="A file of lines path|text|speaker|label.")] = None,
    folder: Annotated[Path | None, typer.Option(metavar="DIR", help="Sounds, each with a .txt beside it.")] = None,
    actor: Annotated[str, typer.Option(help="Of RAVDESS: numbers, comma-separated.")] = "",
    speaker: Annotated[str, typer.Option(help="The voice's speaker as whom the recordings are heard.")] = "0",
    name: Annotated[
        str, typer.Option(help="Names of the styles, {label} standing for the label, such as ravdess-{label}.")
    ] = _LABEL,
    sigma: Annotated[float, typer.Option(help="Suggested standard deviation around the styles.")] = 0.5,
    keep_unaligned: Annotated[
        bool, typer.Option("--keep-unaligned", help="Keep recordings that do not seem to say their text.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace styles of the voice.")] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Make a style of each label at once: where it is furthest from the others and nearest to its own recordings."""
    from fte.style.representative import representative_styles
    from fte.style.style import save_style

    _check_spread(sigma)
    check_machine(device, "auto", threads)
    if _LABEL not in name:
        raise RequestError(f"the name {name[:80]!a} is one for all styles: let {_LABEL} in it stand for the label")
    check_place(voice_path(voice) / STYLES, is_folder=True)
    found = _references(ravdess, filelist, folder, (), (), _split(actor), speaker)
    targets = _representative_targets(found, voice, name, overwrite)
    synthesizer = _load(voice, device, precision, threads)
    extraction = synthesizer.extractor.extract(found.references, keep_unaligned=keep_unaligned)
    _report_skipped([*found.skipped, *extraction.rejected])
    labelled = [e for e in extraction.evidence if e.label is not None]
    if not labelled:
        raise RequestError(f"none of {len(found.references)} recordings could be used: see the reasons above")
    styles = representative_styles(labelled, voice_hash=synthesizer.bundle.voice_hash, sigma=sigma)
    make_folder(voice_path(voice) / STYLES)
    for label, style in styles.items():
        target = targets[label]
        save_style(target, dataclasses.replace(style, name=target.stem), overwrite=overwrite)
        say(f"{target}: the representative of {sum(e.label == label for e in labelled)} recordings")


def _representative_targets(found: "Found", voice: str, name: str, overwrite: bool) -> dict[str, Path]:
    """The file of each label's style, of a name it may have. Raises RequestError."""
    labels = sorted({reference.label for reference in found.references if reference.label is not None})
    if len(labels) < 2:
        have = f"all recordings are of {labels[0]!r}" if labels else "no recording has a label"
        raise RequestError(f"{have}: give two or more labels to tell apart")
    names = {label: name.replace(_LABEL, label) for label in labels}
    for each in names.values():
        _check_name(each)
    targets = {label: voice_path(voice) / STYLES / f"{each}.safetensors" for label, each in names.items()}
    _check_new(targets.values(), overwrite)
    return targets


def _check_new(targets: Iterable[Path], overwrite: bool) -> None:
    """Raise RequestError where a style of the voice would be replaced and nobody asked for that."""
    there = [path for path in targets if path.exists()]
    if there and not overwrite:
        raise OutputError(f"{there[0]} exists already: choose another name, or --overwrite it")


def _references(
    ravdess: Path | None,
    filelist: Path | None,
    folder: Path | None,
    emotions: tuple[str, ...],
    intensities: tuple[str, ...],
    actors: tuple[str, ...],
    speaker: str,
) -> "Found":
    from fte.style import references

    given = [option for option in (ravdess, filelist, folder) if option is not None]
    if len(given) != 1:
        raise RequestError("give recordings by one of --ravdess, --filelist and --folder")
    if ravdess is not None:
        return references.ravdess(
            ravdess, emotions=emotions, intensities=intensities, actors=actors, speaker=_speaker(speaker)
        )
    if emotions or intensities or actors:
        raise RequestError("--emotion, --intensity and --actor are for --ravdess: take --label instead")
    return (
        references.filelist(filelist)
        if filelist is not None
        else references.folder(given[0], speaker=_speaker(speaker))
    )


def _speaker(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _emotions(wanted: tuple[str, ...]) -> frozenset[str]:
    """The names of RAVDESS's emotions that numbers or names ask for. Raises RequestError for others."""
    from fte.style.references import EMOTIONS

    names = {EMOTIONS.get(int(w), w) if w.isascii() and w.isdigit() and len(w) < 10 else w.lower() for w in wanted}
    if unknown := sorted(names - set(EMOTIONS.values())):
        listed = ", ".join(f"{number} ({name})" for number, name in EMOTIONS.items())
        raise RequestError(f"emotion {unknown[0]!a} is unknown in RAVDESS: choose from {listed}")
    return frozenset(names)


def _target(out: Path | None, name: str, voice: str, overwrite: bool) -> Path:
    """The file of a new style, which can be written and may be named so. Raises RequestError."""
    if out is not None:
        _check_style_file(out)
        _check_name(name or out.stem)
        return out
    _check_name(name)
    folder = voice_path(voice) / STYLES
    target = folder / f"{name}.safetensors"
    check_place(folder, is_folder=True)
    _check_new([target], overwrite)
    return target


def _check_style_file(out: Path) -> None:
    if out.suffix.lower() != ".safetensors":
        raise RequestError(f"cannot write {out}: the name of a style file must end in .safetensors")
    check_place(out)


def _check_name(name: str) -> None:
    """Refuse a name that no style can have."""
    from fte.style.style import NAME_PATTERN

    if not re.fullmatch(NAME_PATTERN, name):
        raise RequestError(
            f"{name[:80]!a} cannot be the name of a style: give letters, digits, dots, dashes and underscores, at most "
            "64, with --name"
        )


def _check_spread(sigma: float, lam: float | None = None, frames: int | None = None) -> None:
    """Refuse numbers that no style can have."""
    from fte.constants import LIMITS
    from fte.style.style import MAX_LAM, MAX_SIGMA

    if not 0 <= sigma <= MAX_SIGMA:
        raise RequestError(f"sigma is {sigma}: give a number from 0 to {MAX_SIGMA:g}")
    if lam is not None and not 0 < lam <= MAX_LAM:
        raise RequestError(f"lambda is {lam}: give a number above 0 and at most {MAX_LAM:g}")
    if frames is not None and not 1 <= frames <= LIMITS.frames:
        raise RequestError(f"frames is {frames}: give a number from 1 to {LIMITS.frames}")


def _check_labels(found: "Found", label: str, emotions: frozenset[str]) -> None:
    """Refuse recordings of which none has the label that is asked for."""
    labels = {reference.label for reference in found.references}
    if (label and label not in labels) or (emotions and not emotions & labels):
        asked = label or ", ".join(sorted(emotions))
        known = ", ".join(sorted(each for each in labels if each is not None)) or "none"
        raise RequestError(f"no recording has the label {asked!r}: they have {known}")


def _aggregation(text: str) -> Any:
    if text not in ("time_and_batch", "batch"):
        raise RequestError(f"the aggregation {text!r} is unknown: give time_and_batch or batch")
    return text


def _report_skipped(skipped: "Sequence[Skipped]") -> None:
    """The reasons with their counts, and the first file of each."""
    reasons: dict[str, list[Path]] = {}
    for one in skipped:
        reasons.setdefault(one.reason, []).append(one.path)
    for reason, paths in reasons.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        say(f"left out {paths[0].name}{more}: {reason}", "yellow")


@app.command(cls=Command)
def mix(
    styles: Annotated[str, typer.Argument(metavar="MIX", help='Such as "happy:0.7,sad:0.3", names or files.')],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new style, .safetensors.")],
    voice: VoiceOption = "tiny",
) -> None:
    """Weigh styles into a new one; the weights are divided by their sum."""
    from fte.style.mixing import mix as mixed
    from fte.style.mixing import parse_mix
    from fte.style.style import save_style

    _check_style_file(out)
    _check_name(out.stem)
    bundle = Bundle.open(voice_path(voice))
    known = own_styles(voice_path(voice))
    parts = {}
    for name, weight in parse_mix(styles).items():
        path = known.get(name, Path(f"{name}.safetensors"))
        parts[find_style(str(path), voice_path(voice), bundle.voice_hash)] = weight
    save_style(out, mixed(parts, name=out.stem))
    say(f"wrote {out}")


@app.command(cls=Command)
def show(
    files: Annotated[list[Path], typer.Argument(metavar="STYLE...", help="Style files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what style files are."""
    from fte.style.style import load_style

    records = [_record(load_style(path)) | {"file": str(path), "bytes": path.stat().st_size} for path in files]
    if as_json:
        typer.echo(json.dumps(records))
        return
    for record in records:
        table = Table(show_header=False, box=None)
        for name, value in record.items():
            table.add_row(name, str(value) if not isinstance(value, list) else "\n".join(map(str, value)))
        out_console.print(table)


@app.command("list", cls=Command)
def list_styles(
    voice: VoiceArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Name the styles in a voice's folder `styles`."""
    from fte.style.style import load_style

    folder = voice_path(voice)
    bundle = Bundle.open(folder)
    found = {name: load_style(path, bundle.voice_hash) for name, path in own_styles(folder).items()}
    if as_json:
        typer.echo(json.dumps([{"style": name} | _record(style) for name, style in found.items()]))
        return
    for name, style in found.items():
        out_console.print(f"{name}: {style.aggregation}, {len(style.references)} references, {_whose(style)}")


def _record(style: "Style") -> dict[str, Any]:
    import numpy as np

    return {
        "name": style.name,
        "voice": style.voice_hash[:16],
        "speaker": _whose(style),
        "aggregation": style.aggregation,
        "channels": style.n_mels,
        "sigma": style.sigma,
        "lambda": style.lam,
        "length of the mean": round(float(np.linalg.norm(np.atleast_2d(style.mean).mean(axis=0))), 4),
        "spread over frames": round(float(style.spread.mean()), 4),
        "spread over utterances": round(float(style.utterance_spread.mean()), 4),
        "references": [f"{note.name} ({note.frames} frames, {note.label or 'no label'})" for note in style.references],
    }


def _whose(style: "Style") -> str:
    return "speakers taken out" if style.speaker is None else f"speaker {style.speaker}"


@app.command("map", cls=Command)
def draw(
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture (png, pdf, svg), or an interactive html.")],
    voice: VoiceOption = "tiny",
    ravdess: Annotated[Path | None, typer.Option(metavar="DIR", help="Recordings with RAVDESS names.")] = None,
    filelist: Annotated[Path | None, typer.Option(help="A file of lines path|text|speaker|label.")] = None,
    folder: Annotated[Path | None, typer.Option(metavar="DIR", help="Sounds, each with a .txt beside it.")] = None,
    method: Annotated[str, typer.Option(help="pca, lda, tsne or umap.")] = "pca",
    speaker: Annotated[str, typer.Option(help="The voice's speaker as whom the recordings are heard.")] = "0",
    keep_unaligned: Annotated[
        bool, typer.Option("--keep-unaligned", help="Keep recordings that do not seem to say their text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as one JSON document.")] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Draw recordings in the latent space, by emotion and speaker, before and after the speaker is taken out."""
    check_package("sklearn", "a map", "install flowtron-fte[style]")
    from fte.style.map import FORMATS, draw_map, latent_map
    from fte.style.means import utterance_means
    from fte.style.separation import METHODS

    if method not in METHODS:
        raise RequestError(f"the method {method!r} is unknown: choose one of {', '.join(METHODS)}")
    if out.suffix.lower() not in FORMATS:
        raise RequestError(f"cannot draw {out}: the name of a map must end in one of {', '.join(FORMATS)}")
    if method == "umap":
        check_package("umap", "--method umap", "install umap-learn, or choose another method")
    if out.suffix.lower() != ".html":
        check_package("matplotlib.figure", "a picture", "install flowtron-fte[style], or name a page ending in .html")
    check_place(out)
    check_machine(device, "auto", threads)
    found = _references(ravdess, filelist, folder, (), (), (), speaker)
    synthesizer = _load(voice, device, precision, threads)
    extraction = synthesizer.extractor.extract(found.references, keep_unaligned=keep_unaligned)
    _report_skipped([*found.skipped, *extraction.rejected])
    evidence = [e for e in extraction.evidence if e.label is not None]
    people = [e.reference.attributes.get("actor", str(e.speaker)) for e in evidence]
    names, labels = [e.name for e in evidence], [str(e.label) for e in evidence]
    if not evidence:
        raise RequestError("none of the recordings has a label and could be used: see the reasons above")
    drawn = latent_map(names, utterance_means(evidence), labels, people, method)
    draw_map(out, drawn)
    if as_json:
        typer.echo(json.dumps(drawn.record()))
        return
    table = Table(title=f"{len(evidence)} recordings")
    for heading in ("label", "probe", "nearest mean", "chance", "silhouette"):
        table.add_column(heading)
    for panel in drawn.panels:
        n = panel.numbers
        figures = (f"{n.probe_accuracy:.0%}", f"{n.centroid_accuracy:.0%}", f"{n.chance:.0%}", f"{n.silhouette:+.2f}")
        table.add_row(panel.title, *figures)
    out_console.print(table)


# --- speaking with styles ---

TextOption = Annotated[str, typer.Option(help="What to say.")]
FolderOption = Annotated[Path, typer.Option("--out", "-o", help="Folder of the wavs and the picture.")]


@app.command(cls=Command)
def interpolate(
    a: StyleArgument,
    b: StyleArgument,
    text: TextOption,
    out: FolderOption,
    voice: VoiceOption = "tiny",
    steps: Annotated[int, typer.Option(help="Wavs from A to B, both included.")] = 7,
    how: Annotated[str, typer.Option(help="linear or spherical.")] = "linear",
    speaker: Annotated[str, typer.Option(help="Name or id.")] = "0",
    sigma: Annotated[
        float | None, typer.Option(help="Standard deviation around the style; its own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same audio.")] = 0,
    max_frames: Annotated[int | None, typer.Option(help="Ceiling on the mel frames.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Speak a text on the way from one style to another: a wav a step, and one figure."""
    from fte.style import mixing

    if not 2 <= steps <= 100:
        raise RequestError(f"{steps} steps were asked for: give 2 to 100")
    if how not in ("linear", "spherical"):
        raise RequestError(f"the way {how!r} is unknown: give linear or spherical")
    _check_renditions(out, device, threads)
    path = voice_path(voice)
    first, second = (find_style(s, path, Bundle.open(path).voice_hash) for s in (a, b))
    _check_request(text, speaker, sigma, seed, max_frames)
    synthesizer = _load(voice, device, precision, threads)
    positions = [i / (steps - 1) for i in range(steps)]
    styles = [mixing.interpolate(first, second, t, how) for t in positions]  # type: ignore[arg-type]
    options = {"speaker": speaker, "seed": seed, "max_frames": max_frames}
    spoken = (
        (f"{t:.2f}", text, options | {"style": style, "sigma": style.sigma if sigma is None else sigma})
        for t, style in zip(positions, styles, strict=True)
    )
    _speak_all(synthesizer, spoken, out, f"{first.name} to {second.name}: {text}")


@app.command(cls=Command)
def vary(
    style: StyleArgument,
    text: TextOption,
    out: FolderOption,
    voice: VoiceOption = "tiny",
    tail: Annotated[float, typer.Option(help="Radius in units of the style's spread between utterances.")] = 2.0,
    count: Annotated[int, typer.Option(help="Renditions.")] = 8,
    speaker: Annotated[str, typer.Option(help="Name or id.")] = "0",
    sigma: Annotated[
        float | None, typer.Option(help="Standard deviation around the style; its own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same audio.")] = 0,
    max_frames: Annotated[int | None, typer.Option(help="Ceiling on the mel frames.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Speak a text in renditions drawn from the tails of a style."""
    if not 1 <= count <= 100:
        raise RequestError(f"{count} renditions were asked for: give 1 to 100")
    _check_renditions(out, device, threads)
    path = voice_path(voice)
    found = find_style(style, path, Bundle.open(path).voice_hash)
    _check_request(text, speaker, sigma, seed, max_frames, style=found, tail=tail)
    synthesizer = _load(voice, device, precision, threads)
    options = {"speaker": speaker, "seed": seed, "max_frames": max_frames, "style": found, "tail": tail}
    options["sigma"] = found.sigma if sigma is None else sigma
    spoken = ((f"{i:02d}", text, options | {"request": i}) for i in range(count))
    _speak_all(synthesizer, spoken, out, f"{found.name}, radius {tail:g}: {text}")


def _load(voice: str, device: str, precision: str, threads: int | None) -> "Synthesizer":
    from fte.synthesizer import Synthesizer

    path = voice_path(voice)
    check_precision(Bundle.open(path), precision)
    return Synthesizer.load(path, device, precision, threads)


def _check_renditions(out: Path, device: str, threads: int | None) -> None:
    """Refuse what could not be written or drawn, before a voice is loaded."""
    check_place(out, is_folder=True)
    check_package("matplotlib.figure", "the picture of the renditions", "install flowtron-fte[plot]")
    check_machine(device, "auto", threads)


def _check_request(
    text: str, speaker: str, sigma: float | None, seed: int, max_frames: int | None, **of_the_style: Any
) -> None:
    """Refuse numbers out of range, before a voice is loaded."""
    from fte.speech import PRIOR_SIGMA, Request

    spread = PRIOR_SIGMA if sigma is None else sigma
    Request(text, speaker, spread, seed=seed, max_frames=max_frames, **of_the_style).check()


def _speak_all(
    synthesizer: "Synthesizer", spoken: Iterator[tuple[str, str, dict[str, Any]]], out: Path, title: str
) -> None:
    """Speak, write NAME.wav for each, and one figure of all."""
    from fte.sound import write_sound
    from fte.style.figure import Rendition, draw_renditions

    renditions = []
    for name, text, options in spoken:
        speech = synthesizer.synthesize(text, **options)
        make_folder(out)
        write_sound(out / f"{name}.wav", speech.samples, speech.sample_rate)
        renditions.append(Rendition(name, speech.mel, speech.samples))
        say(f"{out / name}.wav: {speech.seconds:.2f} s")
    draw_renditions(out / "renditions.png", renditions, synthesizer.sample_rate, title)
    say(f"{out / 'renditions.png'}: all of them in one picture")
