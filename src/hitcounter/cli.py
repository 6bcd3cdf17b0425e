"""The command line: finds the settings, runs one command, and turns errors into one line.

Exit codes: 0 done, 1 the command failed, 2 the command line or a setting is wrong; 130 and 141 as
the shell tells of ^C and of a reader that left early.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from hitcounter import __version__, config, logs, streams
from hitcounter.block import LINE_KEYS
from hitcounter.commands import check, counters, opening
from hitcounter.config import Config
from hitcounter.errors import SURROUNDINGS, ConfigError, HitcounterError, Refusal, one_line
from hitcounter.period import is_bucket
from hitcounter.site import page_path
from hitcounter.store.keys import MAX_COUNT

_MAX_REASON = 300

Command = Callable[[Config, argparse.Namespace], Awaitable[None]]
Add = Callable[[str, Command, str], argparse.ArgumentParser]  # a command, by its name


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
    if args.command not in (_serve, check.check_service):
        streams.flush()  # what cannot be written is the one line that is said
        print(f"store: {opening.place(settings)}", file=sys.stderr, flush=True)


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
    settings = config.load({name: getattr(args, name) for name in config.SETTINGS})
    if args.command is _serve:
        logs.set_up("supervisor", settings.log_format)
    if links := config.service_links(os.environ):
        logs.tell(logging.WARNING, f"passed over, as no settings: {', '.join(links)}")
    return settings


def _failed(error: Exception, code: int) -> int:
    with suppress(OSError):  # the exit code says enough
        logs.tell(logging.CRITICAL, one_line(error))
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line; `--help` shows the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2, as for a wrong setting."""
        self.exit(2, f"hitcounter: {message}\n")


def _parser() -> argparse.ArgumentParser:
    settings = _Parser(add_help=False)
    config.add_flags(settings.add_argument_group("settings"))
    parser = _Parser(prog="hitcounter", description="A self-hosted web-visit counter.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, doc: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=doc, description=doc, parents=[settings], allow_abbrev=False
        )
        sub.set_defaults(command=command)
        return sub

    add("serve", _serve, "Count hits and answer numbers.")
    _add_block(add)
    live = add("check", check.check_service, "Check the settings, the store and what it promises.")
    live.add_argument(
        "--live", action="store_true", help="only ask whether the service of data_dir answers"
    )
    _add_exchange(add)
    _add_housekeeping(add)
    return parser


def _add_block(add: Add) -> None:
    doc = "Set what the block shows now, and count on from there."
    baseline = add("baseline", counters.set_baseline, doc)
    baseline.add_argument("site", metavar="SITE")
    for key in LINE_KEYS:
        baseline.add_argument(f"--{key}", type=_count, metavar="N")
    baseline.add_argument(
        "--page", type=_page, action="append", default=[], metavar="PATH=N", dest="pages"
    )
    _add_new(baseline)
    doc = "Take back pageviews that should not have been counted; show says when and why."
    correct = add("correct", counters.correct, doc)
    correct.add_argument("site", metavar="SITE")
    correct.add_argument("--date", type=_date, metavar="YYYY-MM-DD", required=True)
    correct.add_argument("--minus", type=_some, metavar="N", required=True)
    correct.add_argument("--page", type=_path, metavar="PATH")
    correct.add_argument("--because", type=_reason, metavar="TEXT", required=True)
    show = add("show", counters.show_block, "Show the block of a site.")
    show.add_argument("site", metavar="SITE")


def _add_exchange(add: Add) -> None:
    doc = "Write all counters to standard output, as NDJSON with a checksum."
    add("export", counters.export_counters, doc)
    doc = "Raise counters to the numbers of an exported file."
    import_ = add("import", counters.import_counters, doc)
    import_.add_argument("file", metavar="FILE", help="an exported file; - is standard input")
    _add_new(import_)


def _add_new(writing: argparse.ArgumentParser) -> None:
    writing.add_argument("--new", action="store_true", help="make the store if there is none")


def _add_housekeeping(add: Add) -> None:
    doc = "List the sites: name, total, stored pages, last day with a hit."
    add("sites", counters.list_sites, doc)
    doc = "Take pages out that nobody reads; the site keeps its numbers."
    prune = add("prune", counters.prune_pages, doc)
    prune.add_argument("site", metavar="SITE")
    which = prune.add_mutually_exclusive_group(required=True)
    which.add_argument("--pages-below", type=_count, metavar="N", help="with fewer pageviews")
    which.add_argument("--page", type=_path, metavar="PATH")
    prune.add_argument("--dry-run", action="store_true", help="only say which pages would go")
    doc = "Take sites out; they count from zero when they are hit again."
    remove = add("remove", counters.remove_sites, doc)
    remove.add_argument("sites_to_remove", nargs="+", metavar="SITE")
    doc = "Give all that was counted for one site to another; show says when."
    merge = add("merge", counters.merge_sites, doc)
    merge.add_argument("old", metavar="OLD")
    merge.add_argument("into", type=str.lower, choices=["into"], metavar="into")
    merge.add_argument("new", metavar="NEW")
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


def _some(text: str) -> int:
    if (n := _count(text)) == 0:
        raise argparse.ArgumentTypeError("'0' takes nothing back")
    return n


def _page(text: str) -> tuple[str, int]:
    path, is_pair, count = text.rpartition("=")
    if not is_pair:
        raise argparse.ArgumentTypeError(f"{text!r} is not like /path=210")
    return _path(path), _count(count)


def _path(text: str) -> str:
    try:
        page_path(text)  # which its site may read otherwise: only the command knows its `query`
    except Refusal as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return text


def _date(text: str) -> str:
    if text.count("-") != 2 or not is_bucket(text) or text < "1970":
        raise argparse.ArgumentTypeError(f"{text!r} is not a day like 2019-04-19")
    return text


def _reason(text: str) -> str:
    if not text.strip() or len(text) > _MAX_REASON or not text.isprintable():
        reason = f"{text[:80]!r} is not a reason: one line of up to {_MAX_REASON} characters"
        raise argparse.ArgumentTypeError(reason)
    return text


async def _serve(settings: Config, args: argparse.Namespace) -> None:
    from hitcounter.process import supervisor

    await supervisor.serve(settings, lambda: _settings(args))
