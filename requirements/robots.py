"""Judges our robots: `robots.py FIXTURES PEOPLE.json`, and by the samples of our own tests."""

import json
import re
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
# Browsers of the last three years or so, also within apps.
CURRENT = re.compile(
    r"Mozilla/5\.0 \(.*(?:(Chrome|CriOS|Firefox)/1[2-9]\d|Version/1[7-9]|OS 1[78]_)"
)


def seconds(robots: Robots, agent: str) -> float:
    """Return how long it takes to judge an agent that is new."""
    best = 1.0
    for _ in range(N_TRIES):
        begin = time.perf_counter()
        robots._judged(agent[:MAX_AGENT])
        best = min(best, time.perf_counter() - begin)
    return best


def agents_of(file: Path) -> list[str]:
    """Return the agents that a file of fixtures collects."""
    entries = yaml.load(file.read_text("utf-8"), yaml.CSafeLoader)
    return [entry["user_agent"] for entry in entries if "user_agent" in entry]


def current_people(fixtures: Path) -> list[str]:
    """Return the browsers of today among all that is no robot; the files are large."""
    found: set[str] = set()
    files = sorted(set(fixtures.glob("*.yml")) - {fixtures / "bots.yml"})
    for n, file in enumerate(files, 1):
        print(f"\rreading {n} of {len(files)} files", end="", file=sys.stderr, flush=True)
        found.update(filter(CURRENT.match, agents_of(file)))
    print(file=sys.stderr)
    return sorted(found)


def main(fixtures: str, people: str) -> int:
    """Print what was found; return 1 where it is not good enough."""
    robots, whole = Robots(), Bots()
    programs = agents_of(Path(fixtures, "bots.yml"))
    most_used = json.loads(Path(people).read_text("utf-8"))
    visitors = [*current_people(Path(fixtures)), *most_used, *PEOPLE.values()]
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
