"""A request of a run on small pictures, as a station would write it."""

import base64
import os
from pathlib import Path

import pytest

from models.recipes import make_recipe
from tests.trainings import NAMES, write_dataset
from worker.sources.opening import open_source
from worker.training.request import Request, TrainingItem


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", train=8, test=4)


def items_of(folder: Path) -> list[TrainingItem]:
    """The items of a folder, as they come from the database."""
    entries = enumerate(open_source([str(folder)], labels="folder"))
    return [
        TrainingItem(idx, e.path, e.size, e.mtime_ns, e.member, e.offset, e.label or "", e.split, None)
        for idx, e in entries
    ]


@pytest.fixture
def request_of_run(tmp_path: Path, dataset: Path) -> Request:
    (tmp_path / "run").mkdir()
    return Request(
        name="fruit",
        recipe=make_recipe("scratch", base=None, preset="fashion_cnn"),
        labels=NAMES,
        folder=str(tmp_path / "run"),
        attempt_folder=str(tmp_path / "run" / "attempts" / "1"),
        staging=str(tmp_path / "staging"),
        base="",
        checkpoint="",
        allow_leaks=False,
        lineage={},
        root=base64.b64encode(os.fsencode(dataset)).decode(),
        confined=True,
        precision="auto",
        max_pixels=10**6,
        max_bytes=10**7,
        cache_folder=str(tmp_path / "cache"),
        threads=2,
        on_gpu=False,
        checkpoint_s=30.0,
    )
