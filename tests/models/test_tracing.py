"""The witness of the hostile models' test: it must see what it says was not there."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.tracing import acts_of, can_trace, traced

pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not watch here")

CODE = """
import os, socket, subprocess, sys
from pathlib import Path
folder, port = Path(sys.argv[1]), int(sys.argv[2])
(folder / "canary").read_text()
(folder / "new").write_text("x")
os.chdir(folder)
open("../folder/canary2").close()
os.symlink("canary2", "link")
open("link").close()
os.mkdir("made", dir_fd=os.open(".", os.O_RDONLY))
socket.create_connection(("127.0.0.1", port)).close()
subprocess.run(["true"], check=True)
"""


def test_a_file_a_connection_and_a_program_are_seen_of_children_too(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "canary").write_text("x")
    (folder / "canary2").write_text("x")
    (tmp_path / "trace").mkdir()
    outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", outer, f"# the inner one\n{CODE}", str(folder), str(server.getsockname()[1])]
        subprocess.run([*traced(tmp_path / "trace" / "t"), *words], check=True)
    outside, inside = acts_of(tmp_path / "trace" / "t", "the inner one")
    seen = {(act.kind, act.what) for act in (*outside, *inside)}
    assert ("read", f"{folder}/canary") in seen
    assert ("write", f"{folder}/new") in seen
    assert ("read", f"{folder}/canary2") in seen
    assert ("read", f"{folder}/link") not in seen
    assert ("write", f"{folder}/made") in seen
    assert any(kind == "connect" and "127.0.0.1" in what for kind, what in seen)
    assert any(kind == "run" and what == "true" for kind, what in seen)


def test_the_acts_of_one_program_are_told_from_those_of_others(tmp_path: Path) -> None:
    (tmp_path / "trace").mkdir()
    (tmp_path / "marked.py").write_text("open('/dev/zero').close()")
    outer = "import subprocess, sys; open('/dev/full'); subprocess.run([sys.executable, 'mar' + 'ked.py'], check=True)"
    words = [*traced(tmp_path / "trace" / "t"), sys.executable, "-W", "ignore", "-c", outer]
    subprocess.run(words, check=True, cwd=tmp_path)
    outside, inside = acts_of(tmp_path / "trace" / "t", "marked.py")
    assert "/dev/zero" in {act.what for act in inside}
    assert "/dev/zero" not in {act.what for act in outside}
    assert "/dev/full" in {act.what for act in outside}
    assert "/dev/full" not in {act.what for act in inside}
