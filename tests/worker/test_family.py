"""A worker's parent and child: the rest after deaths, the dead child that nobody replaces, the parent that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from worker.family import CHILDLESS

REPOSITORY = Path(__file__).parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, since it forks; its first lines make a Family."""
    begin = "import os, signal, sys, time, threading\nfrom worker import family\nhere = family.Family()\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", begin + textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_children_that_die_one_after_the_other_rest_longer_and_longer_until_one_lives() -> None:
    done = run(
        """
        rests = []
        for n in range(10):
            if n == 8:
                here.numbers.born -= 61  # the eighth lived for a minute
            read, write = os.pipe()
            if os.fork() == 0:
                os.write(write, str(here.begin_child()).encode())
                os._exit(0)
            rests.append(float(os.read(read, 20)))
            os.wait()
        print(rests)
        """
    )
    assert done.stdout.strip() == "[0.0, 0.0, 0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 0.0, 0.0]", done.stderr


def test_a_new_child_is_not_taken_for_one_at_work() -> None:
    done = run(
        """
        here.numbers.is_rung = here.numbers.is_looking = True
        print(here.is_working)
        here.begin_child = type(here).begin_child.__get__(here)
        if os.fork() == 0:
            here.begin_child()
            os._exit(0)
        os.wait()
        print(here.is_working)
        """
    )
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_a_parent_whose_dead_child_nobody_replaces_gives_itself_up() -> None:
    done = run(
        """
        family.LOOK_S = 0.05
        child = os.fork()
        if child == 0:
            here.begin_child()
            time.sleep(600)
        threading.Thread(target=here.mind_child, daemon=True).start()
        while not here.numbers.child:
            time.sleep(0.01)
        time.sleep(1)
        print("lives", here.has_lost_child(), flush=True)
        os.kill(child, signal.SIGKILL)  # and nobody waits for it: it stays a zombie
        time.sleep(60)
        """
    )
    assert (done.returncode, done.stdout.split()) == (CHILDLESS, ["lives", "False"]), done.stderr


def test_a_parent_that_is_to_stop_is_left_to_it() -> None:
    done = run(
        """
        family.LOOK_S = 0.02
        if os.fork() == 0:
            here.begin_child()
            os._exit(0)
        os.wait()
        here.numbers.is_stopping = True
        threading.Thread(target=here.mind_child, daemon=True).start()
        time.sleep(1)
        print(here.has_lost_child())
        """
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_a_child_whose_parent_was_gone_before_it_began_ends() -> None:
    done = run(
        """
        here.parent -= 1  # as if it had ended: our parent is another one now
        child = os.fork()
        if child == 0:
            here.begin_child()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert done.stdout.strip() == "1", done.stderr
