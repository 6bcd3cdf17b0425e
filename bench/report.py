"""Put the figures into words: aligned tables for the terminal, and the same as JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
QUIET_CORES = 0.15  # what a machine that does nothing else uses stays below
DIGITS = {"hits/s": 0, "µs/hit": 1, "ms": 2, "s": 3, "MB": 1}

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one contender: the value of every run, and what is known beside it.

    `others` says how many cores the rest of the machine used during each run.
    """

    measure: str
    subject: str
    unit: str
    runs: list[float]
    beside: str
    others: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the run in the middle."""
        return statistics.median(self.runs)

    def row(self) -> Row:
        """Return the line of the table."""
        median, low, high = (
            f"{value:,.{DIGITS[self.unit]}f}"
            for value in (self.median, min(self.runs), max(self.runs))
        )
        others = f"{statistics.median(self.others):.1f}" if self.others else ""
        spread = f"{low} … {high}" if len(self.runs) > 1 else ""
        return self.measure, self.subject, median, self.unit, spread, others, self.beside


@dataclass(frozen=True, slots=True)
class Claim:
    """What the documentation says of one ratio, time or size, such as `≥ 0.70`.

    An empty bound claims nothing: the value is there to read the others by.
    """

    what: str
    value: float
    bound: str = ""
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Return whether the measured value keeps the claim."""
        sign, _, number = self.bound.partition(" ")
        if sign == "≥":
            return self.value >= float(number)
        return not self.bound or self.value <= float(number)

    def row(self) -> Row:
        """Return the line of the table."""
        verdict = ("ok" if self.holds else "missed") if self.bound else ""
        claimed = f"{self.bound}{self.unit}" if self.bound else ""
        return self.what, f"{self.value:.2f}{self.unit}", claimed, verdict


@dataclass(slots=True)
class Report:
    """All figures and claims of one invocation."""

    machine: dict[str, str]
    figures: list[Figure] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def text(self) -> str:
        """Return what people read."""
        heading: Row = ("measure", "contender", "median", "unit", "lowest … highest")
        heading += ("others", "beside it")
        figures = [heading, *(figure.row() for figure in self.figures)]
        on = f"on {self.machine['python']}"
        claims = [(on, "measured", "claimed", ""), *(claim.row() for claim in self.claims)]
        parts = [aligned(figures), aligned(claims)]
        others = max((cores for figure in self.figures for cores in figure.others), default=0)
        if others > QUIET_CORES:
            parts.append(f"Not a quiet machine: others used up to {others:.1f} cores meanwhile.")
        return "\n\n".join(parts)

    def save(self) -> Path:
        """Write the same as JSON and return where."""
        at = datetime.now(UTC)
        figures = [asdict(figure) | {"median": figure.median} for figure in self.figures]
        claims = [asdict(claim) | {"holds": claim.holds} for claim in self.claims]
        content = {
            "at": at.isoformat(),
            "machine": self.machine,
            "figures": figures,
            "claims": claims,
        }
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{at:%Y%m%dT%H%M%SZ}.json"
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8")
        return path


def machine_line(machine: dict[str, str]) -> str:
    """Say on what the figures were measured."""
    return " · ".join(f"{name} {value}" for name, value in machine.items())


def aligned(rows: Sequence[Row]) -> str:
    """Pad the columns; a column of numbers is set flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [column[1][:1].isdecimal() for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
