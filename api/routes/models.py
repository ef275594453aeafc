"""Models: the registry's versions and aliases, presets, and models on their way in and out."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.access import ADMINISTERS, READS, Caller, Reader
from api.context import Context, Here
from api.guards import raw_body
from api.images.gate import Gate, Shares
from api.images.sending import Sendable, disposition, send_file
from api.intake import Intake, Wishes, receive
from api.paging import decode_cursor, encode_cursor, json_response, page_of
from api.problems import Problem, documented
from api.schemas import models as schemas
from api.schemas.pages import Cursor, Limit
from api.words import for_http
from models.bundles import export_bundle
from models.errors import InvalidModel, UnknownModel
from models.manifest import ModelVersion
from models.records import Record, model_record, preset_records

router = APIRouter(tags=["models"])

MISSING = documented("not-found")
MADE_AT_ONCE = 2
SENT_AT_ONCE = 4  # each is as large as its model, on the disk of the caches; half of them for one token
ZIP = "application/zip"


class Exports:
    """What bounds exports: each writes a whole model to the disk, where it lies until it is sent."""

    def __init__(self, _: Context) -> None:
        self.gate = Gate(MADE_AT_ONCE, "models are exported")
        self.shares = Shares(SENT_AT_ONCE, "exported models on their way", "too-many-exports")


def version_of(here: Here, name: schemas.Name, version: schemas.Selector) -> ModelVersion:
    """The version that the address names. Raises Problem 404."""
    return _found(here, f"{name}@{version}")


Version = Annotated[ModelVersion, Depends(version_of)]


@router.get(
    "/models",
    operation_id="list_models",
    summary="Every version of every model",
    response_model=schemas.ModelVersions,
)
def models(
    request: Request,
    here: Here,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Response:
    """By name, then by number. `path` is empty for all but administrators."""
    after = decode_cursor(cursor, ["models"], str, int)
    rows = [one for one in _all(here) if after is None or (one.manifest.name, one.manifest.version) > after]

    def cursor_of(one: ModelVersion) -> str:
        return encode_cursor((one.manifest.name, one.manifest.version), ["models"])

    return page_of(request, rows, limit, cursor_of, lambda one: _record(here, caller, one))


@router.get(
    "/models/{name}",
    operation_id="get_model",
    summary="One model: its versions and aliases",
    response_model=schemas.Model,
    responses=MISSING,
)
def model(request: Request, here: Here, caller: Reader, name: schemas.Name) -> Response:
    """The newest version is the one that the bare name means."""
    latest = _found(here, name).manifest
    versions = sorted(here.registry.readable(latest.name), key=lambda one: one.manifest.version)
    body = {
        "name": latest.name,
        "latest": latest.version,
        "aliases": dict(here.registry.aliases(latest.name)),
        "versions": [_record(here, caller, one) for one in versions],
    }
    return json_response(request, body)


@router.get(
    "/models/{name}/{version}",
    operation_id="get_model_version",
    summary="One version of a model, with its class names",
    response_model=schemas.LabelledVersion,
    responses=MISSING,
)
def version(request: Request, here: Here, caller: Reader, found: Version) -> Response:
    """How it wants its pictures, where it came from, what its classes are called."""
    return json_response(request, _told(caller, model_record(found, _aliases(here, found), with_labels=True)))


@router.get(
    "/models/{name}/{version}/export",
    operation_id="export_model",
    summary="A version as a .zip that `POST /models` takes elsewhere",
    response_class=Response,
    responses={
        200: {
            "description": "The bundle.",
            "content": {ZIP: {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
        },
        **documented("not-found", "unavailable", "too-many-exports"),
    },
)
def export(request: Request, here: Here, caller: Reader, found: Version) -> Response:
    """Its files are compared with their hashes first. The report, which shows pictures, is for administrators."""
    name = f"{found.manifest.name}-{found.manifest.version}.zip"
    headers = {"Content-Disposition": disposition("attachment", name)}
    return send_file(request, _bundle(here, caller, found), headers)


def _bundle(here: Context, caller: Caller, found: ModelVersion) -> Sendable:
    """The .zip of a version, which has no name any more. Raises Problem 503, InvalidModel."""
    exports = here.part(Exports)
    with contextlib.ExitStack() as held:
        held.enter_context(exports.shares.held(caller.token_id))
        with exports.gate.turn(), _workplace(here) as folder:
            here.registry.verify(found)
            bundle = export_bundle(found, folder / "model.zip", with_report=caller.is_admin)
            file = held.enter_context(bundle.open("rb"))
        return Sendable(file, os.fstat(file.fileno()).st_size, ZIP, held.pop_all().close)


@router.delete(
    "/models/{name}/{version}",
    operation_id="remove_model_version",
    dependencies=[ADMINISTERS],
    summary="Remove a version; results that it gave stay",
    status_code=204,
    responses=documented("not-found", "conflict"),
)
def remove(
    here: Here,
    name: schemas.Name,
    version: schemas.Selector,
    force: Annotated[bool, Query(description="Even if an alias points at it.")] = False,
) -> None:
    """Its number is never given again."""
    found = _found(here, f"{name}@{version}")
    with _writing():
        try:
            here.registry.remove(found.reference, force=force)
        except InvalidModel as error:
            raise Problem("conflict", for_http(str(error))) from error


@router.put(
    "/models/{name}/aliases/{alias}",
    operation_id="set_alias",
    dependencies=[ADMINISTERS],
    summary="Give a version a second name",
    response_model=schemas.AliasedVersion,
    responses=MISSING,
)
def set_alias(
    request: Request,
    here: Here,
    name: schemas.Name,
    alias: schemas.Alias,
    body: schemas.AliasTarget,
) -> Response:
    """Jobs that are running keep the version they started with."""
    found = _found(here, f"{name}@{body.version}")
    with _writing():
        here.registry.alias(found.reference, alias)
    record = {"alias": f"{found.manifest.name}@{alias.lower()}", **model_record(found, _aliases(here, found))}
    return json_response(request, record)


@router.delete(
    "/models/{name}/aliases/{alias}",
    operation_id="remove_alias",
    dependencies=[ADMINISTERS],
    summary="Take an alias away",
    status_code=204,
    responses=MISSING,
)
def remove_alias(here: Here, name: schemas.Name, alias: schemas.Alias) -> None:
    """The version that it pointed at stays."""
    _found(here, f"{name}@latest")
    with _writing(), _missing():
        here.registry.unalias(name, alias)


@router.post(
    "/models",
    operation_id="import_model",
    dependencies=[ADMINISTERS],
    summary="Import a .keras file, or a .zip that an export wrote: the raw body",
    status_code=201,
    response_model=schemas.NewVersion,
    responses=documented("invalid-model", "not-installed", "unavailable", "disk-full"),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
        }
    },
)
@raw_body
async def import_model(
    request: Request,
    here: Here,
    wishes: Annotated[Wishes, Depends()],
) -> Response:
    """Checked, opened in a sandbox, compiled, compared with Keras: takes half a minute and more."""
    intake = here.part(Intake)
    with intake.turn():
        folder = Path(await to_thread.run_sync(_made, here))
        try:
            file = folder / wishes.file
            await receive(request, file)
            answer = await to_thread.run_sync(lambda: intake.take(folder, wishes.request(file)))
        finally:
            await to_thread.run_sync(_gone, folder)
    return await to_thread.run_sync(_created, request, here, answer)


@router.post(
    "/presets/pull",
    operation_id="pull_model",
    dependencies=[ADMINISTERS],
    summary="Fetch a pretrained classifier from its hub",
    status_code=201,
    response_model=schemas.NewVersion,
    responses=documented("unknown-model", "not-installed", "unavailable", "disk-full"),
)
def pull(request: Request, here: Here, body: schemas.Pull) -> Response:
    """`GET /presets` lists what there is, those of kind `classifier`. Takes minutes."""
    from models.presets import find_preset

    preset = find_preset(body.preset)
    intake = here.part(Intake)
    with intake.turn(), _workplace(here) as folder:
        answer = intake.take(folder, {"preset": preset.name, "name": body.name})
    return _created(request, here, answer)


@router.get(
    "/presets",
    operation_id="list_presets",
    dependencies=[READS],
    summary="What a training can begin with",
    response_model=schemas.Presets,
)
def presets(request: Request) -> Response:
    """Pretrained classifiers, small networks, backbones."""
    return json_response(request, {"items": list(preset_records()), "next": None})


def _all(here: Context) -> list[ModelVersion]:
    """Every version that can be read, by name and number; unlike the registry's list, which refuses a damaged one."""
    return [one for name in here.registry.names() for one in reversed(list(here.registry.readable(name)))]


def _record(here: Context, caller: Caller, version: ModelVersion) -> Record:
    return _told(caller, model_record(version, _aliases(here, version)))


def _told(caller: Caller, record: Record) -> Record:
    """What a caller is told of a version: where it lies on the server is for administrators."""
    return record if caller.is_admin else {**record, "path": ""}


def _aliases(here: Context, found: ModelVersion) -> list[str]:
    known = here.registry.aliases(found.manifest.name)
    return [alias for alias, number in known.items() if number == found.manifest.version]


def _found(here: Context, reference: str) -> ModelVersion:
    with _missing():
        return here.registry.get(reference)


@contextlib.contextmanager
def _missing() -> Iterator[None]:
    """In an address, what is not there is 404."""
    try:
        yield
    except UnknownModel as error:
        raise Problem("not-found", for_http(str(error)), near=list(error.near)) from error


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Explain a registry that this process may not write to."""
    try:
        yield
    except (PermissionError, FileNotFoundError) as error:
        raise Problem("unavailable", f"This server cannot write to its models: {error.strerror}.") from error


@contextlib.contextmanager
def _workplace(here: Context) -> Iterator[Path]:
    folder = Path(_made(here))
    try:
        yield folder
    finally:
        _gone(folder)


def _made(here: Context) -> str:
    """A folder of its own for one model, on the disk of the caches."""
    here.settings.cache_folder.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix="model-", dir=here.settings.cache_folder)


def _gone(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _created(request: Request, here: Context, answer: Record) -> Response:
    found = here.registry.get(str(answer["reference"]))
    record = {**model_record(found, _aliases(here, found)), "notes": [for_http(note) for note in answer["notes"]]}
    made = json_response(
        request, record, {"Location": f"{_base(request)}/{found.manifest.name}/{found.manifest.version}"}
    )
    made.status_code = 201
    return made


def _base(request: Request) -> str:
    return str(request.scope["path"]).replace("/presets/pull", "/models")
