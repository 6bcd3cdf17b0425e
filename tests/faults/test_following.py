"""What follows real workers lets a right story pass, and no wrong one."""

from typing import Any

import pytest

from tests.faults.following import Follower

# Two hits count, the answer to a third is lost; the journal takes it, and its writer is killed.
STORY: list[list[Any]] = [
    [1, 10, 0, "writer", "w"],
    [2, 10, 0, "numbers", [[1, 2]]],
    [3, 10, 0, "asks", 0, 1, [[1, 2]]],
    [4, 10, 0, "hears", 1, 0.0, 0.1, [[1, 2]], 0],
    [5, 10, 0, "numbers", [[2, 1]]],
    [6, 10, 0, "asks", 1, 2, [[2, 1]]],
    [7, 10, 0, "errs"],
    [8, 10, 0, "takes", 4, [[1, 2], [2, 1], [3, 4]]],
    [9, 10, 0, "appended", 2],
    [20, 11, 0, "adopts", "w", [[1, 2], [2, 1], [3, 4]]],
    [21, 11, 0, "numbers", []],
    [22, 11, 0, "asks", 0, 3, [[1, 2], [2, 1], [3, 4]]],
    [23, 11, 0, "hears", 2, 1.0, 1.1, [[1, 2], [2, 1]], 0],
    [24, 11, 0, "asks", 2, 3, [[3, 4]]],
    [25, 11, 0, "hears", 3, 1.2, 1.3, [[3, 4]], 0],
    [26, 11, 0, "asks", -1, 0, []],
    [27, 11, 0, "hears", 3, 9.0, 9.1, [], 0],
    [28, 11, -1, "removes", "w"],
]


def wrong(*changed: list[Any]) -> list[str]:
    """Follow the story with some events in the place of those of the same time."""
    others = {event[0]: event for event in changed}
    story = [others.get(event[0], event) for event in STORY]
    return list(Follower(5.0, is_always=False).follow(event for event in story if event[1:]))


def test_a_story_that_the_model_allows_passes() -> None:
    assert wrong() == []


def test_a_journal_may_lack_the_append_during_which_its_writer_was_killed() -> None:
    follower = Follower(5.0, is_always=False)
    story = [*STORY[:8], [20, 11, 0, "takes", 0, []]]
    assert list(follower.follow([*STORY[:8], [20, 11, 0, "adopts", "w", []]])) == []
    assert follower.n_events == len(story)


def test_a_journal_may_still_be_there_if_whoever_removed_it_was_killed() -> None:
    again = [30, 12, 0, "adopts", "w", [[1, 2], [2, 1], [3, 4]]]
    assert list(Follower(5.0, is_always=False).follow([*STORY, again])) == []
    removed = [29, 11, -1, "removed", "w"]
    (wrong,) = Follower(5.0, is_always=False).follow([*STORY, removed, again])
    assert wrong.endswith("the journal holds {}")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ([2, 10, 0, "numbers", [[2, 2]]], "the model numbers [(1, 2)]"),
        ([6, 10, 0, "asks", 0, 2, [[2, 1]]], "the model asks (1, 2)"),
        ([4, 10, 0, "hears", 7, 0.0, 0.1, [], 0], "chunks end at [0, 1]"),
        ([4, 10, 0, "hears", 0, 0.0, 0.1, [[1, 2]], 0], "the model confirms []"),
        ([4, 10, 0, "hears", 1, 0.0, 0.1, [[1, 2]], 1], "1 records are lost"),
        ([8, 10, 0, "takes", 4, [[2, 1], [3, 4]]], "the model appends [(1, 2), (2, 1), (3, 4)]"),
        ([20, 11, 0, "adopts", "w", [[1, 2], [2, 1], [3, 5]]], "the journal holds"),
        ([22, 11, 0, "asks", 0, 3, [[1, 2], [2, 2], [3, 4]]], "record 2 had 1 hits"),
        ([27, 11, 0, "hears", 3, 2.0, 2.1, [], 0], "it is needed yet"),
    ],
)
def test_what_the_model_forbids_is_told(event: list[Any], why: str) -> None:
    assert why in wrong(event)[0]
