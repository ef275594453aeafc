"""Bodies of JSON: the same values as the command line's, whatever is in them."""

import json

import pytest

from api.paging import json_bytes
from store.records import json_text


@pytest.mark.parametrize("text", ["plain", "é\u2028</", "\ud800"])
def test_a_body_has_what_the_command_line_prints(text: str) -> None:
    value = {"text": text, "n": 1, "share": 0.1 + 0.2, "none": None, "odd": [float("nan"), float("inf")]}
    assert json.loads(json_bytes(value)) == json.loads(json_text(value).encode("utf-8", "backslashreplace"))
