"""The renderer outlives what its children do not."""

from __future__ import annotations

import io
import os
import signal
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from PIL import Image

from models.errors import ImageError
from tests.pictures import jpeg, jpeg_turned, picture, saved
from worker.thumbnails.renderer import Order, Renderer, RendererBusy


def order(data: bytes, width: int = 64, height: int = 48, max_pixels: int = 100_000_000) -> Order:
    return Order(io.BytesIO(data), len(data), width, height, max_pixels)


@pytest.fixture
def one() -> Iterator[Renderer]:
    made = Renderer(1)
    yield made
    made.stop()


def child_of(made: Renderer) -> psutil.Process:
    return psutil.Process(next(iter(made._all)).pid)


def bomb(side: int) -> bytes:
    """A small PNG that unpacks to side × side black pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_accepted_format_is_rendered(one: Renderer, kind: str) -> None:
    with Image.open(io.BytesIO(one.render(order(saved(picture(), kind))))) as image:
        assert (image.format, image.size) == ("WEBP", (64, 48))


def test_a_turned_picture_is_upright(one: Renderer) -> None:
    with Image.open(io.BytesIO(one.render(order(jpeg_turned(6), 48, 64)))) as image:
        assert image.size == (48, 64)


def test_one_child_serves_many_and_has_few_rights(one: Renderer) -> None:
    one.render(order(jpeg()))
    child = child_of(one)
    one.render(order(jpeg()))
    assert child_of(one).pid == child.pid
    memory, _ = child.rlimit(psutil.RLIMIT_AS)
    written, _ = child.rlimit(psutil.RLIMIT_FSIZE)
    assert (memory, written) == (2 << 30, 0)
    assert not [name for name in child.environ() if name.startswith("PIXMILL_")]


@pytest.mark.parametrize("data", [b"", b"no picture", jpeg()[:200], b"<svg/>"])
def test_what_is_no_picture_is_refused_and_the_child_lives(one: Renderer, data: bytes) -> None:
    one.render(order(jpeg()))
    before = child_of(one).pid
    with pytest.raises(ImageError):
        one.render(order(data))
    one.render(order(jpeg()))
    assert child_of(one).pid == before


def test_a_pixel_bomb_is_refused_by_its_header(one: Renderer) -> None:
    with pytest.raises(ImageError) as refused:
        one.render(order(bomb(20_000)))
    assert refused.value.code == "too_many_pixels"


def test_a_pixel_bomb_that_passes_the_header_ends_at_the_memory_limit(one: Renderer) -> None:
    with pytest.raises(ImageError) as refused:
        one.render(order(bomb(60_000), max_pixels=10**12))
    assert refused.value.code in ("too_many_pixels", "worker_died")
    assert one.render(order(jpeg()))


def test_a_killed_child_is_replaced_and_the_picture_rendered(one: Renderer) -> None:
    one.render(order(jpeg()))
    before = child_of(one)
    before.kill()
    assert one.render(order(jpeg()))
    assert child_of(one).pid != before.pid


def test_a_child_that_dies_at_its_work_is_replaced_once(one: Renderer) -> None:
    one.render(order(jpeg()))
    stopped = child_of(one)
    os.kill(stopped.pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (stopped.pid, signal.SIGKILL))
    killer.start()
    assert one.render(order(jpeg()))
    killer.join()


def test_a_hung_child_is_ended_when_its_time_is_over() -> None:
    made = Renderer(1, timeout_s=3)
    try:
        made.render(order(jpeg()))
        hung = child_of(made)
        os.kill(hung.pid, signal.SIGSTOP)
        with pytest.raises(ImageError, match="more than 3 s"):
            made.render(order(jpeg()))
        assert not hung.is_running()
        assert made.render(order(jpeg()))
    finally:
        made.stop()


def test_who_waits_too_long_for_a_turn_is_told() -> None:
    made = Renderer(1, timeout_s=5, wait_s=0.05)
    try:
        made.render(order(jpeg()))
        os.kill(child_of(made).pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(made.render, order(jpeg()))
            while made._turns.acquire(blocking=False):  # until the first has it
                made._turns.release()
            with pytest.raises(RendererBusy):
                made.render(order(jpeg()))
            os.kill(child_of(made).pid, signal.SIGCONT)
            assert first.result()
    finally:
        made.stop()


def test_many_at_once_get_each_their_own_picture() -> None:
    made = Renderer(2)
    try:
        with ThreadPoolExecutor(8) as pool:
            sizes = [(16 + n, 20 + n) for n in range(16)]
            answers = pool.map(lambda size: made.render(order(jpeg(), *size)), sizes)
            for size, answer in zip(sizes, answers, strict=True):
                with Image.open(io.BytesIO(answer)) as image:
                    assert image.size == size
        assert len(made._all) == 2
    finally:
        made.stop()


def test_nothing_is_left_after_stop() -> None:
    made = Renderer(1)
    made.render(order(jpeg()))
    child = child_of(made)
    made.stop()
    assert not child.is_running()
