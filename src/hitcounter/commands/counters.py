"""Commands that read or change counters, beside a running service or without one.

What they need is imported when they run: `serve` starts faster without it.
"""

import argparse
import datetime as dt
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from hitcounter import streams
from hitcounter.block import LANGUAGES, LINE_KEYS, line_texts
from hitcounter.commands import opening
from hitcounter.config import Config
from hitcounter.errors import CommandError
from hitcounter.period import day_of
from hitcounter.site import Site, page_path
from hitcounter.store.keys import MAX_COUNT

Item = TypeVar("Item")


async def set_baseline(settings: Config, args: argparse.Namespace) -> None:
    """Make the block show the given numbers, and say what it showed before."""
    from hitcounter.transfer import baseline, sites

    site = sites.known_site(settings, args.site)
    numbers = {key: getattr(args, key) for key in LINE_KEYS if getattr(args, key) is not None}
    if not numbers and not args.pages:
        raise CommandError(
            "nothing to set: give --today, --yesterday, --month, --year, --total or --page"
        )
    pages = {page_path(path, site.query): count for path, count in args.pages}
    async with opening.opened_or_made(settings, args) as store:
        before = await baseline.read_block(store, site, time.time())
        after = await baseline.set_baseline(store, settings, site, numbers, pages, time.time())
    for key in LINE_KEYS:
        print(f"{LANGUAGES['en'].labels[key]}: {before[key]} -> {after[key]}")
    for path, count in pages.items():
        print(f"{path}: {count}")


async def show_block(settings: Config, args: argparse.Namespace) -> None:
    """Show the block of a site."""
    from hitcounter.store import corrections
    from hitcounter.transfer import baseline, sites

    site = sites.known_site(settings, args.site)
    async with opening.opened(settings) as store:
        numbers = await baseline.read_block(store, site, time.time())
        robots = await baseline.read_robots(store, site, time.time())
        made = await corrections.made(store, site.name)
        merged = await corrections.merged(store, site.name)
    words = LANGUAGES[site.lang]
    print(words.title)
    texts = line_texts([numbers[key] for key in LINE_KEYS], site.lang)
    for key, text in zip(LINE_KEYS, texts, strict=True):
        print(f"{words.labels[key]}: {text}")
    if any(robots.values()):
        print("robots: " + ", ".join(f"{name} {n}" for name, n in robots.items()))
    for each in made:
        day = dt.datetime.fromtimestamp(each.at, site.timezone).date()
        page = f" of {each.page}" if each.page else ""
        print(f"corrected on {day}: -{each.minus}{page} on {each.date}: {each.because}")
    for old, at in merged.items():
        day = dt.datetime.fromtimestamp(at, site.timezone).date()
        print(f"merged on {day}: all that was counted for {old}")
    _show_results(settings.data_dir, site)


def _show_results(data_dir: Path, site: Site) -> None:
    """Say what the service that runs here has made of the hits of a declared site."""
    from hitcounter.operations import collector, days

    for directory in data_dir.glob("metrics-*"):
        since, before = "the service started", days.read(directory).get(site.name)
        counts = Counter(collector.results(directory).get(site.name, {}))
        if before is not None and before.date == day_of(time.time(), site.timezone).date:
            since = f"{dt.datetime.fromtimestamp(before.at, site.timezone):%H:%M} today"
            counts.subtract(before.hits)
        if results := [f"{n} {result}" for result, n in sorted(counts.items()) if n]:
            print(f"hits since {since}: {', '.join(results)}")
        last_s = collector.measured(directory, "hitcounter_last_hit_timestamp_seconds")
        if site.name in last_s:
            last = dt.datetime.fromtimestamp(last_s[site.name], site.timezone)
            print(f"last pageview: {last:%Y-%m-%d %H:%M:%S}")


async def correct(settings: Config, args: argparse.Namespace) -> None:
    """Take back what should not have been counted."""
    from hitcounter.store.corrections import Correction
    from hitcounter.transfer import corrections, sites

    site = sites.known_site(settings, args.site)
    page = args.page and page_path(args.page, site.query)
    said = args.date, args.minus, page, args.because
    writer = corrections.writer_of(site.name, *said)
    correction = Correction(*said, at=time.time(), writer=writer)
    async with opening.opened(settings) as store:
        await corrections.correct(store, site, correction)
    print(f"{args.minus} pageviews of {args.date} taken back")


async def merge_sites(settings: Config, args: argparse.Namespace) -> None:
    """Give all that was counted for one site to another."""
    from hitcounter.transfer import merging, sites

    old, new = sites.known_name(args.old), sites.known_site(settings, args.new)
    if old == new.name:
        raise CommandError(f"{old} cannot go into itself")
    if old in settings.sites:
        raise CommandError(
            f"{old} is declared and would be counted on: make it one of the aliases of {new.name},"
            " and reload the service"
        )
    async with opening.opened(settings) as store:
        bar = partial(_progress, unit=" steps")
        n_counters = await merging.merge(store, settings, old, new, bar)
    print(f"{n_counters} counters of {old} added to those of {new.name}")
    if old not in new.aliases:
        print(f"hits for {old} still count apart, until {new.name} names it in its aliases")


async def export_counters(settings: Config, _args: argparse.Namespace) -> None:
    """Write all counters to standard output."""
    from hitcounter.transfer import export

    async with opening.opened(settings) as store:
        with streams.output() as out:
            await export.export(store, out, _progress)


async def import_counters(settings: Config, args: argparse.Namespace) -> None:
    """Raise counters to the numbers of a file."""
    from hitcounter.transfer import export

    name = "standard input" if args.file == "-" else args.file
    try:
        raw = streams.read_input() if args.file == "-" else Path(args.file).read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{name} is not UTF-8 text") from None
    try:
        sites = export.read_export(text)
    except CommandError as error:
        raise CommandError(f"{name}: {error}") from None
    async with opening.opened_or_made(settings, args) as store:
        n_changed = await export.import_counts(store, settings, sites, _progress)
    print(f"{len(sites)} sites read, {n_changed} numbers raised")


async def list_sites(settings: Config, _args: argparse.Namespace) -> None:
    """List the sites, one a line."""
    from hitcounter.transfer import housekeeping

    async with opening.opened(settings) as store:
        for site in await housekeeping.summaries(store):
            print(f"{site.site}\t{site.total}\t{site.n_pages}\t{site.last_day or '-'}")


async def prune_pages(settings: Config, args: argparse.Namespace) -> None:
    """Take pages out of a site, or only say which."""
    from hitcounter.store import keys
    from hitcounter.transfer import housekeeping, sites

    site = sites.known_name(args.site)
    declared = settings.sites.get(site)
    page = args.page and page_path(args.page, declared.query if declared else ())
    below = MAX_COUNT + 1 if page else args.pages_below
    async with opening.opened(settings) as store:
        pages = await housekeeping.pages_below(store, site, below)
        if page:
            key = keys.page_key(store.lane_of(site), site, page)
            pages = {name: n for name, n in pages.items() if name == key}
        if args.dry_run:
            for name, n in sorted(pages.items(), key=lambda page: -page[1]):
                print(f"{n}\t{keys.counter_of(name).name}")
            return
        if page and not pages:
            raise CommandError(f"{site} has no page {page}")
        if not pages:
            print(f"{site} has no page with fewer than {below} pageviews")
            return
        file = _export_file(args, "pruned")
        bar = partial(_progress, unit=" steps")
        n_pages = await housekeeping.prune(store, site, pages, below, file, bar)
    print(f"{n_pages} pages taken out; hitcounter import {file} brings them back")


async def remove_sites(settings: Config, args: argparse.Namespace) -> None:
    """Take sites out."""
    from hitcounter.transfer import housekeeping, sites

    names = {sites.known_name(name) for name in args.sites_to_remove}
    file = _export_file(args, "removed")
    async with opening.opened(settings) as store:
        n_counters = await housekeeping.remove(store, names, file, _progress)
    print(
        f"{len(names)} sites with {n_counters} counters taken out;"
        f" hitcounter import {file} brings them back"
    )


def _export_file(args: argparse.Namespace, what: str) -> Path:
    """Name the file for what is taken out, here and now unless one is given."""
    given: Path | None = args.export_to
    return given or Path(time.strftime(f"hitcounter-{what}-%Y%m%dT%H%M%S.ndjson"))


def _progress(items: Sequence[Item], unit: str = " sites") -> Iterable[Item]:
    """Show a bar on a terminal while items are worked through."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, unit=unit)
