"""Text front end: cleaning, pronunciation, and the symbol ids the published models were trained on."""

from fte.text.cleaning import clean
from fte.text.frontend import Stages, TextFrontend, Transcript, Word
from fte.text.lexicon import read_lexicon
from fte.text.symbols import SYMBOLS, symbols_of

__all__ = ["SYMBOLS", "Stages", "TextFrontend", "Transcript", "Word", "clean", "read_lexicon", "symbols_of"]
