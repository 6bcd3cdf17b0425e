"""Every interleaving of a few hits and faults keeps the promise, and none leads to where it ends.

`make explore` goes further, as far as memory and patience reach.
"""

import pytest

from tests.search.mutants import ASSUMED, MUTANTS, Mutant
from tests.search.search import Found, search

pytestmark = pytest.mark.timeout(600)


def found(mutant: Mutant) -> Found:
    """Search what a wrong variant leads to."""
    with mutant.applied():
        return search(*mutant.size, mutant.rules(), has_others=mutant.has_others)


@pytest.mark.parametrize(
    ("n_writers", "n_hits", "n_faults", "has_others", "least"),
    [
        (1, 2, 2, False, 5_000),
        (1, 2, 1, True, 10_000),
        pytest.param(1, 1, 3, True, 30_000, marks=pytest.mark.slow),
        pytest.param(1, 3, 3, False, 100_000, marks=pytest.mark.slow),
        pytest.param(2, 1, 2, False, 50_000, marks=pytest.mark.slow),
    ],
)
def test_nothing_that_can_happen_breaks_the_promise(
    n_writers: int, n_hits: int, n_faults: int, has_others: bool, least: int
) -> None:
    outcome = search(n_writers, n_hits, n_faults, has_others=has_others)
    assert not outcome.wrong, str(outcome)
    assert outcome.n_states > least, "the world has become tame"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_variant_is_caught(mutant: Mutant) -> None:
    outcome = found(mutant)
    assert outcome.wrong, f"nobody notices that it {mutant.name}"
    assert 0 < len(outcome.story) <= 20, str(outcome)


def test_the_protocol_needs_what_it_assumes() -> None:
    assert "is lost" in found(ASSUMED).wrong
