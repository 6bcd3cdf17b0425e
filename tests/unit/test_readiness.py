"""What becomes of a hit now, and how often the store is asked about it."""

import asyncio

import pytest

from hitcounter.counting.readiness import Fault, Shared, refusal, state
from hitcounter.errors import JournalError, StoreError, StoreForbidsError, StoreUnfitError
from hitcounter.metrics import JOURNALING, READY, STATES, UNAVAILABLE, UNFIT


@pytest.mark.parametrize(
    ("fault", "knows_numbers", "expected"),
    [
        (None, False, READY),
        (StoreError("away"), True, JOURNALING),
        (StoreError("away"), False, UNAVAILABLE),
        (StoreForbidsError("eval"), True, JOURNALING),
        (StoreForbidsError("eval"), False, UNFIT),
        (StoreUnfitError("it evicts"), True, UNFIT),
    ],
)
def test_without_the_store_a_hit_is_journaled_where_numbers_are_known(
    fault: Fault, knows_numbers: bool, expected: str
) -> None:
    assert state(fault, None, knows_numbers=knows_numbers) == expected
    full = JournalError("journal_full", "no room")
    assert state(fault, full, knows_numbers=knows_numbers) == "journal_full"


def test_every_state_but_two_refuses_hits_by_its_name() -> None:
    refused = [refusal(state) for state in STATES]
    assert refused[:2] == [None, None]
    assert [each.code for each in refused[2:] if each] == list(STATES[2:])


class Question:
    """A question whose answers are numbered."""

    def __init__(self) -> None:
        """Let no answer come yet."""
        self.n_asked = 0
        self.may_answer = asyncio.Event()

    async def ask(self) -> int:
        """Answer when it may."""
        self.n_asked += 1
        n = self.n_asked
        await self.may_answer.wait()
        return n


async def test_who_comes_while_a_question_is_on_its_way_gets_its_answer_or_the_next() -> None:
    for kept_s, answers in ((60.0, {1}), (0.0, {1, 2})):
        question = Question()
        shared = Shared(question.ask, kept_s)
        waiting = [asyncio.create_task(shared.answer()) for _ in range(100)]
        await asyncio.sleep(0)
        question.may_answer.set()
        assert {*await asyncio.gather(*waiting)} == answers
        assert await shared.answer() == (1 if kept_s else 3)


async def test_a_question_that_failed_or_was_given_up_is_asked_again() -> None:
    question = Question()
    shared = Shared(question.ask)
    first = asyncio.create_task(shared.answer())
    await asyncio.sleep(0)
    second = asyncio.create_task(shared.answer())
    first.cancel()
    question.may_answer.set()
    assert await second == 2
