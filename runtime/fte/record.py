"""What is written down about a speech: the sidecar of `fte synth --json` and the journal of a long text."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np

import fte
from fte.speech import Request, SpokenSpan
from fte.style.ramps import Ramp
from fte.synthesizer import Synthesizer


def request_record(voice: Synthesizer, request: Request) -> dict[str, Any]:
    """Everything that a speech depends on: with the same record, the same samples come out on the same machine."""
    request = voice.resolved(request)
    options = asdict(replace(request, style=None, rhythm=None)) | {"style": _style(request), "rhythm": _rhythm(request)}
    text = options.pop("text")
    return {
        "fte": fte.__version__,
        "voice": {"name": voice.manifest.name, "hash": voice.bundle.voice_hash},
        "precision": voice.precision,
        "backend": voice.backend.description,
        "text_sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        "pronunciation": _pronunciation(voice),
        "options": options,
    }


def _style(request: Request) -> dict[str, Any] | None:
    """The names of a style or of a ramp's styles, and a hash of all they say."""
    if request.style is None:
        return None
    ramp = [(knot.position, knot.shift) for knot in request.style.knots] if isinstance(request.style, Ramp) else []
    content = hashlib.sha256(repr(ramp).encode())
    for style in request.styles:
        for array in (style.mean, style.utterance_spread):
            content.update(np.ascontiguousarray(array).tobytes())
    return {"names": [style.name for style in request.styles], "sha256": content.hexdigest()}


def _rhythm(request: Request) -> str | None:
    if request.rhythm is None:
        return None
    return hashlib.sha256(b"".join(np.ascontiguousarray(weights).tobytes() for weights in request.rhythm)).hexdigest()


def _pronunciation(voice: Synthesizer) -> dict[str, Any]:
    frontend = voice.frontend
    lexicon = json.dumps(sorted(frontend.lexicon.items())).encode()
    return {
        "arpabet": frontend.arpabet,
        "keep_ambiguous": frontend.keep_ambiguous,
        "guess_unknown": frontend.guess_unknown,
        "lexicon_sha256": hashlib.sha256(lexicon).hexdigest() if frontend.lexicon else None,
    }


def span_record(span: SpokenSpan) -> dict[str, Any]:
    """One utterance: its place, its verdict and the attempts at it."""
    return {
        "text": span.text,
        "span": span.index,
        "start": round(span.start_frame * span.frame_seconds, 6),
        "end": round((span.start_frame + len(span.decoded.mel)) * span.frame_seconds, 6),
        "ended": span.decoded.ended,
        "verdict": span.health.verdict,
        "faults": [fault.message for fault in span.health.faults],
        "attempts": [asdict(attempt) for attempt in span.attempts],
        "spoken_attempt": span.spoken_attempt,
    }


def speech_record(
    voice: Synthesizer, request: Request, spans: list[dict[str, Any]], sound: dict[str, Any]
) -> dict[str, Any]:
    """The whole sidecar: what was asked, what was spoken, and what the sound file is."""
    return {**request_record(voice, request), "sound": sound, "spans": spans}
