"""Bounded types that every schema is made of: text without traps, ids that fit a database, closed objects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

MAX_ID = 2**53 - 1  # what JavaScript's numbers carry exactly; far below SQL's bigint
CONTRADICTION = "contradiction"  # the type of errors about values that are fine by themselves, but not together


def _plain(text: str) -> str:
    """Refuse what SQL, file names and JSON choke on."""
    if "\0" in text:
        raise ValueError("expected text without NUL characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("expected text that is valid Unicode, got a lone surrogate")
    return text


def _digits(value: object) -> object:
    """A whole number; in a URL its digits and nothing else: no sign, blank, underscore or fraction."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal() and len(value) <= 16):
        raise ValueError("expected a whole number")
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON does not tell 1.0 from 1
    if isinstance(value, (bool, float)):
        raise ValueError("expected a whole number")
    return value


class _Plain:
    """Text that SQL, file names and JSON bear. The description says what of it a pattern can say."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(_plain, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = handler(schema)
        described.setdefault("pattern", r"^[^\u0000]*$")
        return described


Plain = _Plain()
Digits = BeforeValidator(_digits)

Text64 = Annotated[str, Field(max_length=64), Plain]
Text256 = Annotated[str, Field(max_length=256), Plain]
Text4k = Annotated[str, Field(max_length=4096), Plain]

Id = Annotated[int, Field(ge=1, le=MAX_ID), Digits]
Index = Annotated[int, Field(ge=0, le=MAX_ID), Digits]


class Input(BaseModel):
    """A body that comes in: unknown fields are refused, and nothing is silently converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Output(BaseModel):
    """A body that goes out; every field is there, so that a client can rely on it."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)
