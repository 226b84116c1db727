"""A voice's own styles: the files in the folder `styles` of its bundle, which go by name wherever a style does."""

from pathlib import Path
from typing import TYPE_CHECKING

from fte.errors import RequestError

if TYPE_CHECKING:
    from fte.style.style import Style

STYLES = "styles"
"""Folder of a voice's own styles within its bundle."""


def find_style(text: str | Path, bundle_path: Path, voice_hash: str) -> "Style":
    """The style that ``text`` names: a .safetensors file, or a mix such as "happy:0.7,sad:0.3" of the voice's own.

    Raises RequestError for names there are not, and files that are no style of this voice.
    """
    from fte.style.mixing import mix, parse_mix
    from fte.style.style import load_style

    if isinstance(text, Path) or text.lower().endswith(".safetensors"):
        return load_style(text, voice_hash)
    known = own_styles(bundle_path)
    weights = parse_mix(text)
    if missing := [name for name in weights if name not in known]:
        listed = ", ".join(known) or "none"
        raise RequestError(f"this voice has no style {missing[0]!r} in its folder {STYLES} (it has {listed})")
    styles = {load_style(known[name], voice_hash): weight for name, weight in weights.items()}
    return next(iter(styles)) if len(styles) == 1 else mix(styles)


def own_styles(bundle_path: Path) -> dict[str, Path]:
    """The files in a bundle's folder of styles, by name."""
    return {path.stem: path for path in sorted((bundle_path / STYLES).glob("*.safetensors"))}
