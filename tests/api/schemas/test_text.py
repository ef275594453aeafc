"""Bounded types: what they take and what they refuse, also at their edges."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from api.schemas.text import MAX_ID, Id, Index, Input, Text64


class Wish(Input):
    """A body."""

    text: Text64
    number: Id


@pytest.mark.parametrize("text", ["", "a", "é" * 64, "😀" * 64, "line\nline", "\u202e"])
def test_plain_text_is_taken_as_it_is(text: str) -> None:
    assert TypeAdapter(Text64).validate_python(text) == text


@pytest.mark.parametrize("text", ["\0", "a\0", "\ud800", "a\udfffb", "x" * 65, 1, None, b"a"])
def test_traps_in_text_are_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        Wish.model_validate({"text": text, "number": 1})


@pytest.mark.parametrize(("given", "number"), [("1", 1), (1, 1), (str(MAX_ID), MAX_ID), ("007", 7)])
def test_an_id_in_an_address_is_its_digits(given: object, number: int) -> None:
    assert TypeAdapter(Id).validate_python(given) == number


@pytest.mark.parametrize(
    "given", ["0", 0, MAX_ID + 1, str(2**63), "-1", "1.0", 1.5, True, "", " 1", "1 ", "٣", "1_0", None]
)
def test_what_is_no_id_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Id).validate_python(given)


def test_an_index_begins_with_zero() -> None:
    assert TypeAdapter(Index).validate_python("0") == 0


@pytest.mark.parametrize(
    "body", [{"text": "a", "number": "1"}, {"text": "a", "number": 1, "more": 1}, {"text": "a"}, []]
)
def test_a_body_is_closed_and_strict(body: object) -> None:
    with pytest.raises(ValidationError):
        Wish.model_validate(body)
