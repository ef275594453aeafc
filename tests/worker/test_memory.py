"""How much memory there is: the machine's, or what a control group leaves of it."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from worker.memory import MIB, memory_limit, resident_bytes, total_bytes


def machine(root: Path, groups: str, limits: dict[str, str], total_kib: int = 8 << 20) -> Path:
    """A root folder that says so."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal:       {total_kib} kB\nMemFree: 1 kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


GIB = 1 << 30
REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("", {}, 8 * GIB),
        ("0::/\n", {"memory.max": str(2 * GIB)}, 2 * GIB),  # in a container
        ("0::/a/b\n", {"memory.max": "max", "a/memory.max": str(GIB), "a/b/memory.max": "max"}, GIB),
        ("0::/a/b\n", {"a/memory.max": str(3 * GIB), "a/b/memory.max": str(GIB)}, GIB),
        ("0::/../..\n", {"memory.max": str(16 * GIB)}, 8 * GIB),
        ("5:cpu,cpuacct:/a\n4:memory:/a\n", {"memory/a/memory.limit_in_bytes": str(GIB)}, GIB),
        ("4:memory:/docker/x\n0::/\n", {"memory/memory.limit_in_bytes": str(GIB)}, GIB),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 8 * GIB),
        ("nonsense\n", {}, 8 * GIB),
    ],
)
def test_the_least_of_machine_and_groups_counts(
    tmp_path: Path, groups: str, limits: dict[str, str], expected: int
) -> None:
    assert total_bytes(machine(tmp_path, groups, limits)) == expected


def test_a_limit_is_as_set_or_four_fifths() -> None:
    assert memory_limit(700) == 700 * MIB
    total = total_bytes()
    assert total is not None
    assert memory_limit(0) == int(total * 0.8)


def test_the_kernel_is_told_whom_to_end_first() -> None:
    code = (
        "from worker.memory import be_ended_first; be_ended_first(700); print(open('/proc/self/oom_score_adj').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["700"]


def test_what_a_process_has_is_known_and_of_one_that_is_gone_nothing() -> None:
    taken = resident_bytes(os.getpid())
    assert taken is not None
    assert taken > 10 * MIB
    assert resident_bytes(2**30) is None


WITH_WASTE = """
import gc, os
from worker.memory import MIB, give_back, resident_bytes
gc.disable()
before = resident_bytes(os.getpid())
waste = [bytearray(2000) for _ in range(30_000)]
kept = bytearray(2000)  # at the end of the heap, which cannot shrink by itself then
waste.append(waste)
del waste
wasted = resident_bytes(os.getpid())
give_back()
print((wasted - before) // MIB, (resident_bytes(os.getpid()) - before) // MIB)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep what they keep")
def test_what_lies_in_circles_or_free_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_WASTE], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    wasted, left = map(int, done.stdout.split())
    assert wasted >= 50
    assert left <= 10
