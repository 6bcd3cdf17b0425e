"""The guard: which store may count, and what it promises."""

from dataclasses import replace
from typing import Any

import pytest

from hitcounter.store.durability import FORMAT, MAX_CLOCK_SKEW_S, PROMISES, StoreFacts

FIT = StoreFacts(
    server="redis",
    version=(7, 0, 0),
    maxmemory_policy="noeviction",
    appendonly=True,
    appendfsync="always",
    role="master",
    lanes=1,
)


def test_a_fit_store_has_no_fault() -> None:
    assert FIT.faults(lanes=1) == []
    assert FIT.name == "redis 7.0.0"


@pytest.mark.parametrize("version", [(6, 2, 14), (6, 9, 9), (5, 0), (2, 8, 24)])
def test_a_redis_before_7_is_too_old(version: tuple[int, ...]) -> None:
    (fault,) = replace(FIT, version=version).faults(lanes=1)
    assert "too old" in fault
    assert ".".join(map(str, version)) in fault


@pytest.mark.parametrize("version", [(7, 0, 0), (7, 4, 1), (8, 0, 0), (10, 0, 0)])
def test_a_redis_from_7_on_is_new_enough(version: tuple[int, ...]) -> None:
    assert replace(FIT, version=version).faults(lanes=1) == []


def test_every_valkey_is_new_enough() -> None:
    assert replace(FIT, server="valkey", version=(7, 2, 5)).faults(lanes=1) == []


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl", "allkeys-lfu"]
)
def test_a_store_that_may_delete_counters_is_unfit(policy: str) -> None:
    (fault,) = replace(FIT, maxmemory_policy=policy).faults(lanes=1)
    assert policy in fault
    assert "noeviction" in fault


@pytest.mark.parametrize("role", ["slave", "sentinel"])
def test_only_a_master_takes_writes(role: str) -> None:
    (fault,) = replace(FIT, role=role).faults(lanes=1)
    assert role in fault


def test_a_store_with_another_number_of_lanes_is_refused() -> None:
    (fault,) = replace(FIT, lanes=64).faults(lanes=1)
    assert "64 lanes" in fault


def test_a_store_of_a_newer_format_is_refused_with_the_version_that_reads_it() -> None:
    assert replace(FIT, format=FORMAT).faults(lanes=1) == []
    (fault,) = replace(FIT, format=FORMAT + 1, reader="0.9").faults(lanes=1)
    assert fault == (
        "the store holds format 2, and this program reads 1: use hitcounter 0.9 or newer"
    )


def test_all_faults_are_named_at_once() -> None:
    facts = replace(
        FIT, version=(6, 2, 0), maxmemory_policy="allkeys-lru", role="slave", lanes=2, format=9
    )
    assert len(facts.faults(lanes=1)) == 5


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "expected", "words"),
    [
        (True, "always", "A", "on the store's disk (appendfsync always)"),
        (True, "everysec", "B", "within a second"),
        (True, "no", "none", "can lose hits"),
        (True, None, "unknown", "CONFIG GET lacks appendfsync"),
        (None, "always", "unknown", "INFO lacks aof_enabled"),
        (None, None, "unknown", "INFO lacks aof_enabled"),
        (False, "always", "none", "can lose hits"),
        (False, "everysec", "none", "can lose hits"),
        (False, None, "none", "can lose hits"),
    ],
)
def test_the_promise_follows_from_what_the_store_keeps_on_disk(
    appendonly: bool | None, appendfsync: str | None, expected: str, words: str
) -> None:
    facts = replace(FIT, appendonly=appendonly, appendfsync=appendfsync)
    assert facts.level == expected
    assert words in facts.promise


def test_every_level_has_a_number_and_a_better_one_a_higher() -> None:
    assert [PROMISES[name] for name in ("none", "B", "A")] == [0, 1, 2]
    assert PROMISES.keys() == {"unknown", "none", "B", "A"}


def test_an_unknown_promise_never_looks_better_than_it_is() -> None:
    assert min(PROMISES, key=PROMISES.__getitem__) == "unknown"


def test_a_refusal_is_the_reason_of_an_unknown_promise() -> None:
    facts = replace(FIT, appendonly=None, refusals={"INFO": "NOPERM"})
    assert "INFO is refused: NOPERM" in facts.promise


@pytest.mark.parametrize("name", ["version", "maxmemory_policy", "role", "clock_skew_s"])
def test_what_the_store_does_not_tell_is_no_fault_but_a_warning(name: str) -> None:
    unknown: dict[str, Any] = {name: None}
    facts = replace(FIT, **unknown)
    assert facts.faults(lanes=1) == []
    (warning,) = facts.warnings
    assert f"does not tell its {'time' if name == 'clock_skew_s' else name} (" in warning


def test_a_server_of_unknown_version_has_a_name() -> None:
    assert replace(FIT, server="server", version=None).name == "server of unknown version"


def test_a_store_that_takes_no_hits_now_is_a_warning() -> None:
    (warning,) = replace(FIT, hit_refusal="OOM").warnings
    assert warning == "the store takes no hits now, they go to the journal: OOM"


@pytest.mark.parametrize("skew_s", [0.0, 0.4, -MAX_CLOCK_SKEW_S, MAX_CLOCK_SKEW_S])
def test_a_clock_that_is_about_right_is_no_matter(skew_s: float) -> None:
    assert replace(FIT, clock_skew_s=skew_s).warnings == []


@pytest.mark.parametrize(
    ("skew_s", "words"), [(2.6, "3 s ahead of ours"), (-90.0, "90 s behind ours")]
)
def test_a_clock_that_is_wrong_is_a_warning_but_no_fault(skew_s: float, words: str) -> None:
    facts = replace(FIT, clock_skew_s=skew_s)
    (warning,) = facts.warnings
    assert words in warning
    assert facts.faults(lanes=1) == []
