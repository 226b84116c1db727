"""The table of what is read how: data/text_table.tsv, by category, each with the source of its conventions."""

import re
from pathlib import Path

import pytest

from fte.text import clean
from fte.text.cleaning import BRACED

OF_THE_WHOLE_TEXT = (
    *("She is 6 ft.", "apples, etc.", "Acme Inc.", "12 Main St.", "in the U.S.", "44 A.D."),
    "WHERE IT IS NOW",
)
TABLE = Path(__file__).parent / "data" / "text_table.tsv"


def read_table() -> dict[str, list[tuple[str, str]]]:
    """Category and source -> its cases, what is written and what is read aloud."""
    table: dict[str, list[tuple[str, str]]] = {}
    cases: list[tuple[str, str]] = []
    for line in TABLE.read_text("utf-8").splitlines():
        written, tab, read = line.partition("\t")
        if tab:
            cases.append((written, read))
        elif line:
            cases = table.setdefault(line.removeprefix("# "), [])
    return table


CASES = read_table()
ALL = [pytest.param(*case, id=case[0]) for cases in CASES.values() for case in cases]


@pytest.mark.parametrize(("written", "read"), ALL)
def test_a_text_is_read(written, read):
    assert clean(written) == read


@pytest.mark.parametrize(("written", "read"), ALL)
def test_in_the_middle_of_a_sentence_it_is_read_alike(written, read):
    """What looks at the end of the text, or beyond its own words, shows here."""
    if written in OF_THE_WHOLE_TEXT:
        pytest.skip("its last stop ends the text, or the whole text is in capitals")
    assert clean(f"so {written} {{AH}}") == f"so {read} {{AH}}"


@pytest.mark.parametrize(("written", "read"), ALL)
def test_nothing_is_left_for_the_model_to_guess(written, read):
    """After cleaning there are neither digits nor signs that are spoken."""
    words = "".join(BRACED.split(clean(written))[::2])
    assert not set(words) & set("0123456789%$€₩½°©#+*@")


def test_the_table_is_as_large_as_promised():
    assert sum(map(len, CASES.values())) >= 220
    assert all(": " in category for category in CASES), "a category lacks its source"


@pytest.mark.parametrize(("written", "read"), ALL)
def test_what_is_read_is_ordinary_text(written, read):
    """Reading it again changes nothing but the hyphens of numbers."""
    assert clean(read).replace("-", " ") == read.replace("-", " ")


PAGE = Path(__file__).parents[1] / "docs" / "text.md"


@pytest.mark.parametrize(
    ("written", "read"), re.findall(r"^\|[^|]*\| `(.*)` \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
)
def test_the_examples_of_the_page_are_read_as_it_says(written, read):
    assert clean(written) == read
