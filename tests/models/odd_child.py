"""A child for the tests of `models.children`: does what the request says, and lets libraries chatter meanwhile."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.children import Progress, answer_with
from models.errors import HubUnreachable

FOREVER_S = 600


def answer(progress: Progress) -> Mapping[str, Any]:
    progress("half")
    progress("done")
    return {"folder": str(Path.cwd()), "environment": dict(os.environ)}


def refuse(_progress: Progress) -> Mapping[str, Any]:
    raise HubUnreachable("no way there")


def fail(_progress: Progress) -> Mapping[str, Any]:
    raise ZeroDivisionError("of all things")


def babble(_progress: Progress) -> Mapping[str, Any]:
    for descriptor in range(3, 10):  # one of them is where answers go
        with contextlib.suppress(OSError):
            os.write(descriptor, b"babble\n")
    time.sleep(FOREVER_S)
    return {}


def fork(_progress: Progress) -> Mapping[str, Any]:
    if (grandchild := os.fork()) == 0:
        time.sleep(FOREVER_S)
    return {"pid": grandchild}


def sleep(progress: Progress) -> Mapping[str, Any]:
    progress(str(os.getpid()))
    time.sleep(FOREVER_S)
    return {}


def vanish(_progress: Progress) -> Mapping[str, Any]:
    os._exit(3)


ACTS = {act.__name__: act for act in (answer, refuse, fail, babble, fork, sleep, vanish)}


def work(request: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
    sys.stdout.write("a library's chatter\n")
    os.write(1, b"the chatter of C code\n")
    return ACTS[request["do"]](progress)


if __name__ == "__main__":
    answer_with(work)
