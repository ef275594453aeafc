"""The confined process that renders small copies: `python -P -m worker.thumbnails.child`, in a folder of its own.

A picture may be made to break its decoder, so this process can do nothing but compute: no network, no program, no
writing, little memory (`models.confinement`). Each request is a JSON line {"bytes", "width", "height", "max_pixels"}
and that many bytes; each answer a JSON line {"bytes"} and the WebP, or {"code", "message"}. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from models.confinement import GIB, confine

MEMORY_BYTES = 2 * GIB  # of address space: the libraries take a quarter, 100 megapixels in RGBA two fifths
CPU_S = 600  # in all; who has used so much is replaced by a new process
QUALITY = 80


def render(data: bytes, width: int, height: int, max_pixels: int) -> bytes:
    """A WebP of exactly this size, upright. Raises ImageError."""
    import io

    from PIL import Image

    from models.images import load_picture
    from models.manifest import Preprocessing

    wanted = Preprocessing(width=width, height=height, crop="squash", interpolation="bicubic")
    picture = load_picture(data, wanted, max_pixels)
    made = io.BytesIO()
    Image.fromarray(picture.pixels).save(made, "WEBP", quality=QUALITY, method=2)
    return made.getvalue()


def answer(request: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """The answer to one request: its head, and what follows that."""
    from models.errors import ImageError

    try:
        made = render(data, request["width"], request["height"], request["max_pixels"])
    except ImageError as error:
        return {"code": error.code, "message": str(error)}, b""
    except MemoryError:
        return {"code": "too_many_pixels", "message": "Rendering it needs more memory than is allowed."}, b""
    return {"bytes": len(made)}, made


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer one request after the other."""
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["bytes"])
        if len(data) < request["bytes"]:
            return  # who asked is gone
        head, made = answer(request, data)
        answers.write(json.dumps(head).encode() + b"\n" + made)
        answers.flush()


def main() -> None:
    """Give up every right, then serve."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    confine(Path.cwd(), memory_bytes=MEMORY_BYTES, cpu_s=CPU_S, file_bytes=0)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
