"""Mutants through the product's own loading of a picture, in a child process that is watched from outside.

A crash costs its mutant and not the run, a hang is ended, and both are told with the number that makes them again.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from models.images import load_picture
from models.manifest import Preprocessing
from tests.chaos.originals import originals
from tests.chaos.series import REPOSITORY, Mutants, shared_folder
from worker.failures import DECODING_ERRORS, ITEM_CODES, of_decoding

LIMIT_S = 60.0  # the product's own, by default: `item_s`
START_S = 60.0  # more for the first answer of a child, which has to import everything
SAMPLE_EVERY = 100  # mutants between two looks at the memory
TELL_EVERY = 5000
LONGEST_MESSAGE = 600  # characters
WISHES = (
    Preprocessing(),
    Preprocessing(64, 48, 3, "squash", interpolation="bicubic"),
    Preprocessing(96, 96, 1, "pad", interpolation="area"),
)
KNOWN = {code.code for code in ITEM_CODES}
# KiB per 1,000 mutants. Memory goes up and down by 50 MiB with the pictures: only a long run tells little from nothing.
# Flat runs of 15,000 and more were found between -82 and +45.
MOST_GROWTH_KIB, MOST_OF_SHORT_KIB = 300, 3000
TELLING = 15_000  # mutants; fewer are a short run


@dataclass
class Front:
    """What came of a run. `odd`: what must not happen, by the mutant's number."""

    seed: int
    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, int]] = field(default_factory=list)  # milliseconds, number
    memory: list[tuple[int, int]] = field(default_factory=list)  # mutants so far, resident KiB
    odd: list[tuple[int, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many mutants have an outcome."""
        return self.codes.total()

    @property
    def good(self) -> bool:
        """Whether nothing happened that must not."""
        return not self.odd

    def growth_kib(self) -> float:
        """KiB of memory that 1,000 more mutants cost."""
        return growth_kib(self.memory)

    @property
    def grows(self) -> bool:
        """Whether they cost more than a run of that length may find."""
        return self.growth_kib() >= (MOST_GROWTH_KIB if self.count >= TELLING else MOST_OF_SHORT_KIB)

    def take(self, number: int, code: str, milliseconds: float) -> None:
        """Count one outcome."""
        self.codes[code] += 1
        self.slowest = sorted([*self.slowest, (milliseconds, number)], reverse=True)[:5]

    def report(self) -> str:
        """The figures, for a person."""
        codes = ", ".join(f"{code} {count:,}" for code, count in self.codes.most_common())
        slowest = ", ".join(f"{ms:,.0f} ms (#{number})" for ms, number in self.slowest)
        lines = [
            f"front: {self.count:,} mutants of seed {self.seed} in {self.seconds:,.0f} s",
            f"  outcomes: {codes}",
            f"  slowest: {slowest}",
            f"  memory: {memory_words(self.memory)}; {self.growth_kib():+,.1f} KiB per 1,000 mutants",
            f"  crashes, hangs, other errors: {len(self.odd)}",
            *(f"    #{number}: {what}" for number, what in self.odd[:20]),
        ]
        return "\n".join(lines)


def growth_kib(memory: list[tuple[int, int]]) -> float:
    """KiB for 1,000 more, of pairs of a number and KiB: from the lowest of the second quarter to that of the last.

    The lowest: what an allocator keeps for a while after a large picture comes and goes, what leaks stays.
    """
    quarter = len(memory) // 4
    if not quarter:
        return 0.0
    early, late = memory[quarter : 2 * quarter], memory[-quarter:]
    grown = min(kib for _, kib in late) - min(kib for _, kib in early)
    between = statistics.median(at for at, _ in late) - statistics.median(at for at, _ in early)
    return 1000 * grown / between if between else 0.0


def memory_words(samples: list[tuple[int, int]]) -> str:
    """The first, the highest and the last of samples in KiB."""
    resident = [kib for _, kib in samples] or [0]
    first, most, last = (f"{kib / 1024:,.0f}" for kib in (resident[0], max(resident), resident[-1]))
    return f"{first} MiB first, {most} most, {last} last"


def run_front(
    seed: int,
    numbers: range,
    *,
    limit_s: float = LIMIT_S,
    tell: Callable[[str], object] = lambda _: None,
    module: str = "tests.chaos.mutant_front",
) -> Front:
    """Load each of these mutants in a child process; a new child goes on behind one that killed the last.

    limit_s: a child that is silent for so long hangs. module: what the child runs.
    """
    front, begun = Front(seed), time.monotonic()
    while numbers:
        words = [sys.executable, "-P", "-m", module, *map(str, (seed, numbers.start, numbers.stop))]
        done = _one_child(front, numbers, words, limit_s, tell)
        numbers = numbers[done:]
    front.seconds = time.monotonic() - begun
    return front


def _one_child(front: Front, numbers: range, words: list[str], limit_s: float, tell: Callable[[str], object]) -> int:
    """Run a child until it has done all, or one has killed it or hung; how many have an outcome now."""
    done = 0
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            words,
            stdout=subprocess.PIPE, stderr=errors, cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip
        try:
            for line in _lines(child, limit_s):
                _take(front, line)
                done += 1
                if front.count % TELL_EVERY == 0:
                    tell(f"{front.count:,} mutants, {len(front.odd)} odd\n")
            late = child.poll() is None and done < len(numbers)
        finally:
            child.kill()
            child.wait()
        if done < len(numbers):
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()[-1500:]
            if not done and "Traceback" in said and child.returncode > 0:
                raise RuntimeError(f"the child cannot even start: {said}")
            what = f"no answer within {limit_s:g} s" if late else f"it ended the process ({child.returncode}): {said}"
            front.odd.append((numbers[done], what))
            front.take(numbers[done], "hung" if late else "dead", limit_s * 1000)
            done += 1
    return done


def _lines(child: subprocess.Popen[bytes], limit_s: float) -> Iterator[bytes]:
    """The lines that the child writes, until it ends or is silent for too long."""
    if child.stdout is None:
        raise ValueError("expected a child with a pipe")
    descriptor, rest, patience = child.stdout.fileno(), b"", limit_s + START_S
    with child.stdout:
        while select.select([descriptor], [], [], patience)[0]:
            patience = limit_s
            block = os.read(descriptor, 1 << 16)
            if not block:
                child.wait()
                return
            *whole, rest = (rest + block).split(b"\n")
            yield from whole


def _take(front: Front, line: bytes) -> None:
    """One outcome, as the child writes it: number, code, milliseconds, resident KiB or nothing, what was odd."""
    said = json.loads(line)
    front.take(said["number"], said["code"], said["ms"])
    if "kib" in said:
        front.memory.append((front.count, said["kib"]))
    if "odd" in said:
        front.odd.append((said["number"], said["odd"]))


# The child


def examine(data: bytes, preprocessing: Preprocessing) -> tuple[str, str | None]:
    """The code that a row of this file would have ("ok" for a picture), and what is wrong with that."""
    try:
        picture = load_picture(data, preprocessing)
    except DECODING_ERRORS as error:
        row = of_decoding(0, error)
        code, message = str(row.error_code), str(row.error)
        if code not in KNOWN:
            return code, f"{code!r} is no code of an item"
        if not message or len(message) > LONGEST_MESSAGE or "Traceback" in message or "\n" in message:
            return code, f"no message for a person: {message[:200]!r}"
        return code, None
    except Exception as error:  # noqa: BLE001  what is looked for: anything else costs a worker its shard
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "unforeseen", f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
    shape = preprocessing.height, preprocessing.width, preprocessing.channels
    if picture.pixels.shape != shape or picture.pixels.dtype != "uint8":
        return "ok", f"{picture.pixels.shape} {picture.pixels.dtype}, expected {shape} uint8"
    return "ok", None


def child_main(seed: int, first: int, stop: int) -> None:
    """Load one after the other; a line for each, so that whoever watches knows which one was the last."""
    mutants = Mutants(seed, originals(shared_folder()))
    for number in range(first, stop):
        data = mutants[number].data
        begun = time.perf_counter()
        code, odd = examine(data, WISHES[number % len(WISHES)])
        said = {"number": number, "code": code, "ms": round(1000 * (time.perf_counter() - begun), 1)}
        if (number - first) % SAMPLE_EVERY == 0:
            said["kib"] = psutil.Process().memory_info().rss // 1024
        sys.stdout.write(json.dumps(said | ({"odd": odd} if odd else {})) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    child_main(*map(int, sys.argv[1:]))
