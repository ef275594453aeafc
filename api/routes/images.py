"""Thumbnails and originals of classified items, by content: an address with `?v=` never changes its picture."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.access import Reader, own_job
from api.context import Here
from api.images.content import MEDIA_TYPES, Classified, Copies, classified, copy
from api.images.sending import disposition, not_modified, send_file
from api.images.small import SIZES, Thumbnails, rounded
from api.problems import documented
from api.schemas.text import Digits, Id, Index

router = APIRouter(tags=["images"])

FOREVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
# A picture that a stranger made is shown alone, as nothing but a picture.
ISOLATED = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Side = Annotated[
    int,
    Query(ge=16, le=SIZES[-1], description="Pixels of the longer side at the most, rounded up to a kept size."),
    Digits,
]
Content = Annotated[
    str,
    Query(pattern="^[0-9a-f]{32}$", description="The item's `content_hash`: then the answer may be kept for ever."),
]
BINARY = {"schema": {"type": "string", "format": "binary"}}
UNCHANGED = {"description": "The picture with this ETag is still the one."}


def item_of(here: Here, caller: Reader, job: Id, idx: Index) -> Classified:
    """The classified item that the address names. Raises Problem 404."""
    return classified(here, own_job(here, caller, job), idx)


Item = Annotated[Classified, Depends(item_of)]


def _described(*media_types: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "The picture.", "content": dict.fromkeys(media_types, BINARY)}, 304: UNCHANGED}


@router.get(
    "/jobs/{job}/items/{idx}/thumbnail",
    operation_id="thumbnail",
    summary="A small copy of a classified picture, as WebP",
    response_class=Response,
    responses={
        **_described("image/webp"),
        **documented("root-not-allowed", "not-found", "file-missing", "changed", "not-rendered", "not-installed"),
    },
)
def thumbnail(request: Request, here: Here, found: Item, size: Side = 256, v: Content | None = None) -> Response:
    """The longer side has at most `size` pixels; a picture is never enlarged."""
    side = rounded(size)
    headers, tag = _headers(found, v), f'"{found.tag}-{side}"'
    known = not_modified(request, tag, headers)
    if known is not None:
        return known
    data = here.part(Thumbnails).small(found, side)
    return Response(data, headers={**headers, "ETag": tag}, media_type="image/webp")


@router.get(
    "/jobs/{job}/items/{idx}/original",
    operation_id="original",
    summary="The file of a classified picture, byte for byte",
    response_class=Response,
    responses={
        **_described(*MEDIA_TYPES.values()),
        206: {"description": "The part of it that `Range` asked for."},
        416: {"description": "`Range` asked for a part behind its end."},
        **documented("root-not-allowed", "not-found", "file-missing", "changed", "too-large", "unavailable"),
    },
)
def original(request: Request, here: Here, caller: Reader, found: Item, v: Content | None = None) -> Response:
    """Sent only while it is what was classified: another content at its place is 409 `changed`."""
    headers, tag = _headers(found, v), f'"{found.tag}"'
    known = not_modified(request, tag, headers)
    if known is not None:
        return known
    picture = copy(here, found, partial(here.part(Copies).held, caller.token_id))
    headers["Content-Disposition"] = disposition("inline", found.file_name)
    return send_file(request, picture, headers, tag=tag)


def _headers(found: Classified, asked: str | None) -> dict[str, str]:
    return {**ISOLATED, "Cache-Control": FOREVER if asked == found.tag else ASK_AGAIN}
