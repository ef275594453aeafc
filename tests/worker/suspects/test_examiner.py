"""A suspect is prepared alone, and whatever it does, a verdict comes back."""

import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from models.images import load_picture
from models.manifest import Preprocessing
from tests.poison import poisoned, write_poison
from tests.running import eventually, write_images
from worker.memory import MIB, resident_bytes
from worker.reading import Location, Reader
from worker.settings import Settings
from worker.suspects.child import location_of, request_of
from worker.suspects.examiner import LEAST_BYTES, Examiner, ExaminerBroken, Verdict, allowance

SMALL = Preprocessing(width=16, height=16)
REPOSITORY = Path(__file__).parents[3]


def place(file: Path) -> Location:
    return Location(os.fsencode(file.parent), os.fsencode(file.name), True, None, None)


@pytest.fixture
def examiner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Examiner]:
    monkeypatch.setenv("PYTHONPATH", poisoned(tmp_path / "site")["PYTHONPATH"])
    made = Examiner(Settings(home=tmp_path / "home", item_s=30.0, worker_memory_mb=1))
    yield made
    made.close()


def verdict(examiner: Examiner, file: Path, halted: Callable[[], bool] = lambda: False) -> Verdict:
    found = examiner.examine(place(file), SMALL, halted)
    assert found is not None
    return found


def test_an_innocent_image_comes_back_as_a_worker_would_have_made_it(examiner: Examiner, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 2)
    for file in sorted((tmp_path / "photos").iterdir()):
        found = verdict(examiner, file)
        expected = load_picture(file.read_bytes(), SMALL)
        assert found.picture is not None
        assert np.array_equal(found.picture.pixels, expected.pixels)
        assert (found.picture.width, found.picture.height) == (expected.width, expected.height)
        assert found.digest == Reader().read(place(file)).digest
        assert not found.guilty


def test_a_grey_model_gets_one_channel(examiner: Examiner, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 1)
    file = tmp_path / "photos/000000.png"
    found = examiner.examine(place(file), Preprocessing(width=20, height=10, channels=1), lambda: False)
    assert found is not None
    assert found.picture is not None
    assert found.picture.pixels.shape == (10, 20, 1)


def test_an_image_that_is_merely_broken_has_its_own_code(examiner: Examiner, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    found = verdict(examiner, tmp_path / "a.png")
    assert (found.code, found.guilty) == ("not_image", False)
    assert found.digest is not None
    found = verdict(examiner, tmp_path / "gone.png")
    assert (found.code, found.digest, found.guilty) == ("missing", None, False)


@pytest.mark.parametrize(
    ("mark", "code", "words"),
    [
        ("segfault", "worker_died", "SIGSEGV"),
        ("hang", "timed_out", "more than 1 s"),
        ("hang_with_the_lock", "timed_out", "more than 1 s"),
        ("memory", "out_of_memory", "512 MiB"),
        ("bug", "worker_died", "RuntimeError: nobody thought of this"),
    ],
)
def test_poison_gets_its_code_and_the_next_image_its_pixels(
    examiner: Examiner, tmp_path: Path, mark: str, code: str, words: str
) -> None:
    write_images(tmp_path / "photos", 1)
    write_poison(tmp_path / "poison.png", mark)
    if mark.startswith("hang"):  # or nobody wants to wait for it
        examiner._settings = examiner._settings.model_copy(update={"item_s": 1.0})
    found = verdict(examiner, tmp_path / "poison.png")
    assert (found.code, found.guilty, found.picture) == (code, True, None)
    assert words in found.message
    assert found.digest == Reader().read(place(tmp_path / "poison.png")).digest
    examiner._settings = examiner._settings.model_copy(update={"item_s": 30.0})
    assert verdict(examiner, tmp_path / "photos/000000.png").picture is not None


def test_a_child_that_somebody_else_ended_convicts_nobody(examiner: Examiner, tmp_path: Path) -> None:
    write_poison(tmp_path / "slow.png", "slow")
    verdict(examiner, tmp_path / "slow.png")
    assert examiner._child is not None
    os.kill(examiner._child._process.pid, signal.SIGKILL)
    assert verdict(examiner, tmp_path / "slow.png").picture is not None


def test_a_worker_that_is_to_stop_does_not_wait_for_a_verdict(examiner: Examiner, tmp_path: Path) -> None:
    write_poison(tmp_path / "poison.png", "hang")
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert examiner.examine(place(tmp_path / "poison.png"), SMALL, stop.is_set) is None
    assert not examiner.is_busy


def test_a_child_that_does_not_start_is_no_images_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no such library')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExaminerBroken, match="does not start"):
        Examiner(Settings(home=tmp_path / "home")).examine(place(tmp_path / "a.png"), SMALL, lambda: False)


def test_a_member_of_an_archive_is_found_too(examiner: Examiner, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 1)
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "photos/000000.png", "one.png")
    with tarfile.open(tmp_path / "photos.tar.gz") as archive:
        member = archive.getmember("one.png")
    facts = member.size, None, member.name, member.offset_data
    location = Location(os.fsencode(tmp_path), b"photos.tar.gz", True, *facts)
    found = examiner.examine(location, SMALL, lambda: False)
    assert found is not None
    assert found.picture is not None


def test_names_that_are_no_text_survive_the_way_to_the_child() -> None:
    location = Location(b"/\xff\xfe", b"a\xc3\xa9\x80.png", True, 5, 6, "m\udc80", 7)
    import json

    assert location_of(json.loads(json.dumps(request_of(location)))) == location


def test_the_child_imports_no_framework_and_no_database() -> None:
    code = "import sys, worker.suspects.child; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"tensorflow", "keras", "openvino", "sqlalchemy", "celery", "kombu"}


def test_the_child_ends_with_the_worker_even_while_it_hangs(tmp_path: Path) -> None:
    write_poison(tmp_path / "poison.png", "hang")
    code = f"""
import sys, threading
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from tests.worker.suspects.test_examiner import SMALL, place
from worker.settings import Settings
from worker.suspects.examiner import Examiner
examiner = Examiner(Settings(home=Path({str(tmp_path)!r})))
threading.Thread(target=lambda: examiner.examine(place(Path({str(tmp_path / "poison.png")!r})), SMALL, bool)).start()
while examiner._child is None:
    pass
print(examiner._child._process.pid, flush=True)
"""
    environment = {**os.environ, **poisoned(tmp_path / "site")}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20, "the end of the child")


def test_one_image_may_take_what_its_limits_need_or_what_the_worker_has_left() -> None:
    plenty = Settings(worker_memory_mb=1 << 20, max_pixels=10_000_000, max_file_mb=10)
    assert allowance(plenty, 0) == (256 + 3 * 10) * MIB + 20 * 10_000_000
    tight = Settings(worker_memory_mb=2000)
    assert allowance(tight, 1000 * MIB) == 1000 * MIB
    assert allowance(tight, 1900 * MIB) == LEAST_BYTES


BIG = 4000, 3000


def big(kind: str, mode: str, **options: Any) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        tile = np.random.default_rng(1).integers(0, 256, (10, 40, 4), dtype=np.uint8)
        Image.fromarray(np.tile(tile, (BIG[1] // 10, BIG[0] // 40, 1)), "RGBA").convert(mode).save(
            file, kind, **options
        )

    return make


@pytest.mark.parametrize(
    "make",
    [
        big("PNG", "RGBA", compress_level=1),
        big("PNG", "P", compress_level=1),
        big("WEBP", "RGBA", quality=1, method=0),
        big("TIFF", "RGBA", compression="tiff_lzw"),
        big("GIF", "P"),
        big("JPEG", "CMYK"),
    ],
    ids=["png", "png-palette", "webp", "tiff", "gif", "jpeg-cmyk"],
)
def test_no_picture_within_the_pixel_limit_needs_more_than_a_suspect_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.setattr("worker.suspects.examiner.BASE_BYTES", 32 * MIB)  # what counts is what grows with the picture
    file = tmp_path / "big"
    make(file)
    limits = Settings(
        home=tmp_path, worker_memory_mb=1 << 20, max_pixels=BIG[0] * BIG[1], max_file_mb=file.stat().st_size // MIB + 1
    )
    examiner = Examiner(limits)
    try:
        found = verdict(examiner, file)
        assert found.picture is not None, found
    finally:
        examiner.close()


def test_the_limit_of_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the picture takes all it can get, the child never has more than it may."""
    monkeypatch.setenv("PYTHONPATH", poisoned(tmp_path / "site")["PYTHONPATH"])
    write_poison(tmp_path / "poison.png", "memory")
    examiner = Examiner(Settings(home=tmp_path / "home", worker_memory_mb=1))
    most, done = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.is_set():
            if examiner._child is not None:
                most = max(most, resident_bytes(examiner._child._process.pid) or 0)
            time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    verdict(examiner, tmp_path / "poison.png")
    done.set()
    thread.join()
    assert 100 * MIB < most < LEAST_BYTES + 300 * MIB
