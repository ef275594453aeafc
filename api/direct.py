"""The short way to an endpoint that reads, for requests with which nothing is wrong.

For each request the framework walks through an endpoint's dependencies, and through each field of what may stand behind
the question mark. Here that is worked out once for each route. The framework's own fields check the values. Whatever
they refuse, and whatever is not as plain as expected, goes the framework's way, so that all that is said about a
request is said by one of the two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from inspect import isasyncgenfunction, iscoroutinefunction, isfunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, get_args, get_origin

from anyio import to_thread
from fastapi import Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials
from starlette.responses import Response

from api.access import caller_of, may_read
from api.context import context_of
from api.query_names import is_model

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

KNOWN = (context_of, may_read)
LISTS = (list, tuple, set, frozenset, deque, Sequence, Set)
Values = dict[str, Any]


class Direct:
    """A route's endpoint, or what it depends on, and what that takes."""

    def __init__(self, wants: Dependant) -> None:
        self._wants = wants
        self._endpoint: Any = wants.call
        self._known = [(part.name or "", part.call) for part in wants.dependencies if part.call in KNOWN]
        self._made = [(part.name or "", Direct(part)) for part in wants.dependencies if part.call not in KNOWN]

    async def answer(self, request: Request) -> Response | None:
        """The endpoint's answer; None for a request that the framework has to look at. Raises Problem."""
        values, sent = self._checked(request), _bearer(request)
        if values is None or sent is None:
            return None
        here = await context_of(request)
        given = {context_of: here, may_read: await may_read(await caller_of(request, here, sent))}
        return await to_thread.run_sync(self._call, request, values, given)

    def _checked(self, request: Request) -> Values | None:
        """The values of path and query, those of a dependency by its name; None unless all are as they should be."""
        pairs = request.query_params.multi_items()
        asked: Values = dict(pairs)
        if len(asked) != len(pairs):  # a name came twice
            return None
        fields = self._wants.query_params
        if len(fields) == 1 and is_model(fields[0].field_info.annotation):
            asked = {fields[0].alias: asked}  # a model takes all that is asked at once
        behind, before = _taken(fields, asked), _taken(self._wants.path_params, request.path_params)
        inside = {name: made._checked(request) for name, made in self._made}
        if behind is None or before is None or None in inside.values():
            return None
        return behind | before | inside

    def _call(self, request: Request, values: Values, given: Mapping[Any, Any]) -> Any:
        """Call it with what is checked, and with what its dependencies make of that."""
        taken = values | {name: given[call] for name, call in self._known}
        taken |= {name: made._call(request, values[name], given) for name, made in self._made}
        if self._wants.request_param_name:
            taken[self._wants.request_param_name] = request
        return self._endpoint(**taken)


def _taken(fields: Collection[Any], sent: Mapping[str, Any]) -> Values | None:
    """The fields' values; None where one is wrong or missing."""
    values: Values = {}
    for field in fields:
        if field.alias not in sent:
            if field.field_info.is_required():
                return None
            values[field.name] = field.get_default()
            continue
        values[field.name], errors = field.validate(sent[field.alias], {}, loc=())
        if errors:
            return None
    return values


def _bearer(request: Request) -> HTTPAuthorizationCredentials | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not secret or secret != secret.strip():
        return None
    return HTTPAuthorizationCredentials(scheme=scheme, credentials=secret)


def direct(route: APIRoute) -> Direct | None:
    """The short way for a route that reads; None where it takes more than path, query, caller and context."""
    wants = route.dependant
    return Direct(wants) if not route.dependencies and _is_plain(wants) and may_read in _calls(wants) else None


def _calls(wants: Dependant) -> Iterator[Any]:
    """An endpoint and what it depends on, as far as that is not known here."""
    yield wants.call
    for part in wants.dependencies:
        yield from [part.call] if part.call in KNOWN else _calls(part)


def _is_plain(wants: Dependant) -> bool:
    """Whether it is a function of values from path and query, one each, and of what such functions return."""
    takes_more = (
        *(wants.header_params, wants.cookie_params, wants.body_params, wants.response_param_name),
        *(wants.background_tasks_param_name, wants.http_connection_param_name, wants.security_scopes_param_name),
    )
    types = [field.field_info.annotation for field in wants.query_params]
    mixed = len(types) > 1 and any(map(is_model, types))
    if any(takes_more) or mixed or any(map(_holds_list, types)) or not _is_function(wants.call):
        return False
    return all(part.call in KNOWN or _is_plain(part) for part in wants.dependencies)


def _is_function(call: Any) -> bool:
    """Whether it is one that returns what it makes when it is called."""
    return isfunction(call) and not any(
        kind(call) for kind in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)
    )


def _holds_list(annotation: Any) -> bool:
    """Whether a value of this type is made of all that is sent by its name."""
    if is_model(annotation):
        return any(_holds_list(field.annotation) for field in annotation.model_fields.values())
    return annotation in LISTS or get_origin(annotation) in LISTS or any(map(_holds_list, get_args(annotation)))
