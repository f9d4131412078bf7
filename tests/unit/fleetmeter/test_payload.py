import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter.payload import DEPTH_MAX, REPR_CHARS_MAX, fit, json_text, label, text_of


class Hostile:
    """An object that raises whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@dataclass
class Answer:
    """A dataclass."""

    text: str
    scores: list[float]


class Dumping:
    """An object like those of pydantic."""

    def model_dump(self) -> dict[str, Any]:
        """What it holds."""
        return {"id": 7}


CIRCLE: list[Any] = [1]
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("as it is", "as it is"),
        ({"a": 1, "é": None}, '{"a":1,"é":null}'),
        ([True, 1.5], "[true,1.5]"),
        ({"x": float("nan"), "y": float("-inf")}, '{"x":"nan","y":"-inf"}'),
        ({"b": b"bytes", "raw": b"\xff\x00"}, '{"b":"bytes","raw":"base64:/wA="}'),
        ({1: "one", (2, 3): "pair"}, '{"1":"one","(2, 3)":"pair"}'),
        (CIRCLE, '[1,"<circular>"]'),
        ({"h": Hostile()}, '{"h":"<Hostile>"}'),
        (Answer("t", [0.5]), '{"text":"t","scores":[0.5]}'),
        (Dumping(), '{"id":7}'),
        ({"s": frozenset({1})}, '{"s":[1]}'),
        (2**70, str(2**70)),
        ("half \ud83d", "half ?"),
        ({"k": "half \ud83d"}, '{"k":"half ?"}'),
    ],
)
def test_text_of(value: object, expected: str) -> None:
    """Whatever is handed over becomes text, as JSON where it can."""
    assert text_of(value) == expected


def test_deep_nesting_ends() -> None:
    """Nesting beyond the bound is cut instead of exhausting the stack."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert json_text(deep) == "[" * DEPTH_MAX + '"<too deep>"' + "]" * DEPTH_MAX


def test_huge_reprs_are_cut() -> None:
    """The text of an object that JSON does not know is bounded."""

    class Huge:
        def __str__(self) -> str:
            return "x" * 1_000_000

    assert len(json_text(Huge())) == REPR_CHARS_MAX + 2


@given(st.recursive(st.none() | st.text(st.characters()) | st.floats() | st.binary(), st.lists))
def test_always_json_and_utf8(value: object) -> None:
    """The text of anything encodes as UTF-8 and parses as strict JSON."""
    text = json_text(value)
    json.loads(text.encode(), parse_constant=pytest.fail)


def test_label() -> None:
    """Names are text, cut at their bound."""
    assert [label(None), label("abc", 2), label(5), label(Hostile())] == [
        "",
        "ab",
        "5",
        "<Hostile>",
    ]


def test_fit_cuts_the_longest() -> None:
    """Short texts stay whole, the longest give way, and their sizes are told."""
    texts = {"input": "i" * 10, "output": "é" * 100, "logs": "l" * 300, "attributes": ""}
    cut = fit(texts, 111)
    assert cut == {"output": 200, "logs": 300}
    assert {name: len(text.encode()) for name, text in texts.items()} == {
        "input": 10,
        "output": 50,
        "logs": 51,
        "attributes": 0,
    }


@given(st.dictionaries(st.sampled_from("abcd"), st.text(max_size=60)), st.integers(0, 200))
def test_fit_holds_the_bound(texts: dict[str, str], bytes_max: int) -> None:
    """What is left never has more bytes than allowed, and is a beginning of what was there."""
    before = dict(texts)
    fit(texts, bytes_max)
    assert sum(len(text.encode()) for text in texts.values()) <= bytes_max
    assert all(before[name].startswith(text) for name, text in texts.items())
