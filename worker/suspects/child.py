"""The process that prepares suspects, one after the other: `python -P -m worker.suspects.child`.

It reads and decodes as a worker does, with the same functions, but may be ended by it: by the image, by the limit of
its memory, or by its parent when the time is over. The first line of its input says {"max_bytes", "cache",
"memory_bytes"}; it answers {"ready": true}. Each further line is an image to prepare; the answers are JSON lines,
{"digest"} when it is read, then {"shape", "width", "height"} and the pixels, or {"code", "message"} at any time.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from models.children import die_with_parent
from models.errors import ImageError
from models.images import load_picture
from models.manifest import Preprocessing
from worker.failures import DECODING_ERRORS
from worker.memory import address_space_bytes, be_ended_first
from worker.reading import Location, Reader

NO_MEMORY = "Reading and decoding it took more than the {mib:,} MiB of memory that one image may have."


def location_of(request: Mapping[str, Any]) -> Location:
    """The location in a request, whose names are text for JSON's sake."""
    names = {name: os.fsencode(request[name]) for name in ("root", "path")}
    return Location(**{**request, **names})


def request_of(location: Location) -> dict[str, Any]:
    """The same the other way round."""
    fields = {name: getattr(location, name) for name in Location.__slots__}
    return {**fields, "root": os.fsdecode(location.root), "path": os.fsdecode(location.path)}


def limit_memory(allowed: int) -> None:
    """From here on this process may take so many bytes more, and is the first that the kernel ends when all is full."""
    be_ended_first(1000)
    taken = address_space_bytes()
    if taken is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = taken + allowed if hard == resource.RLIM_INFINITY else min(taken + allowed, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Server:
    """Answers requests until there are no more."""

    def __init__(self, start: Mapping[str, Any], answers: BinaryIO) -> None:
        self._memory = int(start["memory_bytes"])
        self._reader = Reader(int(start["max_bytes"]), Path(start["cache"]))
        self._answers = answers

    def say(self, message: Mapping[str, Any], pixels: bytes = b"") -> None:
        """One answer."""
        self._answers.write(json.dumps(message).encode() + b"\n" + pixels)
        self._answers.flush()

    def answer(self, request: Mapping[str, Any]) -> None:
        """Prepare one image. Whatever is no error of decoding ends this process, which is an answer too."""
        try:
            content = self._reader.read(location_of(request["location"]))
            self.say({"digest": content.digest.hex()})
            picture = load_picture(content.data, Preprocessing(**request["preprocessing"]), request["max_pixels"])
        except ImageError as error:
            self.say({"code": error.code, "message": str(error)})
        except DECODING_ERRORS:
            self.say({"code": "out_of_memory", "message": NO_MEMORY.format(mib=self._memory >> 20)})
        else:
            pixels = np.ascontiguousarray(picture.pixels)
            facts = {"shape": pixels.shape, "width": picture.width, "height": picture.height}
            self.say(facts, pixels.tobytes())


def main() -> None:
    """Take the limits on, then serve."""
    die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    start = json.loads(sys.stdin.buffer.readline())
    server = Server(start, answers)
    limit_memory(int(start["memory_bytes"]))
    server.say({"ready": True})
    for line in sys.stdin.buffer:
        server.answer(json.loads(line))


if __name__ == "__main__":
    main()
