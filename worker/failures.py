"""The one table that decides what a failure means: fail the item, retry the shard, or fail the job.

| what was raised                                   | what happens                                                  |
|---------------------------------------------------|---------------------------------------------------------------|
| ImageError while reading or decoding              | the item's row, with the error's own code                     |
| MemoryError while decoding                        | the item's row, `out_of_memory`                               |
| EngineOutOfMemory                                 | the batch is halved; a single image becomes `out_of_memory`   |
| another EngineError                               | the batch is halved; a single image becomes `model_error`     |
| ModelRefused, InvalidModel, UnknownModel          | the job fails, with the reason                                |
| OSError, MemoryError while a model is loaded      | tried again; after three times in a row the job fails         |
| DeviceError                                       | the worker ends, and stays down; another takes the shard      |
| LeaseLost                                         | this attempt's work is thrown away; another has the shard     |
| DatabaseUnavailable                               | the shard is tried again when the database is back            |
| DatabaseFull, OSError of a full disk              | work waits with what it has, until there is space             |
| the process dies, or is ended for its memory or   | what it had in hand is prepared alone, in a child process:    |
| for an image that takes longer than `item_s`;     | `worker_died`, `timed_out` or `out_of_memory` for the image   |
| any other error while reading or decoding         | that ends this one too, and the rest goes on                  |
| anything else                                     | the shard is tried again; after five attempts it is halved    |
"""

from collections.abc import Iterable
from dataclasses import dataclass

from models.errors import EngineError, EngineOutOfMemory, ImageError
from store.rows import NewResult


@dataclass(frozen=True, slots=True)
class ItemCode:
    """An error code of an item, and what it tells a person."""

    code: str
    meaning: str


# Documented in docs/failures.md; a test compares.
ITEM_CODES = (
    ItemCode("missing", "the file was gone when its turn came"),
    ItemCode("broken_link", "a symbolic link that leads nowhere, or in a circle"),
    ItemCode("not_a_file", "a folder, FIFO, socket or device with an image's name"),
    ItemCode("permission", "the worker may not read the file"),
    ItemCode("outside_root", "a link that leads out of the job's folder"),
    ItemCode("name_too_long", "the path is longer than the system allows"),
    ItemCode("changed", "the file changed after the job was accepted"),
    ItemCode("io_error", "the disk or the network reported an error"),
    ItemCode("empty", "the file holds no byte"),
    ItemCode("too_large", "the file is larger than the limit"),
    ItemCode("not_image", "the content is not an image"),
    ItemCode("unsupported", "an image of a format that is not read"),
    ItemCode("truncated", "the file ends before the image does"),
    ItemCode("corrupt", "the image's data is broken"),
    ItemCode("too_many_pixels", "the image has more pixels than the limit"),
    ItemCode("timed_out", "reading and decoding it took longer than the limit, also when it was alone"),
    ItemCode("out_of_memory", "the image alone did not fit the memory"),
    ItemCode("model_error", "the model failed on this image alone"),
    ItemCode("worker_died", "the process that worked on this file died, also when it was alone with it"),
)

DECODING_ERRORS = (ImageError, MemoryError)  # what preparing one image may raise


def of_decoding(idx: int, error: Exception, content_hash: bytes | None = None) -> NewResult:
    """The row of an item that could not be read or decoded."""
    if isinstance(error, ImageError):
        return NewResult(idx, "failed", error_code=error.code, error=str(error), content_hash=content_hash)
    return NewResult(
        idx, "failed", error_code="out_of_memory", error="decoding the image took more memory than there is"
    )


def of_engine(idx: int, error: EngineError, content_hash: bytes | None = None) -> NewResult:
    """The row of an item on which the engine failed even alone."""
    code = "out_of_memory" if isinstance(error, EngineOutOfMemory) else "model_error"
    return NewResult(idx, "failed", error_code=code, error=str(error), content_hash=content_hash)


def unknown_codes(codes: Iterable[str]) -> str:
    """What to tell of codes that no item can fail with; empty where there are none."""
    known = [item.code for item in ITEM_CODES]
    strange = [code for code in codes if code not in known]
    return f"expected an error code of images, got {strange[0]!r}. There are {', '.join(known)}" if strange else ""
