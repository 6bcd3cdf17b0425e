"""Whether hits can be counted, in detail: what the store says, and what only workers know."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hitcounter.counting.readiness import refusal
from hitcounter.errors import StoreError, StoreForbidsError, StoreUnfitError, Unavailable
from hitcounter.metrics import JOURNALING, READY, STATES, UNFIT
from hitcounter.operations.collector import measured

if TYPE_CHECKING:  # loaded by whoever asks for it
    from hitcounter.store.inspection import Inspection

_JOURNALING = "the store is away; an acknowledged hit is on the disk of this machine"
_UNREAD = "cannot be read, and its hits are missing: the log names it"
_HANGING_S = 10.0


async def asked(
    inspection: "Inspection", metrics_dir: Path, *, is_open: bool
) -> Mapping[str, Any] | Unavailable:
    """Ask the store, and the workers by their metrics; an `Unavailable` where hits are refused."""
    # That the store is unfit, the workers may have found a minute ago: it is asked anew.
    n_workers = measured(metrics_dir, "hitcounter_workers")
    states = [state for state in STATES if n_workers.get(state) and state != UNFIT] or [READY]
    if refused := refusal(states[-1]):
        return refused
    n_unread = measured(metrics_dir, "hitcounter_journals_unread").get("", 0)
    unread = [f"{n_unread:.0f} of what is in data_dir/journal {_UNREAD}"] if n_unread else []
    warnings = unread + hanging(metrics_dir)
    journaling = {"status": JOURNALING, "level": "A", "promise": _JOURNALING, "warnings": warnings}
    is_journaling = states[-1] == JOURNALING
    try:
        facts = await inspection.rehearsed(is_open=is_open)
    except (StoreError, StoreForbidsError):
        return journaling
    except StoreUnfitError as error:
        return journaling if is_journaling else Unavailable(UNFIT, str(error))
    told = facts.warnings + warnings
    if is_journaling:
        return {**journaling, "warnings": told}
    return {
        "status": READY,
        "store": facts.name,
        "level": facts.level,
        "promise": facts.promise,
        "warnings": told,
    }


def hanging(metrics_dir: Path) -> list[str]:
    """Name the workers that hang: each says every second, by the same clock, that it does not."""
    beats = measured(metrics_dir, "hitcounter_worker_heartbeat_timestamp_seconds")
    ages_s = {worker: time.time() - beat_s for worker, beat_s in beats.items()}
    return [
        f"worker {worker} has done nothing for {age_s:.0f} s: its visitors wait"
        for worker, age_s in ages_s.items()
        if age_s > _HANGING_S
    ]
