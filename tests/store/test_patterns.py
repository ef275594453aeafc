"""Beginnings and patterns of names mean the same on both databases."""

import pytest
from sqlalchemy import select

from store import jobs
from store.database import Database
from store.patterns import literal_prefix, matches, starts_with
from store.rows import NewItem, NewJob
from store.tables import items

NAMES = [
    "a",
    "A",
    "ab",
    "a%b",
    "a_b",
    "a*b",
    "a[b]",
    "a\\b",
    "a\ud7ff".encode("utf-8", "ignore").decode(),
    "a\U0010ffff",
    "é/1.jpg",
    "é/2.JPG",
]


@pytest.fixture
def named(database: Database) -> Database:
    jobs.accept(database, NewJob(None, root=b"/"), (NewItem(name.encode()) for name in dict.fromkeys(NAMES)))
    return database


def found(database: Database, condition: object) -> set[str]:
    with database.read() as connection:
        return set(connection.scalars(select(items.c.path).where(condition)))  # type: ignore[arg-type]  # a column's


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("a", {name for name in NAMES if name.startswith("a")}),
        ("a%", {"a%b"}),
        ("A", {"A"}),
        ("é/", {"é/1.jpg", "é/2.JPG"}),
        ("a\U0010ffff", {"a\U0010ffff"}),
        ("\U0010ffff", set()),
        ("a\ud7ff".encode("utf-8", "surrogatepass").decode("utf-8", "ignore") + "\ud7fe", set()),
    ],
)
def test_a_beginning_is_compared_by_its_characters(named: Database, prefix: str, wanted: set[str]) -> None:
    assert found(named, starts_with(items.c.path, prefix)) == wanted


@pytest.mark.parametrize(
    ("glob", "wanted"),
    [
        ("a?b", {"a%b", "a_b", "a*b", "a\\b"}),
        ("a_b", {"a_b"}),
        ("a%b", {"a%b"}),
        ("a[b]", {"a[b]"}),
        ("a\\b", {"a\\b"}),
        ("*.jpg", {"é/1.jpg"}),
        ("*/?.*", {"é/1.jpg", "é/2.JPG"}),
        ("?", {"a", "A"}),
        ("*", set(NAMES)),
    ],
)
def test_a_pattern_has_two_wildcards_and_takes_all_else_as_it_is(named: Database, glob: str, wanted: set[str]) -> None:
    assert found(named, matches(items.c.path, glob)) == wanted


def test_a_pattern_begins_with_what_stands_before_its_first_wildcard() -> None:
    assert [literal_prefix(glob) for glob in ("a/b*c?", "?a*", "abc", "*")] == ["a/b", "", "abc", ""]
