"""The trainer as a child: what it says arrives, and how it ended is told when it says nothing."""

import json
from pathlib import Path

import psutil
import pytest

from tests.running import eventually
from worker.training import process
from worker.training.process import TrainerProcess

CHILD = """
import json, os, signal, sys, time
request = json.loads(sys.stdin.readline())
if request["do"] == "answer":
    print(json.dumps({"kind": "stage", "stage": "reading"}))
    print("not a message")
    print(json.dumps({"kind": "answer", "seen": sorted(n for n in os.environ if n.startswith("PIXMILL"))}))
if request["do"] == "die":
    sys.stderr.write("something broke\\n")
    os.kill(os.getpid(), signal.SIGSEGV)
if request["do"] == "wait":
    print(json.dumps({"kind": "answer", "heard": json.loads(sys.stdin.readline())}), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "child_of_test.py").write_text(CHILD)
    monkeypatch.setattr(process, "MODULE", "child_of_test")
    monkeypatch.setattr(process, "CODE", tmp_path)
    return tmp_path / "trainer.log"


def test_messages_arrive_in_order_and_secrets_are_withheld(child: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMILL_DATABASE_URL", "postgresql://user:secret@host/x")
    trainer = TrainerProcess({"do": "answer"}, child, on_gpu=False)
    first, second = trainer.next(20), trainer.next(20)
    trainer.end()
    assert first == {"kind": "stage", "stage": "reading"}
    assert second is not None
    assert "PIXMILL_DATABASE_URL" not in second["seen"]


def test_a_trainer_that_dies_is_told_with_its_signal_and_last_words(child: Path) -> None:
    trainer = TrainerProcess({"do": "die"}, child, on_gpu=False)
    eventually(lambda: trainer.is_over, 20)
    words = trainer.last_words()
    trainer.end()
    assert "SIGSEGV" in words
    assert "something broke" in words
    assert str(child) in words


def test_a_wish_is_heard_and_an_end_is_an_end(child: Path) -> None:
    trainer = TrainerProcess({"do": "wait"}, child, on_gpu=False)
    trainer.tell({"wanted": "pause"})
    message = trainer.next(20)
    assert message is not None
    assert message["heard"] == json.loads('{"wanted": "pause"}')
    trainer.end()
    assert not psutil.pid_exists(trainer.pid)
    trainer.tell({"wanted": "go"})  # nobody is there: no error
