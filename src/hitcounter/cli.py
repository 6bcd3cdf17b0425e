"""The command line: finds the settings, runs one command, and turns errors into one line.

Exit codes: 0 done, 1 the command failed, 2 the command line or a setting is wrong; 130 and 141 as
the shell tells of ^C and of a reader that left early.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import urlsplit

from hitcounter import __version__, config, filter_lists, logs, streams
from hitcounter.block import LANGUAGES, LINE_KEYS, line_texts
from hitcounter.config import Config
from hitcounter.errors import (
    SURROUNDINGS,
    CommandError,
    ConfigError,
    HitcounterError,
    Refusal,
    one_line,
)
from hitcounter.site import page_path
from hitcounter.store.keys import MAX_COUNT

if TYPE_CHECKING:
    from hitcounter.store.client import Store

COMMAND_TIMEOUT_S = 10.0
LOADING_TIMEOUT_S = 60.0
LIVE_TIMEOUT_S = 2.0

Item = TypeVar("Item")
Command = Callable[[Config, argparse.Namespace], Awaitable[None]]


def main() -> None:
    """Run the command line."""
    streams.prepare()
    code = _ending(_run) or _ending(streams.flush)
    if code:
        streams.abandon_output()
    sys.exit(code)


def _run() -> None:
    args = _parser().parse_args()
    settings = _settings(args)
    if args.command is not _serve:
        streams.require_output()
    asyncio.run(args.command(settings, args))
    if args.command in (_baseline, _show, _export, _import, _sites, _prune, _remove):
        streams.flush()  # what cannot be written is the one line that is said
        print(f"store: {_place(settings)}", file=sys.stderr, flush=True)


def _ending(action: Callable[[], None]) -> int:
    """Do something; return the exit code that says how it ended, after one line if it failed."""
    try:
        action()
    except SystemExit as wish:  # of the parser
        return int(wish.code or 0)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has seen enough
        return 128 + signal.SIGPIPE
    except ConfigError as error:
        return _failed(error, 2)
    except (HitcounterError, *SURROUNDINGS) as error:
        return _failed(error, 1)
    return 0


def _settings(args: argparse.Namespace) -> Config:
    links = config.service_links(os.environ)
    if links:
        print(f"hitcounter: passed over, as no settings: {', '.join(links)}", file=sys.stderr)
    return config.load({name: getattr(args, name) for name in config.SETTINGS})


def _failed(error: Exception, code: int) -> int:
    with suppress(OSError):  # the exit code says enough
        print(f"hitcounter: {one_line(error)}", file=sys.stderr, flush=True)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line; `--help` shows the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"hitcounter: {message}\n")


def _parser() -> argparse.ArgumentParser:
    settings = _Parser(add_help=False)
    config.add_flags(settings.add_argument_group("settings"))
    parser = _Parser(prog="hitcounter", description="A self-hosted web-visit counter.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, doc: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=doc, description=doc, parents=[settings])
        sub.set_defaults(command=command)
        return sub

    add("serve", _serve, "Count hits and answer numbers.")
    baseline = add("baseline", _baseline, "Set what the block shows now, and count on from there.")
    baseline.add_argument("site", metavar="SITE")
    for key in LINE_KEYS:
        baseline.add_argument(f"--{key}", type=_count, metavar="N")
    baseline.add_argument(
        "--page", type=_page, action="append", default=[], metavar="PATH=N", dest="pages"
    )
    show = add("show", _show, "Show the block of a site.")
    show.add_argument("site", metavar="SITE")
    check = add("check", _check, "Check the settings, the store and what it promises.")
    check.add_argument(
        "--live", action="store_true", help="only ask whether the service of data_dir answers"
    )
    add("export", _export, "Write all counters to standard output, as NDJSON with a checksum.")
    import_ = add("import", _import, "Raise counters to the numbers of an exported file.")
    import_.add_argument("file", metavar="FILE", help="an exported file; - is standard input")
    _add_housekeeping(add)
    for writing in (baseline, import_):
        writing.add_argument("--new", action="store_true", help="make the store if there is none")
    return parser


def _add_housekeeping(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    add("sites", _sites, "List the sites: name, total, stored pages, last day with a hit.")
    prune = add("prune", _prune, "Take pages out that nobody reads; the site keeps its numbers.")
    prune.add_argument("site", metavar="SITE")
    which = prune.add_mutually_exclusive_group(required=True)
    which.add_argument("--pages-below", type=_count, metavar="N", help="with fewer pageviews")
    which.add_argument("--page", type=_path, metavar="PATH")
    prune.add_argument("--dry-run", action="store_true", help="only say which pages would go")
    remove = add("remove", _remove, "Take sites out; they count from zero when they are hit again.")
    remove.add_argument("sites_to_remove", nargs="+", metavar="SITE")
    for taking in (prune, remove):
        taking.add_argument(
            "--export-to", type=Path, metavar="FILE", help="a new file for what goes, to import"
        )


def _count(text: str) -> int:
    n_digits = len(str(MAX_COUNT))
    if not (text.isascii() and text.isdigit() and len(text) <= n_digits):
        reason = f"{text!r} is not a count: up to {n_digits} digits alone, like 1619938"
        raise argparse.ArgumentTypeError(reason)
    return int(text)


def _page(text: str) -> tuple[str, int]:
    path, is_pair, count = text.rpartition("=")
    if not is_pair:
        raise argparse.ArgumentTypeError(f"{text!r} is not like /path=210")
    return _path(path), _count(count)


def _path(text: str) -> str:
    try:
        return page_path(text)
    except Refusal as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


async def _serve(settings: Config, args: argparse.Namespace) -> None:
    from hitcounter.process import supervisor

    logs.set_up("supervisor")
    await supervisor.serve(settings, lambda: _settings(args))


# The commands below import the store's client when they run: `serve` starts faster without it.


@asynccontextmanager
async def _opened(settings: Config, *, create: bool) -> AsyncIterator["Store"]:
    """Open the store; raise `CommandError` where it would have to be made and should not."""
    if not create:
        _expect_store(settings)
    async with _reached(settings, create=create) as store:
        yield store


@asynccontextmanager
async def _reached(settings: Config, *, create: bool) -> AsyncIterator["Store"]:
    """Open the configured store, or that of `data_dir`: the running one, or one run for as long."""
    from hitcounter.store.client import Store
    from hitcounter.store.embedded import borrowed
    from hitcounter.store.inspection import Inspection

    address = borrowed(settings.data_dir, settings.store_binary)
    async with nullcontext(settings.redis_url) if settings.redis_url else address as url:
        store = Store(url, COMMAND_TIMEOUT_S)
        try:
            wait_s = 0 if settings.redis_url else LOADING_TIMEOUT_S
            await Inspection(store).check(wait_s, create=create)
            yield store
        finally:
            await store.close()


def _has_store(settings: Config) -> bool:
    from hitcounter.store.embedded import has_store

    return bool(settings.redis_url) or has_store(settings.data_dir)


def _expect_store(settings: Config, advice: str = "") -> None:
    """Raise `CommandError` where a store would first have to be made."""
    if not settings.redis_url and not settings.data_dir.is_dir():
        raise CommandError(
            f"data_dir: there is no directory {settings.data_dir.absolute()}{advice}"
        )
    if not _has_store(settings):
        raise CommandError(f"data_dir: there is no store in {settings.data_dir.absolute()}{advice}")


def _may_create(settings: Config, args: argparse.Namespace) -> bool:
    """Return whether a store may be made where the settings say; raise where that is a guess.

    A directory that nobody named is the one of the service only if both run in the same place.
    """
    if not args.new and "data_dir" not in settings.given:
        _expect_store(settings, ": give the --config or --data-dir of the service, or --new")
    return True


def _place(settings: Config) -> str:
    """Name the store, without what is secret in its URL."""
    if not settings.redis_url:
        return f"our own in {settings.data_dir.absolute()}"
    parts = urlsplit(settings.redis_url)
    path = parts.path if parts.scheme == "unix" or re.fullmatch(r"/\d*", parts.path) else ""
    db = re.search(r"\bdb=\d+", parts.query)
    query = f"?{db[0]}" if db else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}{query}"


async def _baseline(settings: Config, args: argparse.Namespace) -> None:
    from hitcounter.transfer import baseline, sites

    site = sites.known_site(settings, args.site)
    numbers = {key: getattr(args, key) for key in LINE_KEYS if getattr(args, key) is not None}
    if not numbers and not args.pages:
        raise CommandError(
            "nothing to set: give --today, --yesterday, --month, --year, --total or --page"
        )
    async with _opened(settings, create=_may_create(settings, args)) as store:
        before = await baseline.read_block(store, site, time.time())
        after = await baseline.set_baseline(
            store, settings, site, numbers, dict(args.pages), time.time()
        )
    for key in LINE_KEYS:
        print(f"{LANGUAGES['en'].labels[key]}: {before[key]} -> {after[key]}")
    for path, count in args.pages:
        print(f"{path}: {count}")


async def _show(settings: Config, args: argparse.Namespace) -> None:
    from hitcounter.transfer import baseline, sites

    site = sites.known_site(settings, args.site)
    async with _opened(settings, create=False) as store:
        numbers = await baseline.read_block(store, site, time.time())
    words = LANGUAGES[site.lang]
    print(words.title)
    texts = line_texts([numbers[key] for key in LINE_KEYS], site.lang)
    for key, text in zip(LINE_KEYS, texts, strict=True):
        print(f"{words.labels[key]}: {text}")


async def _check(settings: Config, args: argparse.Namespace) -> None:
    if args.live:
        await _check_live(settings)
        return
    print(f"settings: {settings.config or 'environment and defaults'}")
    if settings.is_open:
        print(f"sites: open to any name, up to {settings.max_sites}")
    else:
        print(f"sites: {len(settings.sites)} declared")
    for line in filter_lists.warnings(settings):
        print(f"warning: {line}")
    refusal = ""
    if _has_store(settings):
        refusal = await _check_store(settings)
    else:
        _tell_of_no_store(settings)
    _check_journals(settings.data_dir)
    if refusal:
        raise CommandError(f"hits would go to the journal: {refusal}")


def _tell_of_no_store(settings: Config) -> None:
    from hitcounter.store.programs import choose, find

    if settings.data_dir.exists() and not settings.data_dir.is_dir():
        raise CommandError(f"data_dir: {settings.data_dir.absolute()} is not a directory")
    program = choose(find(settings.store_binary), settings.data_dir / "store")
    print(f"store: no store yet in {settings.data_dir.absolute()}; serve makes it: {program}")


async def _check_store(settings: Config) -> str:
    """Say what the store is and promises; return why it takes no hit, or nothing."""
    from hitcounter.store.inspection import Inspection

    async with _reached(settings, create=False) as store:
        facts = await Inspection(store).rehearsed(is_open=settings.is_open, create=False)
    print(f"store: {facts.name}, {_place(settings)}")
    print(f"promise: level {facts.level}, {facts.promise}")
    for line in facts.warnings:
        print(f"warning: {line}")
    return facts.hit_refusal


def _check_journals(data_dir: Path) -> None:
    """Say which journals lie there; raise `StartError` where nobody can look."""
    from hitcounter.exactly_once.journal import ASIDE_SUFFIX, SUFFIX, check_access, unreadable

    journals = data_dir / "journal"
    for directory in (data_dir, journals):
        if directory.exists():
            check_access(directory)
    for path in sorted(journals.glob(f"*{SUFFIX}")):
        if unreadable(path):
            print(f"journal: {path} cannot be read by this user; its hits are not counted")
        else:
            print(f"journal: {path} holds what the store may lack; a service will replay it")
    for path in sorted(journals.glob(f"*{ASIDE_SUFFIX}")):
        print(f"journal: {path} is set aside; its hits are not counted")


async def _check_live(settings: Config) -> None:
    """Ask the running service whether it serves, where it says that it does.

    So this holds for any port and host, wherever they are set.
    """
    from hitcounter.store.embedded import noted_address

    address = urlsplit(noted_address(settings.data_dir))
    if not address.hostname:
        raise CommandError(f"no service serves from {settings.data_dir}")
    try:
        async with asyncio.timeout(LIVE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(f"GET /healthz HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n".encode())
            status = (await reader.readline()).decode(errors="replace").strip()
            writer.close()
    except (OSError, TimeoutError) as error:
        reason = one_line(error) or "no answer in time"
        raise CommandError(f"{address.geturl()} does not answer: {reason}") from None
    if " 200 " not in f"{status} ":
        raise CommandError(f"{address.geturl()} answers {status!r}")
    print(f"{address.geturl()} answers")


async def _export(settings: Config, _args: argparse.Namespace) -> None:
    from hitcounter.transfer import export

    async with _opened(settings, create=False) as store:
        with streams.output() as out:
            await export.export(store, out, _progress)


async def _import(settings: Config, args: argparse.Namespace) -> None:
    from hitcounter.transfer import export

    name = "standard input" if args.file == "-" else args.file
    try:
        raw = streams.read_input() if args.file == "-" else Path(args.file).read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{name} is not UTF-8 text") from None
    sites = export.read_export(text)
    async with _opened(settings, create=_may_create(settings, args)) as store:
        n_changed = await export.import_counts(store, settings, sites, _progress)
    print(f"{len(sites)} sites read, {n_changed} numbers raised")


async def _sites(settings: Config, _args: argparse.Namespace) -> None:
    from hitcounter.transfer import housekeeping

    async with _opened(settings, create=False) as store:
        for site in await housekeeping.summaries(store):
            print(f"{site.site}\t{site.total}\t{site.n_pages}\t{site.last_day or '-'}")


async def _prune(settings: Config, args: argparse.Namespace) -> None:
    from hitcounter.store import keys
    from hitcounter.store.client import N_LANES
    from hitcounter.transfer import housekeeping, sites

    site = sites.known_name(args.site)
    below = MAX_COUNT + 1 if args.page else args.pages_below
    async with _opened(settings, create=False) as store:
        pages = await housekeeping.pages_below(store, site, below)
        if args.page:
            key = keys.page_key(keys.lane_of(site, N_LANES), site, args.page)
            pages = {name: n for name, n in pages.items() if name == key}
        if args.dry_run:
            for name, n in sorted(pages.items(), key=lambda page: -page[1]):
                print(f"{n}\t{keys.counter_of(name).name}")
            return
        if args.page and not pages:
            raise CommandError(f"{site} has no page {args.page}")
        if not pages:
            print(f"{site} has no page with fewer than {below} pageviews")
            return
        file = _export_file(args, "pruned")
        bar = partial(_progress, unit=" steps")
        n_pages = await housekeeping.prune(store, site, pages, below, file, bar)
    print(f"{n_pages} pages taken out; hitcounter import {file} brings them back")


async def _remove(settings: Config, args: argparse.Namespace) -> None:
    from hitcounter.transfer import housekeeping, sites

    names = {sites.known_name(name) for name in args.sites_to_remove}
    file = _export_file(args, "removed")
    async with _opened(settings, create=False) as store:
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
