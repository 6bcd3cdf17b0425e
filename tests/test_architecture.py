"""Who may import whom: only downwards on this ladder, and each library only where it belongs."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import hitcounter

LADDER = """
    __main__
    cli
    supervisor housekeeping
    worker_start worker_process operations.__main__
    operations.process
    worker operations.app
    web.app
    web.hits web.operations
    web.front_page
    web.scripts
    web.badge
    web.acceptor web.connections
    web.protocol
    web.answering
    web.answers web.requests
    watch operations.readiness
    service adoption
    readiness
    writer transfer reader
    session journal recent
    store metrics embedded job listener logs streams
    programs store_log
    disk memory
    filter_lists
    stream guard config
    keys site store_url
    block period errors web operations __init__
"""
RUNGS = {module: n for n, rung in enumerate(LADDER.split("\n")) for module in rung.split()}
PURE = {module for module in RUNGS if RUNGS[module] >= RUNGS["filter_lists"]}
WEB = {module for module in RUNGS if module.startswith("web.")}
LIBRARIES = {
    "redis": {"store"},
    "hiredis": {"store"},
    "sqlite3": {"journal"},
    "aiohttp": WEB | {"worker", "operations.process", "operations.app"},
    "prometheus_client": {"metrics", "operations.app"},
}
BAD_NAMES = {"utils", "core", "services", "common", "manager", "helper", "base", "data", "info"}
MAX_LINES, MAX_PARAMETERS = 40, 7

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.Module | ast.ClassDef | Function


def read_modules() -> Iterator[tuple[str, ast.Module]]:
    """Read every module of the package."""
    root = Path(hitcounter.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
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


def test_each_library_is_used_only_where_it_belongs() -> None:
    assert [pair for pair in IMPORTS if pair[0] not in LIBRARIES.get(pair[1], RUNGS)] == []
    assert LIBRARIES.keys() <= {used for _, used in IMPORTS}


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
