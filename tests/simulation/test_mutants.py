"""The simulation can see: every wrong variant of the protocol is caught, soon.

What nobody can catch proves nothing. A mutant that survives means that the simulation has become
tame, or that the protocol does not need what the mutant leaves out.
"""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import run_schedules

SOON = 50  # schedules, which take a second


def takes_long(mutant: Mutant) -> bool:
    """Return whether a mutant is none for whoever waits."""
    return mutant.bound > SOON or mutant.is_endless


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, marks=pytest.mark.slow if takes_long(mutant) else ())
        for mutant in MUTANTS
    ],
    ids=lambda mutant: mutant.name,
)
def test_a_wrong_variant_is_caught(mutant: Mutant) -> None:
    with mutant.applied():
        caught = any(outcome.problems for outcome in run_schedules(range(mutant.bound)))
    assert caught, f"nobody notices within {mutant.bound} schedules that it {mutant.name}"


def test_mutants_leave_nothing_behind() -> None:
    before = [vars(owner)[name] for mutant in MUTANTS for owner, name, _ in mutant.replacements]
    for mutant in MUTANTS:
        with mutant.applied():
            assert all(vars(owner)[name] is new for owner, name, new in mutant.replacements)
    after = [vars(owner)[name] for mutant in MUTANTS for owner, name, _ in mutant.replacements]
    assert before == after
