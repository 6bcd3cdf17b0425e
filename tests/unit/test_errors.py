"""The errors: the tree that people read is the tree that the code raises."""

import re

import pytest

from hitcounter import errors
from hitcounter.errors import (
    STATUSES,
    HitcounterError,
    JournalError,
    MethodNotAllowed,
    Refusal,
    StoreRefusesError,
    Unavailable,
)

BRANCH = re.compile(r"^    ([│├└─ ]*)(\w+) +(?:\S.*)?$", re.MULTILINE)


def drawn_parents() -> dict[str, str]:
    """Read the tree in the docstring: each error and its parent."""
    parents, path = {}, [HitcounterError.__name__]
    for indent, name in BRANCH.findall(errors.__doc__ or ""):
        depth = len(indent) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1]
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    actual = {c.__name__: c.__base__.__name__ for c in classes if c.__base__ is not None}
    assert actual.pop("HitcounterError") == "Exception"
    assert drawn_parents() == actual


def test_a_refusal_carries_a_code_for_machines_and_a_message_for_people() -> None:
    refusal = Refusal("bad_site", "no such name")
    assert (refusal.code, str(refusal)) == ("bad_site", "no such name")


def test_a_refused_method_tells_which_are_allowed() -> None:
    refusal = MethodNotAllowed("POST, OPTIONS")
    assert refusal.allowed == "POST, OPTIONS"
    assert STATUSES[refusal.code] == 405
    assert "POST, OPTIONS" in str(refusal)


def test_who_is_sent_away_knows_when_to_come_back() -> None:
    assert Unavailable("overloaded", "too many hits").retry_after_s > 0


def test_a_journal_that_takes_nothing_says_why_to_machines_and_to_people() -> None:
    error = JournalError("journal_full", "the journal is full")
    assert (error.code, str(error)) == ("journal_full", "the journal is full")


@pytest.mark.parametrize("is_forbidden", [True, False])
def test_a_refusal_of_the_store_tells_whether_it_is_for_good(is_forbidden: bool) -> None:
    error = StoreRefusesError("NOPERM", is_forbidden=is_forbidden)
    assert (str(error), error.is_forbidden) == ("NOPERM", is_forbidden)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.StartError("two\nlines"), "two lines"),
        (FileNotFoundError(2, "No such file", "/a"), "/a: No such file"),
        (OSError(28, "No space left"), "No space left"),
        (OSError("no number"), "no number"),
        (ImportError("No module", name="sqlite3"), "this Python cannot load sqlite3: No module"),
    ],
)
def test_whatever_went_wrong_is_said_in_one_line(error: Exception, line: str) -> None:
    assert errors.one_line(error) == line
