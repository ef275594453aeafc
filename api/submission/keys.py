"""Idempotency: what a key stands for, and the answer that a request which comes again gets."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from starlette.concurrency import run_in_threadpool

from api.context import Context
from api.problems import Problem
from api.submission import service
from api.submission.service import Submissions
from api.submission.waiting import Waiters
from store import insights
from store.errors import UnknownJob
from store.requests import RequestKey
from store.states import JobState

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def request_key(owner: str, header: str | None, asked: Any) -> RequestKey | None:
    """The key of a request, with the fingerprint of what it asks for. Raises Problem for what is no key."""
    if header is None:
        return None
    key = header.strip()
    if len(key) > 2 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]  # the draft of the header has it as a quoted string
    if not _KEY.fullmatch(key):
        raise Problem("invalid", "Expected an Idempotency-Key of 1 to 255 visible ASCII characters.")
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return RequestKey(owner, key, hashlib.sha256(text.encode()).hexdigest())


async def replay(context: Context, job_id: int | None, *, matches: bool) -> int:
    """The job that the same request made before, once it is accepted or the client was told of it. Raises Problem."""
    if not matches:
        raise Problem("key-reused", "This Idempotency-Key was sent before, with another request.")
    if job_id is None:
        raise Problem("conflict", "The job that was made with this Idempotency-Key is removed; use a new key.")
    ticket = context.part(Submissions).ticket(job_id)
    if ticket is not None:
        await context.part(Submissions).settle(ticket)
        return job_id

    def state() -> JobState | None:
        try:
            found = insights.job(context.database, job_id).state
        except UnknownJob:
            raise _in_flight() from None
        return found if found is not JobState.SCANNING else None

    await context.part(Waiters).until(state, service.WAIT_S)
    await run_in_threadpool(state)  # the last word, where many wait
    return job_id


def _in_flight() -> Problem:
    return Problem("in-flight", "The first of these requests was refused a moment ago; send it again.", retry_after=1)
