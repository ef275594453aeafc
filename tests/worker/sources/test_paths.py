import io
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.formats import sniff
from tests.finding import JPEG, find, write
from worker.sources.errors import BadList, EmptySource
from worker.sources.opening import open_source
from worker.sources.paths import split_paths


def test_a_list_has_a_path_a_line(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "sub/b c.jpg")
    listed = b"a.jpg\n\n./sub/b c.jpg\r\ngone.jpg"
    entries = list(open_source(["-"], stdin=io.BytesIO(listed), base=tmp_path))
    assert [(entry.path, entry.size) for entry in entries] == [
        (b"a.jpg", len(JPEG)),
        (b"sub/b c.jpg", len(JPEG)),
        (b"gone.jpg", None),
    ]


def test_a_nul_anywhere_makes_nul_the_separator(tmp_path: Path) -> None:
    assert find("-", stdin=io.BytesIO(b"line\nbreak.jpg\0b.jpg\0"), base=tmp_path) == ["line\nbreak.jpg", "b.jpg"]


def test_absolute_paths_are_kept_unless_they_are_below_the_base(tmp_path: Path) -> None:
    listed = f"{tmp_path}/a.jpg\n/elsewhere/b.jpg\n".encode()
    entries = list(open_source(["-"], stdin=io.BytesIO(listed), base=tmp_path))
    assert [entry.path for entry in entries] == [b"a.jpg", b"/elsewhere/b.jpg"]


def test_a_name_that_is_no_text_comes_through(tmp_path: Path) -> None:
    entries = list(open_source(["-"], stdin=io.BytesIO(b"caf\xe9.jpg\n"), base=tmp_path))
    assert [entry.path for entry in entries] == [b"caf\xe9.jpg"]


def test_globs_filter_the_list(tmp_path: Path) -> None:
    assert find("-", stdin=io.BytesIO(b"a.jpg\nb.png\n"), base=tmp_path, exclude=["*.png"]) == ["a.jpg"]


def test_a_picture_on_standard_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadList, match="got a JPEG picture"):
        find("-", stdin=io.BytesIO(JPEG), base=tmp_path)


@pytest.mark.parametrize("data", [b"a" * 200_000, b"x\0" + b"a" * 200_000, b"a\n" * 40_000 + b"b\0c\n"])
def test_what_is_no_list_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadList, match="Expected"):
        find("-", stdin=io.BytesIO(data), base=tmp_path)


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptySource, match="standard input"):
        find("-", stdin=io.BytesIO(b"\n\n"), base=tmp_path)


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name), min_size=1))
def test_any_names_survive_a_list_separated_by_nul(given_names: list[bytes]) -> None:
    listed = b"".join(name + b"\0" for name in given_names)
    assume(sniff(listed) is None)  # a list that begins as a picture does is taken for one
    assert list(split_paths(io.BytesIO(listed))) == given_names


def test_a_list_longer_than_a_chunk_loses_nothing() -> None:
    expected = [f"folder/{n:06d}.jpg".encode() for n in range(20_000)]
    assert list(split_paths(io.BytesIO(b"\n".join(expected)))) == expected
