"""The demonstration's digits as PNG folders."""

from pathlib import Path

import pytest
from PIL import Image

from models.digits import write_digits
from models.files import sha256_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_digits(tmp_path_factory.mktemp("digits"))


def test_the_digits_are_pictures_in_class_folders_split_by_class(folders: tuple[Path, Path]) -> None:
    train, test = (sorted(folder.glob("*/*.png")) for folder in folders)
    assert (len(train), len(test)) == (1437, 360)
    assert not {file.name for file in train} & {file.name for file in test}
    for folder in folders:
        assert sorted(entry.name for entry in folder.iterdir()) == [str(digit) for digit in range(10)]
    assert {len(list((folders[1] / str(digit)).iterdir())) for digit in range(10)} <= {35, 36, 37}
    with Image.open(train[0]) as picture:
        assert (picture.size, picture.mode, picture.getpixel((0, 0))) == ((32, 32), "L", 255)


def test_the_split_and_the_pictures_are_the_same_every_time(folders: tuple[Path, Path], tmp_path: Path) -> None:
    again = write_digits(tmp_path)
    for before, after in zip(folders, again, strict=True):
        files = sorted(before.glob("*/*.png"))
        assert [file.relative_to(before) for file in files] == sorted(
            f.relative_to(after) for f in after.glob("*/*.png")
        )
        assert [sha256_of(file) for file in files[:20]] == [
            sha256_of(after / f.relative_to(before)) for f in files[:20]
        ]
