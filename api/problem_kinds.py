"""Every type of problem: when it comes, and what a person can do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of problem: its HTTP status, its title, when it comes, and what a person can do."""

    status: int
    title: str
    when: str
    advice: str


# By status. A slug is a promise: it is never given another meaning.
KINDS: dict[str, Kind] = {
    "bad-request": Kind(
        400,
        "The request is malformed",
        "The body is no JSON, or the connection ended before it did; headers are too large, come twice or hold what no "
        "header may hold; the `Host` is none.",
        "Send well-formed HTTP: one Host, valid JSON, clean headers.",
    ),
    "unauthorized": Kind(
        401,
        "A token is needed",
        "There was no `Authorization: Bearer …`, or its token is not of this installation.",
        "Send `Authorization: Bearer …`; `pixmill token create` makes one.",
    ),
    "token-expired": Kind(
        401,
        "The token has expired",
        "The token was right until the time that it was made for.",
        "Make a new one with `pixmill token create`.",
    ),
    "token-revoked": Kind(
        401,
        "The token was revoked",
        "The token was taken back (`pixmill token revoke`).",
        "Ask an administrator for another one.",
    ),
    "forbidden": Kind(
        403,
        "The token may not do this",
        "The token is right, but the operation needs a scope that it does not have; `scope` names that.",
        "Use a token that has the scope which the problem names.",
    ),
    "cross-site": Kind(
        403,
        "Requests from other sites are refused",
        "A browser sent the request on behalf of a page of another site.",
        "Call the API from a program, or from its own origin.",
    ),
    "root-not-allowed": Kind(
        403,
        "The path is outside the allowed roots",
        "The server reads pictures below its roots only, and follows no link out of them.",
        "Name a path below an allowed root; `--root` or PIXMILL_ROOTS add one.",
    ),
    "not-found": Kind(
        404,
        "There is nothing here",
        "No operation has this address, or what it names does not exist, was removed, or belongs to another owner.",
        "Check the address and the id; what belongs to others is not shown.",
    ),
    "too-broad": Kind(
        422,
        "The question is about everything",
        "All results of all jobs were asked for at once.",
        "Name a model or a label, or ask one job.",
    ),
    "bad-name": Kind(
        422,
        "This is no name for an uploaded file",
        "The name is absolute, has `..` or an empty part, a character that no file name has, or is too long.",
        "Use a relative name of parts up to 255 bytes, like cats/1.jpg.",
    ),
    "file-missing": Kind(
        404,
        "The file is not there any more",
        "The row of the picture is there, its file or the archive around it is not.",
        "Bring the file back, or submit the folder again.",
    ),
    "method-not-allowed": Kind(
        405,
        "This method is not offered here",
        "The address is right, the method is not.",
        "Use one of the methods that `Allow` lists.",
    ),
    "illegal-move": Kind(
        409,
        "The state does not allow this",
        "A job can be paused, resumed, cancelled, retried or removed in some states only; `state` is the one that it "
        "is in.",
        "Look at the job's state first; it may have ended.",
    ),
    "nothing-to-do": Kind(
        409,
        "There is nothing to do",
        "A retry of what failed, or the rest of a job, where nothing failed like that and nothing is left.",
        "Nothing failed or is left; a retry would run nothing.",
    ),
    "in-flight": Kind(
        409,
        "The same request is still being answered",
        "Another request with the same `Idempotency-Key` came first and is not answered yet.",
        "Wait as `Retry-After` says, then send it again.",
    ),
    "changed": Kind(
        409,
        "The file changed since it was read",
        "The bytes at this place are not those that were classified.",
        "Submit the folder again to classify what is there now.",
    ),
    "conflict": Kind(
        409,
        "It is in use or already there",
        "A name is taken already, a model or an upload is in use by a job, or an owner has as many webhooks as there "
        "may be.",
        "The detail says by what; free it first or choose another name.",
    ),
    "too-large": Kind(
        413,
        "The body is too large",
        "The body, one file, or what would be unpacked of it is larger than this server takes.",
        "Send less at once; `max_body_mb` and `max_upload_mb` are the limits.",
    ),
    "unsupported-media-type": Kind(
        415,
        "The body's type is not understood",
        "The body is a form, or its `Content-Type` is none that this operation takes.",
        "Send JSON as `Content-Type: application/json`, and files as the body itself, not in a form.",
    ),
    "wrong-host": Kind(
        421,
        "This host name is not served here",
        "The request named a host that this server was not told to be; a page of the internet may try that with a "
        "name of its own that leads here.",
        "Use the address that `pixmill api` printed; PIXMILL_ALLOWED_HOSTS adds names.",
    ),
    "invalid": Kind(
        422,
        "The request cannot be accepted as it is",
        "A value is missing, not known, of another type or outside its bounds; `errors` has each with its place.",
        "Correct what `errors` or `detail` names.",
    ),
    "contradictory": Kind(
        422,
        "What was asked does not go together",
        "Two values exclude each other, or one lacks another that it needs.",
        "Each part is fine by itself; the detail says which to leave away.",
    ),
    "bad-cursor": Kind(
        422,
        "The cursor does not belong to this query",
        "The cursor was made for another address, filter, order or owner, or is no cursor.",
        "Start from the first page, or keep filter and order as they were.",
    ),
    "no-such-path": Kind(
        422,
        "Nothing is at this path",
        "The server sees no file or folder there. In a container, paths are those inside of it.",
        "Check the spelling, and that the server sees this disk.",
    ),
    "unreadable-path": Kind(
        422,
        "The path cannot be read",
        "The path is there, and the user that the server runs as may not read it.",
        "Give the server's user the right to read it.",
    ),
    "bad-source": Kind(
        422,
        "The images cannot be taken from there",
        "The source is of another kind than it was named as: a folder as `manifest`, say, or a file that is no "
        "archive.",
        "The detail says what was found instead of images.",
    ),
    "unknown-model": Kind(
        422,
        "There is no such model",
        "No model, version or alias has this name; `near` has those that are spelt alike. Or none was named, and "
        "there are several.",
        "`GET /api/v1/models` lists the models; the detail names near ones.",
    ),
    "invalid-model": Kind(
        422,
        "The model cannot be used",
        "The file is no model that can be taken in, or was refused because it could run code.",
        "The detail says what is wrong with it.",
    ),
    "invalid-recipe": Kind(
        422,
        "The training cannot be as it was asked for",
        "A choice of the training is not known, out of its bounds, or does not fit the others.",
        "Correct the recipe as the detail says.",
    ),
    "query-refused": Kind(
        422,
        "The question was refused",
        "The SQL is more than one SELECT, names a table that holds secrets, or is not understood by the database.",
        "Ask one SELECT over Pixmill's tables and views; the detail says what was wrong.",
    ),
    "query-too-slow": Kind(
        422,
        "The question takes too long",
        "The SQL took longer than it may.",
        "Ask for less, or allow more with `timeout_s`.",
    ),
    "not-rendered": Kind(
        422,
        "No small copy can be made of it",
        "The picture cannot be decoded, or only at more than it may take; `code` is one of those in failures.md.",
        "Ask for the original; the detail says what stood in the way.",
    ),
    "key-reused": Kind(
        422,
        "The Idempotency-Key belongs to another request",
        "The `Idempotency-Key` came before, with another body.",
        "Use a new key for a new request.",
    ),
    "webhook-refused": Kind(
        422,
        "The webhook's URL may not be called",
        "The URL is not https, has a name or password in it, leads to a private address, or the secret is too short.",
        "Name an https URL on the public internet; PIXMILL_ALLOW_PRIVATE_WEBHOOKS allows others.",
    ),
    "rate-limited": Kind(
        429,
        "Too many requests",
        "The token sent more requests in a minute than it may.",
        "Wait as `Retry-After` says; `RateLimit` tells what is left.",
    ),
    "upload-full": Kind(
        429,
        "Too many uploaded bytes are kept",
        "The owner's uploads together would be larger than they may be.",
        "Delete uploads, let jobs that read them end, or ask for a higher limit.",
    ),
    "queue-full": Kind(
        429,
        "Too many images are waiting",
        "The owner's images that wait, with those of this job, would be more than there may be.",
        "Let jobs finish, cancel some, or ask for a higher limit.",
    ),
    "internal": Kind(
        500,
        "Something went wrong inside",
        "A defect of Pixmill.",
        "Report it with the `request_id`; the server's log has the rest.",
    ),
    "not-installed": Kind(
        501,
        "This server lacks a package for it",
        "The operation needs an optional package.",
        "Install what the detail names, or use a server that has it.",
    ),
    "database-unavailable": Kind(
        503,
        "The database cannot be used now",
        "The database does not answer, is locked for longer than five seconds, only reads, or has another schema.",
        "Try again as `Retry-After` says; `/readyz?verbose` tells more.",
    ),
    "unavailable": Kind(
        503,
        "A part that is needed does not answer",
        "As many imports, evaluations, dry runs, submissions or small copies are being made as may be at once, or a "
        "hub of models cannot be reached.",
        "Try again as `Retry-After` says; `/readyz?verbose` tells more.",
    ),
    "too-many-streams": Kind(
        503,
        "Too many listeners at once",
        "A token may listen to so many jobs at once, and so may all together.",
        "Close some event streams, or ask for the state instead.",
    ),
    "too-many-exports": Kind(
        503,
        "Too many exports at once",
        "Four exports run at once, two for one token.",
        "Try again as `Retry-After` says; pages are always there.",
    ),
    "disk-full": Kind(
        507,
        "No space is left",
        "The disk of the database, the uploads or the models is full.",
        "Free some on the server's disk, then try again; nothing was lost.",
    ),
}
