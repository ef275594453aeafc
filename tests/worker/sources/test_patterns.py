import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sources.patterns import compile_pattern, is_pattern, split_pattern


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.jpg", "a.jpg", True),
        ("*.jpg", "b/a.jpg", False),
        ("**/*.jpg", "a.jpg", True),
        ("**/*.jpg", "b/c/a.jpg", True),
        ("b/**", "b/c/a.jpg", True),
        ("b/**/a", "b/a", True),
        ("b/**/a", "bc/a", False),
        ("?", "/", False),
        ("[!x]", "/", False),
        ("[]]", "]", True),
        ("[", "[", True),
        ("a[", "a[", True),
        ("[a-c]", "b", True),
        ("[c-a]", "b", False),
        ("a\nb*", "a\nbc", True),
        ("a.b", "axb", False),
        ("[--a]", "-", True),
        ("[\\w]", "\\", True),
        ("[^a]", "b", True),
    ],
)
def test_patterns_match_as_in_a_shell(pattern: str, path: str, matches: bool) -> None:
    assert bool(compile_pattern(pattern).fullmatch(path)) is matches


@given(st.text("ab.*?[]!-^\\", max_size=8), st.text("ab.-]^\\", max_size=6))
def test_within_one_name_patterns_match_what_the_standard_library_does(pattern: str, name: str) -> None:
    if "**" in pattern or "[^" in pattern or "-" in pattern:  # a class of ours also begins `[^`, as in bash
        compile_pattern(pattern)
        return
    assert bool(compile_pattern(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


def test_a_pattern_is_cut_where_its_special_part_begins() -> None:
    assert split_pattern("/data/photos/*/x.jpg") == ("/data/photos", ["*", "x.jpg"])
    assert split_pattern("/*") == ("/", ["*"])
    assert [is_pattern(text) for text in ("a.jpg", "a*", "a?", "a[b]")] == [False, True, True, True]
