"""The decoder front with faults, by the number of the call: shows that those who watch it would see them.

`python -m tests.chaos.odd_front SEED FIRST STOP`. It dies, hangs, raises, or gives a code that nobody knows.
"""

import os
import signal
import sys
import time
from unittest import mock

from models.errors import ImageError
from models.images import Picture, load_picture
from models.manifest import Preprocessing
from tests.chaos import mutant_front

DIES, HANGS, RAISES, INVENTS, CHATTERS = 3, 5, 7, 9, 11


def faulty(number: int, data: bytes, preprocessing: Preprocessing) -> Picture:
    if number == DIES:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == HANGS:
        time.sleep(600)
    if number == RAISES:
        raise KeyError("an error that no table knows")
    if number == INVENTS:
        raise ImageError("invented", "Nobody knows this code.")
    if number == CHATTERS:
        raise ImageError("corrupt", "Traceback (most recent call last):\n  File …")
    return load_picture(data, preprocessing)


def main(seed: int, first: int, stop: int) -> None:
    number = first - 1

    def load(data: bytes, preprocessing: Preprocessing) -> Picture:
        nonlocal number
        number += 1
        return faulty(number, data, preprocessing)

    with mock.patch.object(mutant_front, "load_picture", load):
        mutant_front.child_main(seed, first, stop)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
