"""Who asks, and what they may: tokens become callers, scopes are route dependencies, others' things are not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.context import Context, Here
from api.known import KnownTokens
from api.known_jobs import KnownJobs
from api.limits import Meter
from api.problems import Problem
from api.query_names import check_names
from api.schemas.tokens import Scope
from api.touches import Touches
from api.words import for_http
from store import insights
from store.errors import UnknownJob
from store.results import Head
from store.rows import JobRow
from store.tokens import TokenRow
from worker.settings import Settings

SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")  # each implies those before it

bearer = HTTPBearer(auto_error=False, scheme_name="token", description="`pixmill token create` makes one.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one token may use; None where there is no limit."""

    requests_per_minute: int | None = None
    queued_items: int | None = None
    upload_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as its token says. `scopes` holds the implied ones too."""

    owner: str
    scopes: frozenset[str]
    token_id: str
    limits: Limits

    @property
    def is_admin(self) -> bool:
        """Whether this caller sees and does everything."""
        return "admin" in self.scopes

    @property
    def owners(self) -> str | None:
        """The owner that a listing is limited to; None where all are seen."""
        return None if self.is_admin else self.owner

    def sees(self, owner: str) -> bool:
        """Whether things of this owner are there for this caller."""
        return self.is_admin or owner == self.owner


async def caller_of(request: Request, here: Here, sent: Credentials) -> Caller:
    """Whose token came with the request. Raises Problem 401 or 429, and what `check_names` does: after who, what."""
    if sent is None:
        got = "that header without `Bearer`" if "authorization" in request.headers else "none"
        raise Problem("unauthorized", f"Expected a token in the header Authorization, as `Bearer …`; got {got}.")
    known = here.part(KnownTokens)
    found = known.recent(sent.credentials) or await to_thread.run_sync(known.look_up, sent.credentials)
    if found is None:
        raise Problem("unauthorized", "This token is not known here.")
    if found.is_revoked:
        raise Problem("token-revoked", f"The token {found.prefix}… was revoked.")
    if found.is_expired:
        raise Problem("token-expired", f"The token {found.prefix}… has expired.")
    request.state.token_id = found.id
    here.part(Touches).note(found.id)
    caller = _caller(found, here.settings)
    if caller.limits.requests_per_minute is not None:
        request.state.rate_headers = here.part(Meter).take(found.id, caller.limits.requests_per_minute)
    check_names(request)
    return caller


def _caller(token: TokenRow, settings: Settings) -> Caller:
    highest = max((SCOPES.index(scope) for scope in SCOPES if scope in token.scopes), default=-1)
    limits = Limits(
        _limit(token.limits.requests_per_minute, settings.limit_requests_per_minute),
        _limit(token.limits.max_queued_items, settings.limit_queued_items),
        _limit(token.limits.max_upload_bytes, settings.limit_upload_mb << 20),
    )
    return Caller(token.owner, frozenset(SCOPES[: highest + 1]), token.id, limits)


def _limit(own: int | None, default: int) -> int | None:
    """The token's own limit, else the settings'; 0 in either means none."""
    return (default if own is None else own) or None


Anyone = Annotated[Caller, Depends(caller_of)]

# Coroutines, as every dependency that waits for nothing: a function costs each request a hop to a thread and back.


async def may_read(caller: Anyone) -> Caller:
    """A caller with scope read. Raises Problem 403."""
    return require(caller, "read")


async def may_submit(caller: Anyone) -> Caller:
    """A caller with scope submit. Raises Problem 403."""
    return require(caller, "submit")


async def may_administer(caller: Anyone) -> Caller:
    """A caller with scope admin. Raises Problem 403."""
    return require(caller, "admin")


# The scopes given here are for the description of the API; the functions decide.
Reader = Annotated[Caller, Security(may_read, scopes=["read"])]
Submitter = Annotated[Caller, Security(may_submit, scopes=["submit"])]
Admin = Annotated[Caller, Security(may_administer, scopes=["admin"])]
# The same for routes whose answer does not depend on who asks: `dependencies=[READS]`.
READS = Security(may_read, scopes=["read"])
ADMINISTERS = Security(may_administer, scopes=["admin"])


def require(caller: Caller, scope: Scope) -> Caller:
    """The caller, who has this scope. Raises Problem 403."""
    if scope not in caller.scopes:
        had = SCOPES[len(caller.scopes) - 1] if caller.scopes else "none"
        raise Problem("forbidden", f"Expected a token with scope {scope}, got one with scope {had}.", scope=scope)
    return caller


def own_job(here: Context, caller: Caller, job_id: int) -> JobRow:
    """A job that the caller may see. Raises Problem 404, the same for another owner's as for none."""
    try:
        found = insights.job(here.database, job_id)
    except UnknownJob:
        raise _no_job(job_id) from None
    if not caller.sees(found.owner):
        raise _no_job(job_id)
    return found


def may_see_job(here: Context, caller: Caller, job_id: int) -> Head:
    """The head of a job that the caller may see: all that a page of its results needs to know. Raises as `own_job`."""
    try:
        head = here.part(KnownJobs).head_of(job_id)
    except UnknownJob:
        raise _no_job(job_id) from None
    if not caller.sees(head.owner):
        raise _no_job(job_id)
    return head


def _no_job(job_id: int) -> Problem:
    return Problem("not-found", for_http(str(UnknownJob(job_id))), job_id=job_id)
