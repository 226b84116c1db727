"""Text front end: cleaning, pronunciation, and the symbol ids the published models were trained on."""

from fte.text.cleaning import clean
from fte.text.frontend import TextFrontend
from fte.text.symbols import SYMBOLS, symbols_of

__all__ = ["SYMBOLS", "TextFrontend", "clean", "symbols_of"]
