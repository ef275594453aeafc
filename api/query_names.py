"""Which names may stand behind the question mark of a route: any other is refused, as an unknown field of a body is.

The framework refuses those only of routes that take all they are asked as one model. Of the others `?dryrun=true`, for
`dry_run`, would have begun the job.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

_known: dict[str, frozenset[str]] = {}  # by the unique id of the route's operation


def check_names(request: Request) -> None:
    """Refuse a name that the route does not know. Raises RequestValidationError with each of them."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = names_of(route)
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": "unknown", "input": None} for name in unknown]
        )


def names_of(route: APIRoute) -> frozenset[str]:
    """Every name that the endpoint of a route, or what it depends on, takes from behind the question mark."""
    if route.unique_id not in _known:
        _known[route.unique_id] = frozenset(_names(route.dependant))
    return _known[route.unique_id]


def _names(wants: Dependant) -> Iterator[str]:
    for field in wants.query_params:
        kind = field.field_info.annotation
        if is_model(kind):
            yield from (inner.alias or name for name, inner in kind.model_fields.items())
        else:
            yield field.alias
    for part in wants.dependencies:
        yield from _names(part)


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether one parameter takes all that stands behind the question mark."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
