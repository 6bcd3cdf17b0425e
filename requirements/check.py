"""Checks that the lock files are whole: what is wanted has a pin that fits, each pin its hashes.

It reads the metadata of the packages in this environment and asks no registry, so what passes
today passes for ever. Other Pythons and systems are judged by the same metadata.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
PIN = re.compile(r"[a-z0-9-]+==\S+( ; [^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
ENVIRONMENTS = [
    {"sys_platform": "linux", "python_version": "3.11", "python_full_version": "3.11.2"},
    {"sys_platform": "linux", "python_version": "3.14", "python_full_version": "3.14.0"},
    {"sys_platform": "darwin", "python_version": "3.13", "python_full_version": "3.13.0"},
]


def read_pins(name: str) -> list[Requirement]:
    """Read a lock file; exit where a line is no exact version with hashes."""
    entries = (HERE / name).read_text("utf-8").replace("\\\n", " ").splitlines()
    for entry in entries:
        if PIN.fullmatch(entry) is None:
            sys.exit(f"{name}: not an exact version with hashes: {entry[:80]}")
    return [Requirement(entry.partition(" --hash")[0]) for entry in entries]


def applies(requirement: Requirement, environment: Mapping[str, str], extra: str = "") -> bool:
    """Return whether a requirement holds in an environment, for one extra of who requires it."""
    marker = requirement.marker
    return marker is None or marker.evaluate({**environment, "extra": extra})


def needs(name: str) -> list[Requirement]:
    """List what a package of this environment requires; nothing for one that is not here."""
    try:
        return [Requirement(line) for line in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:  # it is for another system
        return []


def find_missing(
    wanted: Iterable[str], pins: Iterable[Requirement], environment: Mapping[str, str]
) -> Iterator[str]:
    """Walk from what is wanted to all that it needs in turn; name what has no pin that fits."""
    versions = {pin.name: str(pin.specifier)[2:] for pin in pins if applies(pin, environment)}
    waiting = [need for need in map(Requirement, wanted) if applies(need, environment)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if not requirement.specifier.contains(versions.get(name, ""), prereleases=True):
            yield str(requirement)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [need for need in needs(name) if applies(need, environment, extra)]


def main() -> None:
    """Check every lock file against what it is the lock of."""
    tables = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))
    project, extras = tables["project"], tables["project"]["optional-dependencies"]
    wanted = {
        "build.txt": [*tables["build-system"]["requires"], "editables"],
        "serve.txt": project["dependencies"] + extras["uvloop"],
        "embedded.txt": extras["embedded"],
        "dev.txt": tables["dependency-groups"]["dev"],
    }
    pins = {name: read_pins(name) for name in wanted}
    faults = [
        f"{name} has no pin for {missing} on {environment}"
        for name in wanted
        for environment in ENVIRONMENTS
        for missing in find_missing(wanted[name], pins[name], environment)
    ]
    versions: dict[str, set[str]] = {}
    for pin in (pin for name in pins for pin in pins[name]):
        versions.setdefault(pin.name, set()).add(str(pin.specifier))
    faults += [f"{name} is locked at {found}" for name, found in versions.items() if len(found) > 1]
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
