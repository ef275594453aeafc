"""What the children with Keras in them share: run named checks, answer a traceback for each that fails."""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from _pytest.outcomes import Failed  # what pytest.raises raises where nothing was raised; pytest has no public name

from models.errors import ModelError

Check = Callable[[Mapping[str, Any]], None]


def outcomes(checks: tuple[Check, ...], request: Mapping[str, Any]) -> dict[str, str]:
    """Nothing for a check that passed, else its traceback: the failure of one must not hide the others'."""
    return {check.__name__: _outcome(check, request) for check in checks}


def _outcome(check: Check, request: Mapping[str, Any]) -> str:
    try:
        check(request)
    except (AssertionError, ModelError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, Failed):
        return traceback.format_exc()
    return ""
