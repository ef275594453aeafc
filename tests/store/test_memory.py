"""Known answers: the same bytes, or an unchanged file, with the same model."""

from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.memory import recall
from store.rows import NewResult
from store.tables import results
from tests.store.conftest import AcceptJob

CONTENT, FILE = b"c" * 16, b"f" * 16


def answer(database: Database, accept_job: AcceptJob, top_k: int = 2) -> None:
    accept_job(1, top_k=top_k)
    lease = claim(database, Claimer("w"))
    assert lease
    topk = '[{"label": "robin", "score": 0.9}, {"label": "wren", "score": 0.1}]'
    row = NewResult(
        0, "ok", label="robin", score=0.9, topk=topk, content_hash=CONTENT, width=4, height=3, file_key=FILE
    )
    commit_slice(database, lease, [row], last=True)


def test_an_answer_is_found_by_content_and_by_file(database: Database, accept_job: AcceptJob, model_id: int) -> None:
    answer(database, accept_job)
    known = recall(database, model_id, 2, [CONTENT, FILE, b"x" * 16])
    assert set(known) == {CONTENT, FILE}
    assert (known[FILE].label, known[FILE].content_hash) == ("robin", CONTENT)


def test_a_shorter_top_k_is_cut_from_a_longer_one_and_never_the_reverse(
    database: Database, accept_job: AcceptJob, model_id: int
) -> None:
    answer(database, accept_job)
    assert recall(database, model_id, 1, [CONTENT])[CONTENT].topk == '[{"label": "robin", "score": 0.9}]'
    assert recall(database, model_id, 3, [CONTENT]) == {}


def test_another_model_knows_nothing(database: Database, accept_job: AcceptJob, model_id: int) -> None:
    answer(database, accept_job)
    assert recall(database, model_id + 1, 1, [CONTENT]) == {}


def test_more_keys_than_one_query_takes(database: Database, accept_job: AcceptJob, model_id: int) -> None:
    answer(database, accept_job)
    keys = [n.to_bytes(16, "big") for n in range(1300)]
    assert set(recall(database, model_id, 1, [*keys, FILE])) == {FILE}


def test_an_answer_whose_row_tells_of_another_content_is_not_given(
    database: Database, accept_job: AcceptJob, model_id: int
) -> None:
    answer(database, accept_job)
    with database.write() as connection:
        connection.execute(results.update().values(content_hash=b"z" * 16))
    assert CONTENT not in recall(database, model_id, 2, [CONTENT])
