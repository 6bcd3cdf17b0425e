"""The two speeds of tests: what `make test` leaves out, and how much it does of the rest.

Slow tests are marked so. Others are repeated more often by `make test-all`: it sets the variables
that are read here, and takes the profile `all` of Hypothesis.
"""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import settings

N_SIMULATED = int(os.environ.get("SIMULATED_SCHEDULES", "100"))
N_FAULT_SCHEDULES = int(os.environ.get("FAULT_SCHEDULES", "1"))
OUTAGE_S = float(os.environ.get("OUTAGE_S", "2"))

# A slow machine is no failure. What a person runs gives the same result again.
settings.register_profile("all", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("quick")


def examples(n_all: int) -> int:
    """Return how many examples to try where `make test-all` tries so many."""
    return n_all * settings().max_examples // 100


def amounts() -> str:
    """Say how much is done of what can be done more often."""
    return (
        f"{settings().max_examples} % of all examples, {N_SIMULATED:,} simulated schedules,"
        f" {N_FAULT_SCHEDULES} fault schedules, outages of {OUTAGE_S:g} s"
    )


def slow_by_layer(reports: Iterable[pytest.TestReport]) -> str:
    """Count the slow tests among those that ran, by layer."""
    slow = {report.nodeid for report in reports if "slow" in report.keywords}
    layers = Counter(PurePath(nodeid.partition("::")[0]).parts[1] for nodeid in slow)
    return ", ".join(f"{n} of {layer}" for layer, n in sorted(layers.items()))


def first_is_quick(values: Iterable[str]) -> list[Any]:
    """Mark all values of a parameter as slow but the first, which stands for their kind."""
    first, *others = values
    return [first, *(pytest.param(each, marks=pytest.mark.slow) for each in others)]
