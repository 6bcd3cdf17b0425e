"""Who may import whom: only downwards on this ladder, and each library only where it belongs."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hitcounter
from tests.support.lines import by_room

# A room and those of its modules that others of it need, the highest first.
LADDER = """
    __main__
    cli
    commands: check counters
    commands: opening
    process: supervisor worker_start operations_start
    process: worker_slot
    process: worker_process operations worker
    process: serving
    process: handshake listener memory deadlines init
    operations: app
    operations: readiness days
    operations: collector
    pages: index
    pages: front_page
    transfer: merging
    transfer: housekeeping
    transfer: export baseline corrections
    transfer: sites
    web: app server
    web: routes acceptor
    web: hits health connections
    web: badge scripts protocol
    web: answering
    web: hit_request proxies
    web: responses request timeouts
    web: sending heads
    counting: store_watch
    counting: site_watch
    counting: counter
    counting: new_pages
    counting: readiness last_known
    counting: uncounted
    counting: sites
    counting: numbers reader
    exactly_once: adoption
    exactly_once: writer
    exactly_once: outage
    exactly_once: waiting
    exactly_once: journals
    exactly_once: journal
    exactly_once: delivery journal_file hit_ids
    exactly_once: journal_format lanes
    exactly_once: records
    exactly_once: kept
    exactly_once: increments
    metrics filter_lists
    config logs streams robots
    setting_parsers
    store: inspection corrections
    store: client embedded
    store: writer_connection programs
    store: refusals log data_dir_lock
    store: scripts
    store: durability keys url
    hit disk limits metric_files
    site outcomes
    block period errors client_address __init__
"""


def rungs() -> Iterator[list[str]]:
    """Read the ladder: the modules of each rung, by their names in the package."""
    for line in LADDER.strip().split("\n"):
        room, _, modules = line.strip().rpartition(": ")
        yield [f"{room}.{module}".strip(".") for module in modules.split()]


RUNGS = {module: n for n, rung in enumerate(rungs()) for module in rung}
ROOMS = {module.partition(".")[0] for module in RUNGS if "." in module}
RUNGS |= dict.fromkeys(ROOMS, len(RUNGS))  # a room's own module says what is in it, and no more
PURE = {
    "block",
    "client_address",
    "config",
    "errors",
    "filter_lists",
    "period",
    "setting_parsers",
    "site",
    "exactly_once.increments",
    "exactly_once.kept",
    "exactly_once.records",
    "store.durability",
    "store.keys",
    "store.url",
}
LIBRARIES = {
    "redis": {"store"},
    "hiredis": {"store"},
    "sqlite3": {"exactly_once"},
    "aiohttp": {"web", "pages", "operations", "process"},
    "prometheus_client": {"metrics", "metric_files", "operations"},
    "is_bot": {"robots"},
}
BAD_NAMES = {"utils", "core", "services", "common", "manager", "helper", "base", "data", "info"}
MAX_LINES, MAX_PARAMETERS, MAX_MODULE_LINES = 40, 7, 250

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.Module | ast.ClassDef | Function


ROOT = Path(hitcounter.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def read_modules() -> Iterator[tuple[str, ast.Module]]:
    """Read every module of the package."""
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text("utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Name what a module imports, also inside of functions: our modules, other packages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            parts = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            ours = (part if part in RUNGS else module or "__init__" for part in parts)
            yield from ours if package == "hitcounter" else [package]


MODULES = dict(read_modules())
IMPORTS = [(module, used) for module, tree in MODULES.items() for used in imported(tree)]


def test_every_module_has_a_rung_and_a_telling_name() -> None:
    assert MODULES.keys() == RUNGS.keys()
    assert BAD_NAMES.isdisjoint(part for module in MODULES for part in module.split("."))


def test_imports_only_go_down() -> None:
    ours = [(module, used) for module, used in IMPORTS if used in RUNGS]
    assert len(ours) > len(RUNGS)
    assert [f"{a} -> {b}" for a, b in ours if RUNGS[a] >= RUNGS[b]] == []


def test_the_map_names_every_room_and_only_what_is_there() -> None:
    text = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == ROOMS
    rows = re.findall(r"^\| `(\w+)/` \| (.*) \|$", text, re.MULTILINE)
    named = {f"{room}.{name}" for room, row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named <= MODULES.keys()
    walked = set(re.findall(r"\b(\w+\.\w+)\b", text.partition("## The way of a hit")[2]))
    assert {name for name in walked if name.partition(".")[0] in ROOMS} <= MODULES.keys()


def test_each_library_is_used_only_where_it_belongs() -> None:
    rooms = [(module.partition(".")[0], used) for module, used in IMPORTS]
    assert [pair for pair in rooms if pair[0] not in LIBRARIES.get(pair[1], RUNGS)] == []
    assert LIBRARIES.keys() <= {used for _, used in IMPORTS}


@pytest.mark.parametrize(
    ("process", "unneeded"),
    [
        ("supervisor", {"aiohttp", "prometheus_client", "redis", "sqlite3"}),
        ("operations", {"aiohttp.web", "redis", "regex", "sqlite3"}),
        ("worker", {"aiohttp.web"}),
    ],
)
def test_a_process_does_not_load_what_only_others_need(process: str, unneeded: set[str]) -> None:
    """Libraries take most of the memory, and of the time to start."""
    code = f"import sys, hitcounter.process.{process}; print(*sys.modules)"
    command = [sys.executable, "-P", "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert unneeded.isdisjoint(loaded)


def test_nobody_reads_the_certificates_of_authorities_but_for_the_store() -> None:
    code = """if True:
        import os
        from hitcounter.process.handshake import loading
        before = dict(os.environ)
        with loading():
            from aiohttp import connector
        assert os.environ == before
        print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"])
    """
    environ = os.environ | {"SSL_CERT_DIR": "/etc/ssl/certs"}
    command = [sys.executable, "-P", "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    assert found.stdout == "0\n"


def test_pure_modules_need_nothing_but_the_standard_library() -> None:
    allowed = PURE | sys.stdlib_module_names
    assert [pair for pair in IMPORTS if pair[0] in PURE and pair[1] not in allowed] == []


def n_lines(function: Function) -> int:
    """Count the lines of a function without its docstring."""
    first = function.body[1 if ast.get_docstring(function) and function.body[1:] else 0]
    end = function.end_lineno or 0
    return end - first.lineno + 1 + function.body[0].lineno - function.lineno


def n_parameters(function: Function) -> int:
    """Count the parameters of a function, `self` among them."""
    args = function.args
    return len([*args.posonlyargs, *args.args, *args.kwonlyargs])


def test_no_module_is_long() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {path: n for path, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_functions_are_short_and_take_few_parameters() -> None:
    nodes = [(module, node) for module, tree in MODULES.items() for node in ast.walk(tree)]
    functions = [(module, node) for module, node in nodes if isinstance(node, Function)]
    assert [f"{m}.{f.name}" for m, f in functions if n_lines(f) > MAX_LINES] == []
    assert [f"{m}.{f.name}" for m, f in functions if n_parameters(f) > MAX_PARAMETERS] == []


def public(scope: Scope, name: str) -> Iterator[tuple[str, Scope]]:
    """Name a module or class and all that is public in it."""
    yield name, scope
    for node in scope.body if not isinstance(scope, Function) else ():
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield from public(node, f"{name}.{node.name}")


def test_every_module_and_public_definition_says_what_it_is() -> None:
    scopes = [pair for module, tree in MODULES.items() for pair in public(tree, module)]
    assert len(scopes) > 10 * len(MODULES) / 2
    assert [name for name, scope in scopes if not ast.get_docstring(scope)] == []


def test_the_documents_say_how_large_the_code_is() -> None:
    text = (Path(__file__).parents[1] / "docs" / "design.md").read_text("utf-8")
    (said,) = re.findall(r"\*\*([0-9,]+) lines of code\*\*", text)
    assert abs(int(said.replace(",", "")) / by_room().total() - 1) < 0.02
