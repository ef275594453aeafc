"""Uploads: files that are sent before the job that reads them, one by one, or one file or archive at once."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api.access import Caller, Reader, Submitter
from api.context import Context, Here
from api.guards import raw_body
from api.paging import decode_cursor, encode_cursor, next_url
from api.problems import Problem, documented
from api.schemas.pages import DEFAULT_LIMIT, Cursor, Limit
from api.schemas.text import Plain
from api.schemas.uploads import Upload, UploadedFile, Uploads
from api.submission.asked import own_upload
from api.uploads.folders import check_room, make_folders, remove_upload
from api.uploads.names import MOST_BYTES, clean_name
from api.uploads.receiving import Reception
from store import uploads
from store.moments import rfc3339
from store.uploads import UploadRow

router = APIRouter(tags=["uploads"])

UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="The upload's id.")]
FileName = Annotated[str, Path(min_length=1, max_length=MOST_BYTES, description="Like cats/1.jpg."), Plain]
SENT = ("bad-request", "unauthorized", "forbidden", "too-large", "invalid", "contradictory", "rate-limited",
        "upload-full", "database-unavailable", "disk-full")  # fmt: skip
ASKED = ("bad-request", "unauthorized", "forbidden", "invalid", "rate-limited", "database-unavailable")
_BINARY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_SMALL = 1024  # bytes of a body that is no file


@router.post(
    "/uploads",
    operation_id="createUpload",
    summary="Begin an upload, or send one file at once",
    status_code=201,
    response_model=Upload,
    responses=documented(*SENT),
    openapi_extra={
        "requestBody": {
            "description": "An empty object for an upload of many files; with `name`, the bytes of the one file.",
            "content": {
                "application/json": {"schema": {}},
                "application/octet-stream": _BINARY,
            },
        }
    },
)
@raw_body
async def create_upload(
    request: Request,
    here: Here,
    caller: Submitter,
    name: Annotated[
        str | None, Query(min_length=1, max_length=MOST_BYTES, description="Of the one file that the body is."), Plain
    ] = None,
) -> JSONResponse:
    """Without `name` the upload is open, and takes files; with it, the body is its one file, and it is complete.

    An image, an archive (.zip, .tar) that is read in place, or a manifest of what was uploaded with it.
    """
    called = clean_name(name) if name is not None else None
    if called is None:
        await _check_empty(request)
    row = await run_in_threadpool(_begin, here, caller)
    if called is not None:
        try:
            await Reception(here, caller, row, called).receive(request)
            row = await run_in_threadpool(_sealed, here, row.id)
        except BaseException:
            await run_in_threadpool(remove_upload, here, row.id)
            raise
    return JSONResponse(_record(here, row), 201, {"Location": f"/api/v1/uploads/{row.id}"})


@router.put(
    "/uploads/{upload}/files/{name:path}",
    operation_id="putUploadFile",
    summary="Send a file of an upload",
    status_code=201,
    response_model=UploadedFile,
    responses={
        200: {"model": UploadedFile, "description": "A file of this name was replaced."},
        **documented(*SENT, "not-found", "conflict"),
    },
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}},
)
@raw_body
async def put_upload_file(
    upload: UploadId, name: FileName, request: Request, here: Here, caller: Submitter
) -> JSONResponse:
    """The body is the file. Folders in the name are kept: with labels from folders, cats/1.jpg is a cat."""
    called = clean_name(name)
    row = await run_in_threadpool(own_upload, here, caller, upload)
    if row.state != "open":
        raise Problem("conflict", f"Upload {upload} takes no more files: a job reads it.")
    reception = Reception(here, caller, row, called)
    replaced = await reception.receive(request)
    told = UploadedFile(upload=upload, name=called, bytes=reception.size)
    return JSONResponse(told.model_dump(), 200 if replaced else 201)


@router.get("/uploads", operation_id="listUploads", summary="List uploads", responses=documented(*ASKED, "bad-cursor"))
def list_uploads(
    request: Request,
    response: Response,
    here: Here,
    caller: Reader,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Annotated[Cursor | None, Query()] = None,
) -> Uploads:
    """The newest first; administrators see everybody's."""
    after = decode_cursor(cursor, ["uploads", caller.owners], float, str)
    rows = uploads.list_uploads(
        here.database, caller.owners, limit=limit + 1, after=(after[0], after[1]) if after else None
    )
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = encode_cursor([rows[-1].created_at, rows[-1].id], ["uploads", caller.owners])
        response.headers["Link"] = f'<{next_url(request, following)}>; rel="next"'
    return Uploads(items=[Upload(**_record(here, row)) for row in rows], next=following)


@router.get(
    "/uploads/{upload}", operation_id="getUpload", summary="One upload", responses=documented(*ASKED, "not-found")
)
def get_upload(upload: UploadId, here: Here, caller: Reader) -> Upload:
    """What has arrived of it."""
    return Upload(**_record(here, own_upload(here, caller, upload)))


@router.delete(
    "/uploads/{upload}",
    operation_id="deleteUpload",
    summary="Delete an upload with its files",
    status_code=204,
    response_class=Response,
    responses=documented(*ASKED, "not-found", "conflict"),
)
def delete_upload(upload: UploadId, here: Here, caller: Submitter) -> Response:
    """Not while a job reads it."""
    own_upload(here, caller, upload)
    if not remove_upload(here, upload) and (job_id := uploads.reader(here.database, upload)) is not None:
        raise Problem("conflict", f"Job {job_id} reads upload {upload}: cancel it first, or let it end.")
    return Response(status_code=204)


async def _check_empty(request: Request) -> None:
    """Refuse a body where none is expected: its sender forgot the name."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _SMALL:
            break
    try:
        is_empty = not body.strip() or json.loads(body) == {}
    except (ValueError, RecursionError):
        is_empty = False
    if not is_empty:
        raise Problem("contradictory", "Expected an empty object, or ?name= for the one file that the body is.")


def _begin(here: Context, caller: Caller) -> UploadRow:
    check_room(here.settings)
    row = uploads.create(here.database, caller.owner)
    make_folders(here.settings, row.id)
    return row


def _sealed(here: Context, upload_id: str) -> UploadRow:
    row = uploads.seal(here.database, upload_id)
    if row is None:
        raise Problem("conflict", f"Upload {upload_id} was deleted while it was sent.")
    return row


def _record(here: Context, row: UploadRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "owner": row.owner,
        "state": row.state,
        "files": row.files,
        "bytes": row.bytes,
        "created_at": rfc3339(row.created_at),
        "touched_at": rfc3339(row.touched_at),
        "expires_at": rfc3339(row.touched_at + here.settings.upload_keep_h * 3600),
        "job": row.job_id,
    }
