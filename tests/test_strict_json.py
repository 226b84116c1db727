"""JSON that anyone may have written: one meaning or none."""

import tracemalloc

import pytest

from fte.strict_json import VALUES, parse_json


def test_json_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, true], "b": {"a": "x"}}') == {"a": [1, 2.5, None, True], "b": {"a": "x"}}
    assert parse_json('{"a": "\\u00e9"}') == {"a": "é"}
    assert parse_json('{"a": 1}'.encode("utf-16")) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' stands twice in one object"),
        ('[{"b": {"c": 1, "d": 2, "c": 3}}]', "the key 'c' stands twice in one object"),
        ('{"\\n": 1, "\\n": 2}', r"the key '\n' stands twice"),
        (f'{{"{"k" * 500}": 1, "{"k" * 500}": 2}}', "k... stands twice"),
        ("NaN", "NaN is no JSON number"),
        ("[Infinity]", "Infinity is no JSON number"),
        ("[" * 100_000, "recursion"),
        ("9" * 5000, "Exceeds the limit"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_what_has_no_single_meaning_is_refused(text: str, says: str, encoded: bool) -> None:
    with pytest.raises(ValueError) as error:
        parse_json(text.encode() if encoded else text)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_more_values_than_any_document_has_are_refused_before_they_take_memory() -> None:
    text = b"[" + b'{"":0},' * 1_400_000 + b"0]"
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"more than {VALUES} values"):
        parse_json(text)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
