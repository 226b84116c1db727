"""Text becomes the symbol ids on which the published voices were trained, and what cannot be read is refused."""

import json
import sys
import time
from pathlib import Path

import pytest

from fte.constants import LIMITS
from fte.errors import RequestError
from fte.text import SYMBOLS, TextFrontend, clean, symbols_of
from fte.text.cleaning import RULES
from fte.text.numbers import cardinal, formal, ordinal, year
from fte.text.pronunciation import HETERONYMS_FILE, pronunciations

GOLDEN = json.loads((Path(__file__).parent / "data" / "golden" / "text_frontend.json").read_text("utf-8"))
CASES = GOLDEN["cases"]

# Golden texts that the reference misreads; what we give instead stands in READ_RIGHT, by the front end's defaults.
MISREAD = {
    "Turn left on {HH AW1 S S T AH0 N} Street.": "it spells out the ARPAbet in braces",
    "Mrs. O'Leary's cow (#7) isn't here -- it's 9:45 p.m.": 'it leaves "p.m." and "#" as they are',
    "It costs £1,200.05 or $1.": 'it says "pounds.five", a price of 1,200 as a year, and parts a stop from its word',
    "Well-known co-operation at 50% of 1,000,000 km.": "it leaves the percent sign, which no voice heard in training",
    "café naïve résumé €5": "it leaves the euro sign, and drops a letter that is not among the symbols",
    "...": "it makes symbols of a text that has nothing to say",
}
READ_RIGHT = [
    (
        "Turn left on {HH AW1 S S T AH0 N} Street.",
        "{T ER1 N} {L EH1 F T} on {HH AW1 S S T AH0 N} {S T R IY1 T}.",
    ),
    (
        "Mrs. O'Leary's cow (#7) isn't here -- it's 9:45 p.m.",
        "{M IH1 S IH0 Z}. {OW0 L IH1 R IY0 Z} {K AW1} (number {S EH1 V AH0 N}) isn't {HH IY1 R} -- "
        "it's {N AY1 N} {F AO1 R T IY0} {F AY1 V} {P IY1 EH1 M}.",
    ),
    (
        "It costs £1,200.05 or $1.",
        "It costs one thousand, {T UW1} hundred pounds, {F AY1 V} {P EH1 N S} or one dollar.",
    ),
    (
        "Well-known co-operation at 50% of 1,000,000 km.",
        "{W EH1 L} {N OW1 N} {K OW1} {AA2 P ER0 EY1 SH AH0 N} {AE1 T} {F IH1 F T IY0} {P ER0 S EH1 N T} of one "
        "{M IH1 L Y AH0 N} km.",
    ),
    ("café naïve résumé €5", "café {N AY2 IY1 V} résumé {F AY1 V} {Y UW1 R OW2 Z}"),
]
TRUSTED = [case for case in CASES if case["text"] not in MISREAD]


def name(case: dict) -> str:
    return f"{case['text'][:30]}{'-first' if case['keep_ambiguous'] else ''}"


def test_symbols_are_those_of_the_published_models():
    assert list(SYMBOLS) == GOLDEN["symbols"]


def test_every_misread_text_is_a_golden_one():
    assert set(MISREAD) <= {case["text"] for case in CASES}


@pytest.mark.parametrize("case", TRUSTED, ids=name)
def test_cleaned_text_is_the_references(case):
    assert clean(case["text"]) == case["cleaned"]


@pytest.mark.parametrize("case", TRUSTED, ids=name)
def test_transcription_is_the_references(case):
    assert TextFrontend(keep_ambiguous=case["keep_ambiguous"]).transcribe(case["text"]) == case["arpabet"]


@pytest.mark.parametrize("case", TRUSTED, ids=name)
def test_ids_are_the_references(case):
    assert TextFrontend(keep_ambiguous=case["keep_ambiguous"]).ids(case["text"]) == case["ids_arpabet"]


@pytest.mark.parametrize("case", TRUSTED, ids=name)
def test_ids_of_letters_are_the_references(case):
    assert TextFrontend(arpabet=False).ids(case["text"]) == case["ids_graphemes"]


@pytest.mark.parametrize(("text", "expected"), READ_RIGHT)
def test_texts_the_reference_misreads_are_read_right(text, expected):
    assert TextFrontend().transcribe(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # numbers
        ("1,234 apples", "one thousand two hundred thirty four apples"),
        ("in 1066, 1905, 2001 and 2024", "in ten sixty six, nineteen oh five, two thousand one and twenty twenty four"),
        ("3.14", "three point one four"),
        ("10.05", "ten point zero five"),
        (".5", "zero point five"),
        ("-5 degrees", "minus five degrees"),
        ("007", "zero zero seven"),
        ("1.2.3", "one point two point three"),
        ("1234.5", "one thousand two hundred thirty four point five"),
        ("1, 2, 3", "one, two, three"),
        ("the 22nd", "the twenty-second"),
        ("the 1990s", "the nineteen nineties"),
        ("the '60s", "the sixties"),
        ("5km", "five km"),
        ("9" * 30, " ".join(["nine"] * 30)),
        # money
        ("$1", "one dollar"),
        ("$0.50.", "fifty cents."),
        ("£1.01", "one pound, one penny"),
        ("$1.5 million", "one point five million dollars"),
        ("$3bn", "three billion dollars"),
        ("5 €", "five euros"),
        ("$5-10", "five to ten dollars"),
        # signs
        ("5.5 %", "five point five percent"),
        ("20°C", "twenty degrees Celsius"),
        ("salt & pepper", "salt and pepper"),
        ("#7", "number seven"),
        # times
        ("9:00", "nine o'clock"),
        ("9:05", "nine oh five"),
        ("9:00 p.m. sharp", "nine {P IY1 EH1 M} sharp"),
        ("9 am", "nine {EY1} {EH1 M}"),
        ("9am-5pm", "nine {EY1} {EH1 M} to five {P IY1 EH1 M}"),
        # ranges
        ("pages 5-10", "pages five to ten"),
        ("1990–95", "nineteen ninety to ninety five"),
        ("5%-10%", "five percent to ten percent"),
        ("555-1234", "five hundred fifty five twelve thirty four"),
        ("won 3-2", "won three two"),
        # abbreviations: the voices learned the titles as they are written
        ("Mr. and Mrs. No", "Mr. and Mrs. No"),
        ("No. 5", "number five"),
        ("e.g. cats vs. dogs", "for example cats versus dogs"),
        # capitals
        ("the U.S. Army", "the {Y UW1} {EH1 S} Army"),
        ("in the U.S.", "in the {Y UW1} {EH1 S}."),
        ("GPUs", "{JH IY1} {P IY1} {Y UW1 Z}"),
        ("THE END", "the {EH1 N D}"),
        ("WHERE IT IS NOW", "where it is {N AW1}"),
        ("US", "{Y UW1} {EH1 S}"),
        ("DON'T", "don't"),
        # characters
        ("“dog’s” — a…b", '"dog\'s" — a...b'),
        ("a\u00a0b\u200b\tc", "a b c"),
        ("Ångström Æsir ﬁ", "Angström AEsir fi"),
        ("e\u0301te\u0301", "été"),
        ("hi 😀 日本 there", "hi there"),
        ("a|b", "a b"),
    ],
)
def test_cleaning(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{HH AW1 S}", "{HH AW1 S}"),
        ("{HH AW1 S}, 5", "{HH AW1 S}, five"),
        ("5 {HH AW1 S}s", "five {HH AW1 S}s"),
        ('"{HH AW1 S}"-{K AE1 T}!', '"{HH AW1 S}"-{K AE1 T}!'),
        ("{HH AW1 S}{K AE1 T}", "{HH AW1 S}{K AE1 T}"),
        ("$5 {AH} 1990-95", "five dollars {AH} nineteen ninety to ninety five"),
    ],
)
def test_arpabet_in_braces_passes_through_cleaning(text, expected):
    assert clean(text) == expected


def test_arpabet_in_braces_becomes_its_symbols():
    assert symbols_of(TextFrontend().ids("a{HH AW1 S}, {AH}")) == ["a", "@HH", "@AW1", "@S", ",", " ", "@AH"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("house", "house"),  # a heteronym
        ("House's", "House's"),
        ("streets?", "{S T R IY1 T S}?"),
        ('("Streets")', '("{S T R IY1 T S}")'),
        ("John's", "{JH AA1 N Z}"),
        ("that's", "{DH AE1 T S}"),  # "that" has two pronunciations, "that's" one
        ("what's", "what's"),
        ("kids'", "{K IH1 D Z}'"),
        ("o'clock", "{AH0 K L AA1 K}"),
        ("cat/dog", "cat/dog"),
        ("the", "the"),
    ],
)
def test_a_word_is_looked_up_without_the_punctuation_around_it(word, expected):
    assert TextFrontend().transcribe(word) == expected


def test_keep_ambiguous_takes_the_first_pronunciation():
    assert TextFrontend(keep_ambiguous=True).transcribe("the read") == "{DH AH0} read"


def test_without_arpabet_words_stay_letters():
    assert TextFrontend(arpabet=False).transcribe("streets") == "streets"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("...", "nothing in '...' can be pronounced"),
        ("日本", "can be pronounced"),
        ("{HH AW9 S}", "'AW9'"),
        ("{hh aw1 s}", "'hh'"),
        ("{}", "empty"),
        ("{HH AW1 S", "no partner"),
        ("HH AW1 S}", "no partner"),
        ("{HH {AW1} S}", "no partner"),
        ("a" * (LIMITS.text_characters + 1), str(LIMITS.text_characters)),
        ("xq " * LIMITS.symbols, str(LIMITS.symbols)),
    ],
)
def test_what_cannot_be_read_is_refused(text, message):
    with pytest.raises(RequestError, match=message):
        TextFrontend().ids(text)


def test_braces_of_other_scripts_are_not_braces():
    assert symbols_of(TextFrontend(arpabet=False).ids("｛xq｝")) == ["x", "q"]


def test_symbols_of_refuses_an_id_outside_the_table():
    with pytest.raises(RequestError, match="185"):
        symbols_of([len(SYMBOLS)])


@pytest.mark.parametrize(
    ("read", "number", "expected"),
    [
        (cardinal, 0, "zero"),
        (cardinal, 12_345, "twelve thousand three hundred forty five"),
        (cardinal, 1_000_005, "one million five"),
        (formal, 12_345, "twelve thousand, three hundred and forty-five"),
        (formal, 1_000_005, "one million and five"),
        (ordinal, 12, "twelfth"),
        (ordinal, 30, "thirtieth"),
        (ordinal, 101, "one hundred and first"),
        (year, 1000, "one thousand"),
        (year, 1900, "nineteen hundred"),
        (year, 3001, "three thousand one"),
    ],
)
def test_numbers_in_words(read, number, expected):
    assert read(number) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a", ("EY1",)),  # among the first words
        ("zywicki", ("Z IH0 W IH1 K IY0",)),  # the last
        ("Read", ("R EH1 D", "R IY1 D")),
        ("xylofrob", ()),
        ("café", ()),
        ("", ()),
    ],
)
def test_pronunciations(word, expected):
    assert pronunciations(word) == expected


def test_the_dictionary_comes_with_its_licence():
    licence = (HETERONYMS_FILE.parent / "CMUDICT-LICENSE.txt").read_text("utf-8")
    assert licence.startswith("Copyright (C) 1993-2015 Carnegie Mellon University. All rights reserved.")


HOSTILE = {
    "digits": "1",
    "grouped": "1,",
    "decimals": "1.",
    "ranges": "1-",
    "clocks": "1:",
    "prices": "$1 ",
    "ordinals": "1st",
    "dots": ".",
    "commas": ",",
    "quotes": "A'",
    "initials": "A.",
    "half days": "9 a.m.",
    "acronyms": "AB ",
    "spaces": " ",
    "open braces": "{",
    "braces": "{}",
    "nested": "{{}",
    "marks": "e\u0301\u0323",
    "ligatures": "\ufdfa",
    "other script": "日",
}


@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE)
def test_cleaning_takes_time_linear_in_the_text(pattern):
    # Quadratic rules would need minutes for this; the bound only has to tell the two apart on a slow machine.
    text = (pattern * 100_000)[:100_000]
    start = time.perf_counter()
    clean(text)
    for rule in RULES:
        rule(text)
    assert time.perf_counter() - start < 10


def test_hostile_possessives_do_not_exhaust_the_stack():
    text = "a" + "'s" * sys.getrecursionlimit()
    assert TextFrontend().transcribe(text) == text
