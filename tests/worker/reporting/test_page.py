"""The report's page stands alone, escapes everything, and leads from each cell to its files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.pictures import picture, saved
from tests.worker.reporting.conftest import MakeEpochs, MakePredictions
from worker.reporting.gallery import make_tiles
from worker.reporting.html import Markup, tag
from worker.reporting.metrics import Prediction, evaluate
from worker.reporting.page import ReportFacts, write_report

NOW = datetime(2026, 11, 21, 22, tzinfo=UTC)
EVIL = "<script>alert(1)</script>\" onerror='x' &amp;"
CENSUS = {
    "images": 300, "counts": {"cat": {"train": 100, "val": 20}, EVIL: {"train": 160, "val": 20}},
    "unreadable": {"truncated": 28, "not_image": 2}, "imbalance": 1.6, "identical": 12, "near": 3, "conflicts": 1,
    "leaks": 2, "width": {"smallest": 10, "median": 20, "largest": 30},
    "height": {"smallest": 11, "median": 21, "largest": 31}, "small": {},
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would find: elements, addresses, texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self._within = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self._within = tag
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in {"href", "src", "xlink:href"} and value:
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        self._within = "" if tag == self._within else self._within

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts.append(data)
        else:
            self.text += data


def _facts(make_predictions: MakePredictions, labels: Sequence[str], count: int = 200) -> ReportFacts:
    return ReportFacts("birds@3", NOW, "200 images", evaluate(make_predictions(labels, count), labels))


def _picture(one: Prediction) -> bytes | None:
    return saved(picture(300, 200, seed=one.idx % 5), "JPEG")


def test_a_whole_report_has_its_page_its_figures_and_its_files(
    make_predictions: MakePredictions, make_epochs: MakeEpochs, tmp_path: Path
) -> None:
    facts = replace(
        _facts(make_predictions, ["cat", "dog", "eel"]),
        epochs=make_epochs(30, second=20, best=25), restarts=[7], facts={"Device": "cpu"}, census=CENSUS,
        recipe='mode = "head"\nepochs = 30\n', versions={"keras": "3.15"}, picture=_picture,
    )  # fmt: skip
    page = write_report(tmp_path / "report", facts)
    assert page == tmp_path / "report" / "index.html"
    pairs = {f"{name}{suffix}" for name in ("curve", "confusion", "confusion_counts", "calibration", "mistakes")
             for suffix in (".svg", ".png")}  # fmt: skip
    made = {path.name for path in page.parent.iterdir()}
    assert made == pairs | {"index.html", "images", "report.json", "classes.csv"}
    found = Page(page)
    for words in ("birds@3", "Epoch", "all layers", "30 files could not be read", "two different labels", "keras"):
        assert words in found.text
    assert 'mode = "head"\nepochs = 30' in found.text


def test_the_page_needs_no_server_and_no_network(make_predictions: MakePredictions, tmp_path: Path) -> None:
    facts = replace(_facts(make_predictions, ["cat", "dog", "eel"]), picture=_picture)
    page = write_report(tmp_path, facts)
    found = Page(page)
    assert found.links
    for link in found.links:
        if link.startswith("#"):
            assert link[1:] in found.ids
        else:
            assert (page.parent / link).is_file()
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", found.source)
    assert "link" not in found.names
    assert "iframe" not in found.names


def test_every_cell_leads_to_its_files(make_predictions: MakePredictions, tmp_path: Path) -> None:
    facts = _facts(make_predictions, ["cat", "dog", "eel"])
    assert facts.evaluation is not None
    found = Page(write_report(tmp_path, facts))
    for true, guess in facts.evaluation.cells:
        assert f"#cell-{true}-{guess}" in found.links
        assert f"cell-{true}-{guess}" in found.ids
    for one in facts.evaluation.mistakes:
        assert one.path in found.text


def test_names_and_texts_from_anywhere_are_escaped(
    make_predictions: MakePredictions, make_epochs: MakeEpochs, tmp_path: Path
) -> None:
    labels = [EVIL, "cat", "\x1b[31m\ud800"]
    rows = [replace(one, path=f"{EVIL}/{one.path}") for one in make_predictions(labels, 90)]
    epochs = [replace(epoch, phase=EVIL if epoch.epoch > 2 else "head") for epoch in make_epochs(4)]
    facts = ReportFacts(
        EVIL, NOW, EVIL, evaluate(rows, labels), epochs, [2], {EVIL: EVIL}, CENSUS, EVIL, {EVIL: EVIL}, _picture
    )
    found = Page(write_report(tmp_path, facts))
    assert len(found.scripts) == found.names.count("script") == 1
    assert "alert" not in found.scripts[0]
    assert found.handlers == []
    assert found.text.count(EVIL) > 20  # read back as it was
    assert "\x1b" not in found.source


def test_only_the_script_of_the_page_may_run(make_predictions: MakePredictions, tmp_path: Path) -> None:
    from base64 import b64encode
    from hashlib import sha256

    found = Page(write_report(tmp_path, _facts(make_predictions, ["cat", "dog"])))
    digest = b64encode(sha256(found.scripts[0].encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in found.source
    assert "default-src &#x27;none&#x27;" in found.source


def test_no_mistake_at_all_is_said(tmp_path: Path) -> None:
    rows = [Prediction(f"{index}.jpg", "cat", "cat", 0.9, ("cat", "dog"), index) for index in range(5)]
    found = Page(write_report(tmp_path, ReportFacts("m@1", NOW, evaluation=evaluate(rows, ["cat", "dog"]))))
    assert "All 5 images were classified right." in found.text
    assert not (tmp_path / "mistakes.svg").exists()


def test_a_training_without_evaluation_and_an_evaluation_without_training_have_their_reports(
    make_predictions: MakePredictions, make_epochs: MakeEpochs, tmp_path: Path
) -> None:
    one = Page(write_report(tmp_path / "a", ReportFacts("m@1", NOW, epochs=make_epochs(1))))
    assert "confusion" not in one.ids
    assert not (tmp_path / "a" / "classes.csv").exists()
    two = Page(write_report(tmp_path / "b", _facts(make_predictions, ["cat", "dog"])))
    assert "curve" not in two.ids


@pytest.mark.slow
def test_a_thousand_classes_make_a_page_that_a_browser_takes(make_predictions: MakePredictions, tmp_path: Path) -> None:
    labels = [f"class {index}" for index in range(1000)]
    page = write_report(tmp_path, _facts(make_predictions, labels, 5000))
    assert page.stat().st_size < 3_000_000
    assert "1,000 classes" in Page(page).text


def test_a_report_for_programs_has_the_same_numbers(
    make_predictions: MakePredictions, make_epochs: MakeEpochs, tmp_path: Path
) -> None:
    epochs = make_epochs(3)
    epochs[0] = replace(epochs[0], loss=float("nan"))
    facts = replace(_facts(make_predictions, ["cat", EVIL]), epochs=epochs, census=CENSUS)
    write_report(tmp_path, facts)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert facts.evaluation is not None
    assert found["evaluation"]["accuracy"] == facts.evaluation.accuracy
    assert found["training"]["epochs"][0]["loss"] is None
    assert found["training"]["best_epoch"] == 3
    assert sum(cell["images"] for cell in found["evaluation"]["confusion"]) == 200
    with (tmp_path / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["cat", EVIL]
    assert [int(row["support"]) for row in rows] == [100, 100]


def test_a_report_replaces_the_one_before(make_predictions: MakePredictions, tmp_path: Path) -> None:
    write_report(tmp_path, replace(_facts(make_predictions, ["cat", "dog"]), picture=_picture))
    rows = [Prediction("a.jpg", "cat", "dog", 0.9, ("dog",), 0)]
    write_report(tmp_path, ReportFacts("m@2", NOW, evaluation=evaluate(rows, ["cat", "dog"]), picture=_picture))
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["0000.jpg"]


def test_tiles_are_small_whole_and_never_enlarged() -> None:
    rows = [Prediction(f"{index}", "cat", "dog", 0.9, (), index) for index in range(5)]
    files = [
        saved(picture(600, 300), "JPEG"), saved(picture(32, 20), "PNG"), b"not a picture", None,
        saved(picture(600, 300), "JPEG")[:2000],
    ]  # fmt: skip
    tiles = list(make_tiles(rows, lambda one: files[one.idx]))
    from io import BytesIO

    sizes = [Image.open(BytesIO(tile.image)).size if tile.image else None for tile in tiles]
    assert sizes == [(192, 96), (32, 20), None, None, None]
    assert [tile.suffix for tile in tiles[:2]] == [".jpg", ".png"]


def test_an_element_escapes_what_is_no_markup() -> None:
    made = tag("p", "a < b", Markup("<br>"), None, 3, class_='x"y', hidden=True, title=None)
    assert made == '<p class="x&quot;y" hidden>a &lt; b<br>3</p>'
