"""Judges our robots: `robots.py BOTS.yml PEOPLE.json`, and by the samples of our own tests."""

import json
import sys
import time
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from is_bot import Bots
from tests.unit.test_robots import PEOPLE
from tests.unit.test_robots import ROBOTS as PROGRAMS

from hitcounter.robots import MAX_AGENT, Robots

MIN_FOUND = 0.99
MAX_S = 0.0001
N_TRIES = 5


def seconds(robots: Robots, agent: str) -> float:
    """Return how long it takes to judge an agent that is new."""
    best = 1.0
    for _ in range(N_TRIES):
        begin = time.perf_counter()
        robots._judged(agent[:MAX_AGENT])
        best = min(best, time.perf_counter() - begin)
    return best


def main(bots: str, people: str) -> int:
    """Print what was found; return 1 where it is not good enough."""
    robots, whole = Robots(), Bots()
    programs = [entry["user_agent"] for entry in yaml.safe_load(Path(bots).read_text("utf-8"))]
    visitors = [*json.loads(Path(people).read_text("utf-8")), *PEOPLE.values()]
    agents = [agent[:MAX_AGENT] for agent in (*programs, *visitors, *PROGRAMS.values())]
    missed = [agent for agent in programs if not robots.has(agent)]
    taken = [agent for agent in visitors if robots.has(agent)]
    apart = [a for a in agents if robots._matches(a.lower()) != whole.is_bot(a)]
    apart = [agent for agent in apart if not agent.lower().startswith("viber")]
    slowest_s = max(seconds(robots, agent) for agent in (*agents, "a" * MAX_AGENT))
    print(f"{len(programs)} robots: missed {len(missed)}", *missed, sep="\n  ")
    print(f"{len(visitors)} people: taken for robots {len(taken)}", *taken, sep="\n  ")
    print(f"judged otherwise than by the whole pattern: {len(apart)}", *apart, sep="\n  ")
    print(f"the slowest takes {slowest_s * 1e6:.0f} µs")
    is_good = len(missed) <= (1 - MIN_FOUND) * len(programs) and not taken and not apart
    return 0 if is_good and slowest_s < MAX_S else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
