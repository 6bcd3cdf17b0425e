"""Numbers in and out of a file.

An import is checked as a whole before anything is written, and never lowers a number: what was
counted here stays counted, and importing the same file twice changes nothing the second time.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

from hitcounter.config import Config
from hitcounter.errors import CommandError, Refusal
from hitcounter.period import is_bucket
from hitcounter.site import page_path, site_name
from hitcounter.store import keys
from hitcounter.store.client import BATCH_KEYS, Store
from hitcounter.transfer.sites import admit

FORMAT = "hitcounter-export"
VERSION = 1
_NO_EXPORT = f"line 1: not the {FORMAT} format"

Progress = Callable[[Sequence[Any]], Iterable[Any]]
Counts = dict[keys.CounterName, int]
Name = TypeVar("Name")


async def export(store: Store, out: BinaryIO, progress: Progress) -> int:
    """Write all counters as NDJSON, sealed by a checksum; return how many there are.

    Raise `CommandError` for a counter that an import would refuse.
    """
    names_by_site: dict[str, list[str]] = {}
    async for name in store.counter_keys():
        names_by_site.setdefault(counter_of(name).site, []).append(name)
    writer = _SealedWriter(out)
    for site in progress(sorted(names_by_site)):
        # Buckets come before pages: they are read in one batch, at one moment, and fit together.
        for batch in batches(sorted(set(names_by_site[site]), key=keys.counter_of)):
            for name, value in zip(batch, await store.read(batch), strict=True):
                if value is not None:  # else it was removed a moment ago
                    writer.write_counter(name, value)
    return writer.seal()


def counter_of(name: str) -> keys.CounterName:
    """Read the key of a counter; raise `CommandError` where it is none of ours."""
    try:
        name.encode()  # bytes that are no UTF-8 are no name of ours
        return keys.counter_of(name)
    except ValueError:
        raise CommandError(f"the store holds {name!r}, which is no counter of ours") from None


def write_counts(out: BinaryIO, counts: Mapping[str, int]) -> None:
    """Write counters that were read before as `export` does; raise `CommandError` as it does."""
    writer = _SealedWriter(out)
    for name in sorted(counts, key=keys.counter_of):
        writer.write_counter(name, counts[name])
    writer.seal()


class _SealedWriter:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._sha256 = hashlib.sha256()
        self._n_lines = 0
        self._write({"format": FORMAT, "version": VERSION})

    def _write(self, content: Mapping[str, Any]) -> None:
        """Write a line, of which the checksum is taken."""
        line = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._out.write(line)
        self._sha256.update(line)
        self._n_lines += 1

    def write_counter(self, key: str, n: int) -> None:
        """Write a counter; raise `CommandError` where an import would refuse it."""
        site, is_page, name = keys.counter_of(key)
        content = {"site": site, "page" if is_page else "bucket": name, "count": n}
        if _counter(content) is None:
            raise CommandError(f"an import would refuse the counter {key!r}: {n}")
        self._write(content)

    def seal(self) -> int:
        """Write the checksum over all lines before it; return the number of counters."""
        seal = {"counters": self._n_lines - 1, "sha256": self._sha256.hexdigest()}
        self._out.write(json.dumps(seal).encode() + b"\n")
        return self._n_lines - 1


def read_export(text: str) -> dict[str, Counts]:
    """Read the sites of an export, all checked; raise `CommandError` naming the line at fault.

    Line ends as Windows writes them are no change: no counter holds one.
    """
    # Only \n ends a line: JSON leaves other line separators as they are.
    *lines, last = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines:  # first, as a newer version may seal its files in another way
        _check_head(_parsed(lines[0], 1))
    seal = {
        "counters": len(lines) - 1,
        "sha256": hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest(),
    }
    if _parsed(last, len(lines) + 1) != seal:
        raise CommandError("the file is cut or changed: its last line is not its checksum")
    if not lines:
        raise CommandError(_NO_EXPORT)
    sites: dict[str, Counts] = {}
    for number, line in enumerate(lines[1:], 2):
        content = _parsed(line, number)
        counter = _counter(content)
        if counter is None:
            raise CommandError(f"line {number} is not a counter of a site")
        sites.setdefault(counter.site, {})[counter] = content["count"]
    return sites


def _check_head(head: Any) -> None:
    is_export = isinstance(head, dict) and head.get("format") == FORMAT
    version = head.get("version") if is_export else None
    if type(version) is not int or version < 1:
        raise CommandError(_NO_EXPORT)
    if version > VERSION:
        raise CommandError(
            f"line 1: the {FORMAT} format, version {version}; this program reads version {VERSION}"
            " and older: use a newer hitcounter"
        )


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise CommandError(f"line {number} is not JSON") from None


def _counter(content: Any) -> keys.CounterName | None:
    """Return the counter that a line is about; None where no export writes it."""
    try:
        site, count = site_name(content["site"]), content["count"]
        is_page = "page" in content
        name = content["page"] if is_page else content["bucket"]
        is_known = page_path(name) == name if is_page else is_bucket(name.removeprefix(keys.ROBOTS))
    except (AttributeError, KeyError, TypeError, Refusal):
        return None
    is_written = is_known and type(count) is int and 0 <= count <= keys.MAX_COUNT
    return keys.CounterName(site, is_page, name) if is_written else None


async def import_counts(
    store: Store, config: Config, sites: Mapping[str, Counts], progress: Progress
) -> int:
    """Raise counters to the imported numbers; return how many changed."""
    if config.is_open and len(await store.sites() | sites.keys()) > config.max_sites:
        raise CommandError(f"nothing was changed: more than max_sites ({config.max_sites})")
    n_changed = 0
    for site in progress(sorted(sites)):
        lane = store.lane_of(site)
        await admit(store, config, site)
        for batch in batches(sorted(sites[site])):
            counts = {counter.key(lane): sites[site][counter] for counter in batch}
            n_changed += await store.replace(site, counts, only_raise=True)
    return n_changed


def batches(names: Sequence[Name]) -> Iterator[Sequence[Name]]:
    """Divide what names counters into as many as one question names."""
    for start in range(0, len(names), BATCH_KEYS):
        yield names[start : start + BATCH_KEYS]
