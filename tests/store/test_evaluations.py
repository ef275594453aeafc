"""Evaluations: what the rows of a classify job over labelled items say of a model."""

import json

import pytest
from sqlalchemy import text

from store import jobs, runs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import UnknownJob
from store.evaluations import (
    Flips,
    evaluation,
    flips,
    labelled_items,
    predictions,
    record_evaluation,
)
from store.rows import NewItem, NewJob, NewResult
from store.run_data import write_survey
from store.run_rows import EvaluationFacts, FlipRow
from tests.store.conftest import AcceptJob, train
from tests.store.test_run_data import survey

TRUE = ["robin", "robin", "robin", "wren", "wren", "finch"]
FIRST = [("robin", 0.9), ("wren", 0.8), ("robin", 0.55), ("wren", 1.0), ("robin", 0.95), ("wren", 0.3)]
SECOND = [("wren", 0.7), ("robin", 0.6), ("robin", 0.5), ("wren", 0.9), ("robin", 0.9), ("finch", 0.4)]


def evaluate(database: Database, model_id: int, said: list[tuple[str, float]], root: bytes = b"/photos") -> int:
    """A classify job over the six labelled images, with these predictions; the true label is the second best."""
    items = [NewItem(b"%d.jpg" % n, label=label) for n, label in enumerate(TRUE)]
    job_id = jobs.accept(database, NewJob(model_id, root=root, reuse=False), items)
    lease = claim(database, Claimer("w"))
    assert lease
    rows = []
    for n, (label, score) in enumerate(said):
        topk = [{"label": name, "score": score} for name in (label, "a", "b", "c", TRUE[n] if n < 5 else "d", TRUE[n])]
        rows.append(
            NewResult(
                n, "ok", label=label, score=score, topk=json.dumps(topk), content_hash=b"%016d" % n, width=4, height=3
            )
        )
    commit_slice(database, lease, rows, last=True)
    return job_id


@pytest.fixture
def other_model(database: Database) -> int:
    return register_model(database, ("birds", 2), "e" * 64, ["finch", "robin", "wren"], "{}", "/models/birds/2")


def test_the_items_of_a_split_make_an_evaluation(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    write_survey(database, train(database), survey())
    assert [(item.path, item.label, item.split) for item in labelled_items(database, job_id, "train")] == [
        (b"00000.jpg", "robin", "train"),
        (b"00002.jpg", "robin", "train"),
        (b"00003.jpg", "wren", "train"),
    ]
    assert [item.path for item in labelled_items(database, job_id, "val")] == [b"00001.jpg"]


def test_more_items_than_one_page_come_once_each(
    database: Database, accept_training: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.evaluations.PAGE", 2)
    job_id = accept_training()
    write_survey(database, train(database), survey())
    assert len(list(labelled_items(database, job_id, "train"))) == 3
    assert [row.idx for row in predictions(database, evaluate(database, 1, FIRST))] == [0, 1, 2, 3, 4, 5]


def test_predictions(database: Database, model_id: int) -> None:
    job_id = evaluate(database, model_id, FIRST)
    rows = list(predictions(database, job_id))
    assert (rows[1].path, rows[1].true_label, rows[1].label, rows[1].score) == (b"/photos/1.jpg", "robin", "wren", 0.8)
    assert rows[1].topk == ("wren", "a", "b", "c", "robin", "robin")
    with pytest.raises(UnknownJob):
        next(predictions(database, 999))


def test_the_views_agree_with_counting_by_hand(database: Database, model_id: int) -> None:
    job_id = evaluate(database, model_id, FIRST)
    with database.read() as connection:

        def ask(query: str) -> list[tuple[object, ...]]:
            return [tuple(row) for row in connection.execute(text(query), {"job": job_id})]

        figures = ask("SELECT model, images, correct, accuracy, top5_accuracy FROM v_evaluations WHERE job_id = :job")
        classes = ask(
            "SELECT label, support, predicted, correct, precision, recall, f1 FROM v_class_metrics"
            " WHERE job_id = :job ORDER BY label"
        )
        bins = ask("SELECT bin, images, mean_score, accuracy FROM v_calibration WHERE job_id = :job ORDER BY bin")
        wrong = ask(
            "SELECT path, true_label, predicted_label, score FROM v_mistakes WHERE job_id = :job ORDER BY score DESC"
        )
        by_rows = ask(
            "SELECT AVG(CASE WHEN label = true_label THEN 1.0 ELSE 0.0 END) FROM v_results WHERE job_id = :job"
        )
    assert figures == [("birds@1", 6, 3, 3 / 6, 5 / 6)]  # of the last, the sixth label is the true one
    assert float(str(by_rows[0][0])) == figures[0][3]
    assert classes == [
        ("finch", 1, 0, 0, None, 0.0, 0.0),
        ("robin", 3, 3, 2, 2 / 3, 2 / 3, 2 / 3),
        ("wren", 2, 3, 1, 1 / 3, 1 / 2, 2 / 5),
    ]
    assert [row[:2] for row in bins] == [(3, 1), (5, 1), (8, 1), (9, 3)]
    assert [row[2:] for row in bins] == [(0.3, 0), (0.55, 1), (0.8, 0), pytest.approx((0.95, 2 / 3))]
    assert wrong[0] == ("/photos/4.jpg", "wren", "robin", 0.95)
    assert len(wrong) == 3


def test_figures_of_an_evaluation_are_kept_and_renewed(
    database: Database, accept_training: AcceptJob, model_id: int
) -> None:
    run_id = runs.run_of_job(database, accept_training()).id
    job_id = evaluate(database, model_id, FIRST)
    assert evaluation(database, job_id) is None
    record_evaluation(database, job_id, EvaluationFacts(model_id, 6, 0.1, run_id=run_id))
    facts = EvaluationFacts(model_id, 6, 0.5, 5 / 6, 0.4, 0.1, "test", run_id, "/report")
    record_evaluation(database, job_id, facts)
    row = evaluation(database, job_id)
    assert row is not None
    assert (row.model, row.accuracy, row.macro_f1, row.split, row.run_id) == ("birds@1", 0.5, 0.4, "test", run_id)


def test_flips_are_found_by_content_wherever_the_files_are(database: Database, model_id: int, other_model: int) -> None:
    a = evaluate(database, model_id, FIRST)
    b = evaluate(database, other_model, SECOND, root=b"/moved")
    assert flipped(database, a, b) == [
        FlipRow("/moved/0.jpg", "robin", "robin", 0.9, "wren", 0.7, gained=False),
        FlipRow("/moved/1.jpg", "robin", "wren", 0.8, "robin", 0.6, gained=True),
        FlipRow("/moved/5.jpg", "finch", "wren", 0.3, "finch", 0.4, gained=True),
    ]
    assert [(f.label_a, f.label_b) for f in flipped(database, b, a)] == [
        ("robin", "wren"),
        ("finch", "wren"),
        ("wren", "robin"),
    ]


def flipped(database: Database, a: int, b: int) -> list[FlipRow]:
    """All of them, the lost ones first."""
    found = flips(database, a, b)
    assert (found.lost_count, found.gained_count) == (len(found.lost), len(found.gained))
    return [*found.lost, *found.gained]


def test_more_flips_than_anybody_reads_are_counted(
    database: Database, model_id: int, other_model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = evaluate(database, model_id, FIRST), evaluate(database, other_model, SECOND)
    monkeypatch.setattr("store.evaluations.MOST_FLIPS", 1)
    found = flips(database, a, b)
    assert ([one.path for one in found.lost], found.lost_count) == (["/photos/0.jpg"], 1)
    assert ([one.path for one in found.gained], found.gained_count) == (["/photos/1.jpg"], 2)


def test_flips_fall_back_on_the_path_where_a_content_is_not_known(
    database: Database, model_id: int, other_model: int
) -> None:
    a, b = evaluate(database, model_id, FIRST), evaluate(database, other_model, SECOND)
    c = evaluate(database, other_model, SECOND, root=b"/elsewhere")
    with database.write() as connection:
        connection.execute(text("UPDATE results SET content_hash = NULL WHERE job_id = :a"), {"a": a})
    assert [flip.path for flip in flipped(database, a, b)] == ["/photos/0.jpg", "/photos/1.jpg", "/photos/5.jpg"]
    assert flips(database, a, c) == Flips()


def test_copies_of_one_picture_flip_once_each(database: Database, model_id: int, other_model: int) -> None:
    a, b = evaluate(database, model_id, FIRST), evaluate(database, other_model, SECOND)
    with database.write() as connection:
        connection.execute(text("UPDATE results SET content_hash = :h WHERE idx < 1"), {"h": b"%016d" % 2})
        connection.execute(text("UPDATE results SET label = 'robin' WHERE idx IN (0, 2) AND job_id = :a"), {"a": a})
        connection.execute(text("UPDATE results SET label = 'wren' WHERE idx IN (0, 2) AND job_id = :b"), {"b": b})
    assert [f.path for f in flips(database, a, b).lost] == ["/photos/0.jpg", "/photos/2.jpg"]


def test_sql_tells_which_images_changed_their_class_between_two_versions(
    database: Database, model_id: int, other_model: int
) -> None:
    evaluate(database, model_id, FIRST)
    evaluate(database, other_model, SECOND)
    with database.read() as connection:
        query = "SELECT path, label_a, label_b, true_label FROM v_model_diff WHERE model_a = 'birds@1' ORDER BY path"
        changed = [tuple(row) for row in connection.execute(text(query))]
    assert changed == [
        ("/photos/0.jpg", "robin", "wren", "robin"),
        ("/photos/1.jpg", "wren", "robin", "robin"),
        ("/photos/5.jpg", "wren", "finch", "finch"),
    ]
