"""The demonstration's parts: digits as PNG folders, a network trained on them, and that network imported and asked."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.digits import EPOCHS, IMPORT_AS, PREPROCESSING, Epoch, train_digits, write_digits
from models.engines.openvino import OpenVINOEngine
from models.files import sha256_of
from models.images import load_picture
from models.importing import import_keras
from models.registry import Registry


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


@pytest.mark.slow
def test_a_network_trained_on_the_spot_is_imported_and_reads_digits_it_has_not_seen(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    told: list[Epoch] = []
    file, labels = train_digits(tmp_path / "trained", folders[0], each_epoch=told.append)
    assert [epoch.epoch for epoch in told] == list(range(1, EPOCHS + 1))
    assert told[-1].val_accuracy > 0.95
    assert sorted((tmp_path / "trained").iterdir()) == [file, labels]

    version = import_keras(file, Registry(tmp_path / "models"), labels=labels, overrides=IMPORT_AS)
    assert version.reference == "digits@1"
    assert version.manifest.preprocessing == PREPROCESSING
    assert version.labels == tuple("0123456789")

    files = sorted(folders[1].glob("*/*.png"))
    pictures = np.stack([load_picture(file.read_bytes(), version.manifest.preprocessing).pixels for file in files])
    engine = OpenVINOEngine(version, batch_size=len(files))
    indices, _scores = engine.predict(pictures)
    engine.close()
    truth = [int(file.parent.name) for file in files]
    assert np.mean(indices[:, 0] == truth) >= 0.97
