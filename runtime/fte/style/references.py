"""Recordings to learn styles from: data sets named as RAVDESS is, lists of files, folders of sounds with transcripts.

Nothing here opens a sound; that is `fte.style.posterior`'s part. Whatever a folder has that is not taken is reported
with the reason. Links to files are followed, since caches of data sets consist of them, and links to folders are not.
"""

import codecs
import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fte.constants import LIMITS
from fte.errors import InputError, RequestError

MAX_REFERENCES = 10_000
"""Recordings in one collection."""
MAX_ENTRIES = 100_000
"""Files and folders looked at in one folder and all below it."""
MAX_DEPTH = 8
"""Folders within folders that are looked into."""
MAX_LIST_BYTES = 16 << 20
"""Size of a list of files."""
MAX_LINE_CHARACTERS = LIMITS.text_characters + 5_000
"""Length of a line of such a list: a text, a path, a speaker and a label."""
MAX_NAME_CHARACTERS = 255
"""Length of a file's name, a speaker's name and a label."""

_SOUNDS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
_MAX_SPEAKER_DIGITS = 9
_FAULTS_SHOWN = 20
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Reference:
    """A recording, what is said in it, and as whom the voice is to hear it."""

    path: Path
    text: str
    speaker: int | str
    """Id or name among the voice's speakers, who need not include the one who speaks in the recording."""
    label: str | None = None
    """What it was recorded as, such as an emotion."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it, by name, such as actor and intensity."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not used."""

    path: Path
    reason: str
    """Alike for files that a folder's filters leave out for the same reason, so that they can be counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """Recordings found."""

    references: tuple[Reference, ...]
    """In the order of their paths, or of the list's lines."""
    skipped: tuple[Skipped, ...]


# RAVDESS: Livingstone and Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE 2018.
# Seven numbers of two digits: modality-channel-emotion-intensity-statement-repetition-actor.

EMOTIONS = {1: "neutral", 2: "calm", 3: "happy", 4: "sad", 5: "angry", 6: "fearful", 7: "disgust", 8: "surprised"}
INTENSITIES = {1: "normal", 2: "strong"}
STATEMENTS = {1: "Kids are talking by the door.", 2: "Dogs are sitting by the door."}
REPETITIONS = {1: "1", 2: "2"}
MAX_ACTOR = 24

_RAVDESS_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)", re.ASCII)
_AUDIO_ONLY, _SPEECH = 3, 1


def ravdess(
    folder: Path | str,
    *,
    emotions: Collection[int | str] = (),
    intensities: Collection[int | str] = (),
    actors: Collection[int | str] = (),
    statements: Collection[int | str] = (),
    speaker: int | str | Mapping[int, int | str] = 0,
) -> Found:
    """The spoken recordings of a folder, and of those in it, that are named as RAVDESS names them.

    Each filter takes numbers, also as text, or the names of EMOTIONS and INTENSITIES; an empty one lets all pass.
    speaker: that of the voice for all recordings, as in the public notebook, or one for each actor's number.
    The emotion is the label; `attributes` has emotion, intensity, statement, repetition, actor and sex.
    Raises RequestError for a folder that cannot be read, is too large or has no such recording, and unknown filters.
    """
    wanted = {
        "emotion": _numbers(emotions, "emotion", EMOTIONS),
        "intensity": _numbers(intensities, "intensity", INTENSITIES),
        "statement": _numbers(statements, "statement", STATEMENTS),
        "actor": _numbers(actors, "actor", {n: f"{n:02}" for n in range(1, MAX_ACTOR + 1)}),
    }
    files, skipped = _walk(Path(folder))
    references: list[Reference] = []
    names: set[str] = set()
    for path in files:
        try:
            reference = _ravdess_reference(path, wanted, speaker)
            if path.name in names:  # archives of RAVDESS go about that hold everything twice
                raise _UnusableError("a file of the same name was found before it")
        except _UnusableError as error:
            skipped.append(Skipped(path, str(error)))
        else:
            names.add(path.name)
            references.append(reference)
    return _found(folder, references, skipped)


def _ravdess_reference(
    path: Path, wanted: Mapping[str, Collection[int]], speaker: int | str | Mapping[int, int | str]
) -> Reference:
    """The recording that a name says it is. Raises _UnusableError for other names and what is not wanted."""
    match = _RAVDESS_NAME.fullmatch(path.stem)
    if match is None or path.suffix.lower() not in _SOUNDS | {".mp4"}:
        raise _UnusableError("its name is not that of a RAVDESS recording")
    modality, channel, emotion, intensity, statement, repetition, actor = map(int, match.groups())
    if modality != _AUDIO_ONLY or path.suffix.lower() == ".mp4":
        raise _UnusableError("it is video, and sound alone is taken")
    if channel != _SPEECH:
        raise _UnusableError("it is sung, and speech alone is taken")
    if not (emotion in EMOTIONS and intensity in INTENSITIES and statement in STATEMENTS and repetition in REPETITIONS):
        raise _UnusableError("its name has numbers that RAVDESS does not use")
    if not 1 <= actor <= MAX_ACTOR:
        raise _UnusableError(f"its name has an actor outside 01 to {MAX_ACTOR}")
    numbers = {"emotion": emotion, "intensity": intensity, "statement": statement, "actor": actor}
    for kind, allowed in wanted.items():
        if allowed and numbers[kind] not in allowed:
            raise _UnusableError(f"another {kind} was asked for")
    if isinstance(speaker, Mapping):
        if actor not in speaker:
            raise _UnusableError(f"no speaker was given for actor {actor:02}")
        speaker = speaker[actor]
    attributes = {
        "emotion": EMOTIONS[emotion],
        "intensity": INTENSITIES[intensity],
        "statement": f"{statement:02}",
        "repetition": REPETITIONS[repetition],
        "actor": f"{actor:02}",
        "sex": "male" if actor % 2 else "female",
    }
    return Reference(path, STATEMENTS[statement], speaker, EMOTIONS[emotion], attributes)


def _numbers(asked: Collection[int | str], kind: str, names: Mapping[int, str]) -> frozenset[int]:
    """What a filter asks for, as numbers. Raises RequestError that lists what there is."""
    if isinstance(asked, str):  # a collection too, but of its letters
        asked = [asked]
    by_name = {name: number for number, name in names.items()}
    found: set[int] = set()
    for value in asked:
        text = str(value).strip().lower()
        digits = text.isascii() and text.isdigit() and len(text) <= _MAX_SPEAKER_DIGITS
        number = int(text) if digits else by_name.get(text)
        if number is None or number not in names:
            listed = ", ".join(f"{number} ({name})" if kind != "actor" else name for number, name in names.items())
            raise RequestError(f"{kind} {_shown(text)} is unknown in RAVDESS: choose from {listed}")
        found.add(number)
    return frozenset(found)


# A list of files


def filelist(path: Path | str) -> Found:
    """The recordings of a text file (UTF-8) with lines ``path|text|speaker`` or ``path|text|speaker|label``.

    The public implementation's form, with one more column. Paths are relative to the list's folder; a speaker in
    digits is an id, anything else a name. Empty lines do not count. Files that are not there are skipped.
    Raises RequestError for a list that cannot be read, is too long or has no usable line, and for lines that do not
    have this form, which are all named.
    """
    path = Path(path)
    references: list[Reference] = []
    skipped: list[Skipped] = []
    faults: list[str] = []
    for number, line in enumerate(_read_text(path, MAX_LIST_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        try:
            reference = _listed_reference(line, path.parent)
        except _UnusableError as error:
            faults.append(f"line {number}: {error}")
            continue
        if reason := _file_fault(reference.path):
            skipped.append(Skipped(reference.path, reason))
        else:
            references.append(reference)
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        listed = "; ".join([*faults[:_FAULTS_SHOWN], *([f"and {more} more"] if more > 0 else [])])
        raise InputError(f"{path} is no list of recordings as path|text|speaker or path|text|speaker|label: {listed}")
    return _found(path, references, skipped)


def _listed_reference(line: str, folder: Path) -> Reference:
    """The recording of a line. Raises _UnusableError."""
    if len(line) > MAX_LINE_CHARACTERS:
        raise _UnusableError(f"it has {len(line)} characters, more than the limit of {MAX_LINE_CHARACTERS}")
    columns = [column.strip() for column in line.split("|")]
    if len(columns) not in (3, 4):
        raise _UnusableError(f"it has {len(columns)} columns, not 3 or 4")
    name, text, speaker, label = [*columns, ""][:4]
    for what, value in (("path", name), ("speaker", speaker), ("text", text)):
        if not value:
            raise _UnusableError(f"its {what} is empty")
    if len(text) > LIMITS.text_characters:
        raise _UnusableError(f"its text has {len(text)} characters, more than the limit of {LIMITS.text_characters}")
    for what, value in (("path", Path(name).name), ("speaker", speaker), ("label", label)):
        if fault := _name_fault(value):
            raise _UnusableError(f"its {what} {fault}")
    if _UNSHOWABLE.search(name):
        raise _UnusableError("its path has characters that cannot be shown")
    return Reference(folder / name, text, _speaker(speaker), label or None)


def _speaker(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_SPEAKER_DIGITS else text


# Folders of sounds with transcripts


def folder(path: Path | str, *, speaker: int | str = 0) -> Found:
    """The sounds of a folder, and of those in it, beside each of which lies a transcript: NAME.wav and NAME.txt.

    speaker: that of the voice for all recordings. The label is the name of the folder within ``path`` that the files
    lie in, as ``happy`` for happy/01.wav, and none for those in ``path`` itself.
    Raises RequestError for a folder that cannot be read, is too large or has no such pair.
    """
    top = Path(path)
    files, skipped = _walk(top)
    transcripts = {file.with_suffix(""): file for file in files if file.suffix.lower() == ".txt"}
    spoken: set[Path] = set()
    references: list[Reference] = []
    for file in files:
        if file.suffix.lower() == ".txt":
            continue
        try:
            references.append(_paired_reference(file, top, transcripts, spoken, speaker))
        except (_UnusableError, RequestError) as error:
            skipped.append(Skipped(file, str(error)))
    silent = (text for stem, text in transcripts.items() if stem not in spoken)
    skipped += [Skipped(text, "it is a transcript without a sound beside it") for text in silent]
    return _found(top, references, skipped)


def _paired_reference(
    file: Path, top: Path, transcripts: Mapping[Path, Path], spoken: set[Path], speaker: int | str
) -> Reference:
    """The recording of a sound with a transcript, noted in ``spoken``. Raises _UnusableError or RequestError."""
    if file.suffix.lower() not in _SOUNDS:
        raise _UnusableError("it is neither a sound nor a transcript")
    stem = file.with_suffix("")
    if stem not in transcripts:
        raise _UnusableError("it has no transcript: write what is said into a file of the same name ending in .txt")
    if stem in spoken:
        raise _UnusableError("another sound has the same transcript")
    spoken.add(stem)
    text = " ".join(_read_text(transcripts[stem], 4 * LIMITS.text_characters).split())
    if not text:
        raise _UnusableError("its transcript is empty")
    label = file.parent.name if file.parent != top else None
    return Reference(file, text, speaker, label)


# Files, of which nothing is known


class _UnusableError(ValueError):
    """Why a file or a line is not used."""


def _walk(top: Path) -> tuple[list[Path], list[Skipped]]:
    """The plain files in a folder and all below it, by path, and what else is there.

    Raises RequestError for a folder that cannot be read or has more than MAX_ENTRIES entries.
    """
    try:
        waiting = [(path, 1) for path in _entries(top)]
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise InputError(f"cannot read the folder {_shown(str(top))}: {_why(error)}") from error
    files: list[Path] = []
    skipped: list[Skipped] = []
    seen = 0
    while waiting:
        path, depth = waiting.pop()
        seen += 1
        if seen + len(waiting) > MAX_ENTRIES:
            raise InputError(f"{top} has more than {MAX_ENTRIES} files and folders: give a smaller folder")
        if reason := _entry_fault(path, depth):
            skipped.append(Skipped(path, reason))
        elif path.is_dir():
            try:
                waiting += [(inner, depth + 1) for inner in _entries(path)]
            except OSError as error:
                skipped.append(Skipped(path, f"the folder cannot be read: {_why(error)}"))
        else:
            files.append(path)
    return sorted(files), skipped


def _entries(path: Path) -> list[Path]:
    """What lies in a folder, of which no more is listed than makes it too large."""
    with os.scandir(path) as entries:
        return [Path(entry) for entry in itertools.islice(entries, MAX_ENTRIES + 1)]


def _entry_fault(path: Path, depth: int) -> str:
    """Why an entry of a folder is not looked at, or nothing."""
    if fault := _name_fault(path.name):
        return f"its name {fault}"
    if not path.is_dir():
        return _file_fault(path)
    if path.is_symlink():
        return "it is a link to a folder"
    return f"it lies more than {MAX_DEPTH} folders deep" if depth > MAX_DEPTH else ""


def _file_fault(path: Path) -> str:
    """Why a path is not one of a plain file, or nothing."""
    try:
        if path.is_file():
            return ""
        if not path.exists():
            return "it is a link that leads nowhere" if path.is_symlink() else "there is no such file"
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        return f"it cannot be read: {_why(error)}"
    return "it is a folder" if path.is_dir() else "it is a device or a pipe"


def _name_fault(name: str) -> str:
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has {len(name)} characters, more than the limit of {MAX_NAME_CHARACTERS}"
    return "has characters that cannot be shown" if _UNSHOWABLE.search(name) else ""


def _read_text(path: Path, most: int) -> str:
    """A file's text. Raises RequestError when it cannot be read, has more than ``most`` bytes or is no UTF-8."""
    shown = _shown(str(path))
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe can wait for ever
            raise InputError(f"cannot read {shown}: it is a device or a pipe, not a file")
        with path.open("rb") as handle:
            data = handle.read(most + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {shown}: {_why(error)}") from error
    if len(data) > most:
        raise InputError(f"{shown} has more than the limit of {most} bytes")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{shown} is not text in UTF-8 (at byte {error.start}): save it in that encoding") from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _shown(text: str) -> str:
    """A text of unknown content as any terminal can show it."""
    return ascii(text)[:80] if _UNSHOWABLE.search(text) or len(text) > MAX_NAME_CHARACTERS else text


def _found(where: Path | str, references: Sequence[Reference], skipped: Sequence[Skipped]) -> Found:
    """The collection. Raises RequestError when it is empty, with what stood in the way, or too large."""
    if not references:
        raise InputError(f"{where} has no recordings to use{''.join(_reasons(skipped))}")
    if len(references) > MAX_REFERENCES:
        raise InputError(
            f"{where} has {len(references)} recordings, more than the limit of {MAX_REFERENCES}: take fewer at once"
        )
    return Found(tuple(references), tuple(skipped))


def _reasons(skipped: Sequence[Skipped]) -> Iterator[str]:
    """The three most frequent reasons, each with its number of files."""
    counts = Counter(s.reason for s in skipped).most_common(3)
    yield from (f"{': ' if not i else '; '}{n} skipped because {reason}" for i, (reason, n) in enumerate(counts))
