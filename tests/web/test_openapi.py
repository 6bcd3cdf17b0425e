"""The HTTP contract as served at /openapi.yaml: every word of it happens, and nothing else does.

Each status and each error code of each operation is triggered over a real socket, with real
causes: a store that is stopped, spoilt, full or not there. What comes must be as documented.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

import hitcounter
from hitcounter.block import LANGUAGES, LINE_KEYS, THEMES
from hitcounter.errors import STATUSES, Refusal, UnnamedPage
from hitcounter.exactly_once.waiting import MAX_WAITING_HITS
from hitcounter.pages import index
from hitcounter.site import page_path
from hitcounter.store.client import N_LANES
from hitcounter.store.keys import LANES_KEY, ids_key, lane_of
from hitcounter.store.writer_connection import STRETCH_S
from hitcounter.web.routes import ROUTES, SITE_ROUTES
from hitcounter.web.scripts import CURRENT, PINNED
from tests.conftest import RunningService, StartService
from tests.support.floods import flood_from_everywhere
from tests.support.stores import frozen_store, store_of
from tests.support.wire import Answer, Connection, ask, exchange, request

FILE = Path(hitcounter.__file__).parent / "web" / "static" / "openapi.yaml"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
METHODS = ("get", "head", "post", "options")
# Of HTTP itself, and on every answer.
STANDARD_HEADERS = {"content-type", "content-length", "date", "server", "connection"}

HITS = "/v1/sites/{site}/hits"
COUNTS = "/v1/sites/{site}/counts"
TOTALS = "/v1/sites/{site}/pages"
PIXEL = "/v1/sites/{site}/pixel.gif"
BADGE = "/v1/sites/{site}/badge.svg"
VERSION = "/widget-{version}.js"
FILES = ("/index.js", "/widget.js", VERSION, "/openapi.yaml")
PAGES = ("/", *FILES, "/healthz", "/readyz")


@cache
def document() -> Any:
    """Read the description."""
    return yaml.safe_load(FILE.read_bytes())


def resolved(part: Any) -> Any:
    """Follow a reference within the description."""
    found = document()
    if "$ref" not in part:
        return part
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def check_schema(schema: Mapping[str, Any], content: Any) -> None:
    """Check JSON against a schema of the description."""
    OAS31Validator({**schema, "components": document()["components"]}).validate(content)


def codes_of(response: Mapping[str, Any]) -> list[str]:
    """List the error codes of a documented response; one empty code where it is no error."""
    content = response.get("content", {}).get("application/json", {})
    is_error = content.get("schema", {}).get("$ref") == "#/components/schemas/Error"
    return list(content["examples"]) if is_error else [""]


class Outcome(NamedTuple):
    """What an operation may answer."""

    method: str
    path: str
    status: int
    code: str = ""


class Trigger(NamedTuple):
    """What makes it answer so: bytes to a service in a certain state."""

    state: str
    raw: bytes


def documented_operations() -> Iterator[tuple[str, str, Any]]:
    """Walk through the operations."""
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def documented_outcomes() -> Iterator[Outcome]:
    """Walk through all that the operations may answer."""
    for method, path, operation in documented_operations():
        for status, response in operation["responses"].items():
            for code in codes_of(resolved(response)):
                yield Outcome(method, path, int(status), code)


EVIL = {"Origin": "https://evil.example"}
OPEN, DECLARED, AWAY, FULL, SPOILT = "open", "declared", "away", "full", "spoilt"
# The store is away, and the journal has no room, cannot be made, or is found wanting just now.
NO_ROOM, NO_JOURNAL, SURPRISED = "no room", "no journal", "surprised"
LONG = "/" + "a" * 500  # where a page fits, a hit for no page may still fit
LITTERED = "littered"
FLOODED = "flooded"  # by everybody
CLAIMED = "claimed"  # a worker died over a hit


def _hits() -> Iterator[tuple[Outcome, Trigger]]:
    def on(
        status: int,
        code: str,
        state: str,
        body: bytes | None = None,
        *,
        site: str = "demo",
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Outcome, Trigger]:
        raw = request("POST", f"/v1/sites/{site}/hits{query}", body, headers)
        return Outcome("POST", HITS, status, code), Trigger(state, raw)

    yield on(200, "", OPEN, b'{"path": "/tin-tuc/1"}')
    yield on(400, "bad_site", OPEN, site="DEMO")
    yield on(400, "bad_path", OPEN, b'{"path": "tin-tuc"}')
    yield on(400, "bad_json", OPEN, b"{")
    yield on(400, "bad_query", OPEN, query="?path=/a")
    yield on(400, "bad_lang", OPEN, query="?lang=fr")
    yield on(403, "foreign_origin", DECLARED, site="news.example.vn", headers=EVIL)
    yield on(404, "unknown_site", DECLARED, site="other.example.vn")
    yield on(404, "too_many_sites", OPEN, site="other.example.vn")
    yield on(408, "slow_body", DECLARED, site="news.example.vn", headers={"Content-Length": "9"})
    yield on(413, "too_large", OPEN, b" " * 3000)
    yield on(415, "bad_content_type", OPEN, b"{}", headers={"Content-Type": "text/html"})
    yield on(429, "flood", FLOODED)
    yield on(503, "store_unavailable", AWAY)
    yield on(503, "journal_full", NO_ROOM, json.dumps({"path": LONG}).encode())
    yield on(503, "journal_failed", NO_JOURNAL)
    yield on(503, "outcome_unknown", SURPRISED)
    yield on(503, "unsettled", CLAIMED, b'{"id": "0123456789abcdef"}')
    yield on(503, "overloaded", FULL)


def _reads(method: str, path: str) -> Iterator[tuple[Outcome, Trigger]]:
    def on(status: int, code: str, state: str, query: str, site: str = "demo") -> Any:
        raw = request(method, path.format(site=site) + query)
        return Outcome(method, path, status, code), Trigger(state, raw)

    yield on(200, "", OPEN, "?path=/tin-tuc/1&lang=en")
    yield on(400, "bad_site", OPEN, "?path=/a", "DEMO")
    yield on(400, "bad_path", OPEN, "?path=")
    yield on(400, "bad_query", OPEN, "?page=/a")
    yield on(400, "bad_lang", OPEN, "?path=/a&lang=fr")
    yield on(404, "unknown_site", DECLARED, "?path=/a")
    yield on(503, "store_unavailable", AWAY, "?path=/a")


def _pixel(method: str) -> Iterator[tuple[Outcome, Trigger]]:
    def on(
        status: int, code: str, state: str, target: str = "demo/pixel.gif"
    ) -> tuple[Outcome, Trigger]:
        headers = EVIL if code == "foreign_origin" else None
        raw = request(method, f"/v1/sites/{target}", None, headers)
        return Outcome(method, PIXEL, status, code), Trigger(state, raw)

    yield on(200, "", OPEN)
    yield on(400, "bad_site", OPEN, "DEMO/pixel.gif")
    yield on(400, "bad_path", OPEN, "demo/pixel.gif?path=a")
    yield on(400, "bad_query", OPEN, "demo/pixel.gif?path=/a&path=/b")
    yield on(403, "foreign_origin", DECLARED, "news.example.vn/pixel.gif")
    yield on(404, "unknown_site", DECLARED)
    yield on(429, "flood", FLOODED)
    if method == "GET":
        yield on(404, "too_many_sites", OPEN, "other.example.vn/pixel.gif")
        yield on(503, "store_unavailable", AWAY)
        yield on(503, "journal_full", NO_ROOM, f"demo/pixel.gif?path={LONG}")
        yield on(503, "journal_failed", NO_JOURNAL)
        yield on(503, "outcome_unknown", SURPRISED)
        yield on(503, "overloaded", FULL)


def _badge(method: str) -> Iterator[tuple[Outcome, Trigger]]:
    def on(
        status: int, code: str, state: str, target: str = "demo/badge.svg?count=1"
    ) -> tuple[Outcome, Trigger]:
        headers = EVIL if code == "foreign_origin" else None
        raw = request(method, f"/v1/sites/{target}", None, headers)
        return Outcome(method, BADGE, status, code), Trigger(state, raw)

    looks = "lang=en&lines=total,today&theme=dark&title=A&icons=off&accent=c00&color=fff"
    yield on(200, "", OPEN, f"demo/badge.svg?{looks}&count=1&path=/tin-tuc/1")
    yield on(400, "bad_site", OPEN, "DEMO/badge.svg")
    yield on(400, "bad_path", OPEN, "demo/badge.svg?path=a")
    yield on(400, "bad_query", OPEN, "demo/badge.svg?lines=week")
    yield on(400, "bad_lang", OPEN, "demo/badge.svg?lang=fr")
    yield on(403, "foreign_origin", DECLARED, "news.example.vn/badge.svg?count=1")
    yield on(404, "unknown_site", DECLARED, "demo/badge.svg")
    yield on(429, "flood", FLOODED)
    yield on(503, "store_unavailable", AWAY, "demo/badge.svg")
    if method == "GET":
        yield on(404, "too_many_sites", OPEN, "other.example.vn/badge.svg?count=1")
        yield on(503, "journal_full", NO_ROOM, f"demo/badge.svg?count=1&path={LONG}")
        yield on(503, "journal_failed", NO_JOURNAL)
        yield on(503, "outcome_unknown", SURPRISED)
        yield on(503, "overloaded", FULL)


def _embedding(method: str) -> Iterator[tuple[Outcome, Trigger]]:
    def on(
        path: str, status: int, code: str, target: str, state: str = OPEN
    ) -> tuple[Outcome, Trigger]:
        return Outcome(method, path, status, code), Trigger(state, request(method, target))

    yield on("/", 400, "bad_site", "/?site=DEMO")
    yield on("/", 400, "bad_query", "/?theme=blue")
    yield on("/", 400, "bad_lang", "/?lang=fr")
    yield on("/", 404, "unknown_site", "/?site=other.example.vn", DECLARED)
    for path in ("/widget.js", VERSION):
        raw = request(method, address(path), None, {"If-None-Match": f'W/"{CURRENT.version}"'})
        yield Outcome(method, path, 304), Trigger(OPEN, raw)
    yield on(VERSION, 404, "not_found", "/widget-000000000000.js")


def address(path: str) -> str:
    """Write a documented path as somebody asks for it."""
    return CURRENT.path if path == VERSION else path.replace("{site}", "demo")


def _others() -> Iterator[tuple[Outcome, Trigger]]:
    for method in ("GET", "HEAD"):
        for path in PAGES:
            yield Outcome(method, path, 200), Trigger(OPEN, request(method, address(path)))
        for code, state in (
            ("store_unavailable", AWAY),
            ("store_unfit", SPOILT),
            ("journal_full", NO_ROOM),
            ("journal_failed", NO_JOURNAL),
        ):
            yield Outcome(method, "/readyz", 503, code), Trigger(state, request(method, "/readyz"))
    gone = Trigger(OPEN, request("OPTIONS", "/widget-000000000000.js"))
    yield Outcome("OPTIONS", VERSION, 404, "not_found"), gone
    for path in (HITS, COUNTS, TOTALS, PIXEL, BADGE, *PAGES):
        raw = request("OPTIONS", address(path))
        yield Outcome("OPTIONS", path, 204), Trigger(OPEN, raw)


# By operation and what it answers.
TRIGGERS = dict(
    [
        *_hits(),
        *(each for m in ("GET", "HEAD") for path in (COUNTS, TOTALS) for each in _reads(m, path)),
        *(each for method in ("GET", "HEAD") for each in _pixel(method)),
        *(each for method in ("GET", "HEAD") for each in _badge(method)),
        *(each for method in ("GET", "HEAD") for each in _embedding(method)),
        *_others(),
    ]
)
HUGE = request("GET", "/", None, {f"X-{n}": "a" * 1000 for n in range(40)})
# What any address may answer, by the name under components.responses.
ANYWHERE = {
    "BadRequest": (400, "bad_request", Trigger(OPEN, b"GET / HTTP/9.9\r\n\r\n")),
    "NotFound": (404, "not_found", Trigger(OPEN, request("GET", "/nothing"))),
    "MethodNotAllowed": (405, "method_not_allowed", Trigger(OPEN, request("PUT", "/healthz"))),
    "HeadTooLarge": (431, "head_too_large", Trigger(OPEN, HUGE)),
    "Internal": (500, "internal", Trigger(LITTERED, request("GET", "/readyz"))),
}


def _open(start: StartService, _: ExitStack) -> RunningService:
    service = start(max_sites=1)
    assert ask(service.port, "POST", "/v1/sites/demo/hits").status == 200
    return service


def _declared(start: StartService, _: ExitStack) -> RunningService:
    toml = '[sites."news.example.vn"]\norigins = ["https://news.example.vn"]\n'
    return start(toml, body_timeout_s=0.2)


def _away(start: StartService, _: ExitStack) -> RunningService:
    """Start a service that never saw its store, and knows no numbers."""
    return start("[sites.demo]\n", redis_url="unix:///nonexistent/store.sock", store_timeout_s=0.3)


def _no_room(start: StartService, at_end: ExitStack) -> RunningService:
    """Fill the journal of a service whose store hangs."""
    service = start("[sites.demo]\n", store_timeout_s=0.3, journal_max_mb=1)
    at_end.enter_context(frozen_store(service))
    draw = Random(1)
    with ExitStack() as connections:
        many = [connections.enter_context(Connection(service.port)) for _ in range(50)]
        for clients, length in ((many, 160), (many[:1], 160), (many[:1], 1)):
            while _all_stored(clients, draw, length):
                pass
    return service


def _all_stored(clients: list[Connection], draw: Random, length: int) -> bool:
    """Send hits for long pages, one per client; tell whether the journal had room for them."""
    for client in clients:
        path = "/" + "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(length))
        client.send(request("POST", "/v1/sites/demo/hits", json.dumps({"path": path}).encode()))
    answers = [client.receive("POST") for client in clients]
    return all(answer is not None and answer.status == 200 for answer in answers)


def _surprised(start: StartService, _: ExitStack) -> RunningService:
    """Let the store of a service take no commits, and put a file where its journals would lie.

    The store answers other questions, so the service does not expect that.
    """
    service = start("[sites.demo]\n", store_timeout_s=0.3)
    journals = service.data_dir / "journal"
    journals.rmdir()
    journals.touch()
    with store_of(service) as redis:
        redis.client_pause(600_000, all=False)
    return service


def _no_journal(start: StartService, at_end: ExitStack) -> RunningService:
    service = _surprised(start, at_end)
    assert ask(service.port, "POST", "/v1/sites/demo/hits").code == "outcome_unknown"
    return service


def _littered(start: StartService, _: ExitStack) -> RunningService:
    """Put into the store of a service a number that Python does not read, as nobody would."""
    service = start()
    with store_of(service) as redis:
        redis.set(LANES_KEY, "9" * 5000)
    return service


def _flooded(start: StartService, _: ExitStack) -> RunningService:
    """Write into the memory of the limits that every address has sent a flood."""
    service = start(limits="on")
    flood_from_everywhere(service.process.pid)
    return service


def _claimed(start: StartService, _: ExitStack) -> RunningService:
    """Leave in the store what a worker leaves there that dies before it counts a hit."""
    service = start()
    with store_of(service) as redis:
        for stretch in (0, 1):
            name = ids_key(lane_of("demo", N_LANES), int(time.time() // STRETCH_S) + stretch)
            redis.hset(name, "demo:0123456789abcdef", "dead:1")
    return service


def _full(start: StartService, at_end: ExitStack) -> RunningService:
    """Let as many hits wait for a store that hangs as may wait; they wait on, also unwatched."""
    service = start(store_timeout_s=60)
    assert ask(service.port, "POST", "/v1/sites/demo/hits").status == 200
    at_end.enter_context(frozen_store(service))
    hit = request("POST", "/v1/sites/demo/hits")
    for n in range(MAX_WAITING_HITS):
        with Connection(service.port) as connection:
            connection.send(hit)
        if n % 500 == 0:  # no more than the system's queue of new connections takes
            assert ask(service.port, "GET", "/healthz").status == 200
    assert ask(service.port, "GET", "/healthz").status == 200
    return service


def _spoilt(start: StartService, _: ExitStack) -> RunningService:
    """Give the store of a service a wrong setting."""
    service = start()
    with store_of(service) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
    return service


STATES = {
    OPEN: _open,
    DECLARED: _declared,
    AWAY: _away,
    NO_ROOM: _no_room,
    NO_JOURNAL: _no_journal,
    SURPRISED: _surprised,
    CLAIMED: _claimed,
    FLOODED: _flooded,
    LITTERED: _littered,
    FULL: _full,
    SPOILT: _spoilt,
}
Prepare = Callable[[str], RunningService]


@pytest.fixture(scope="module")
def prepare(start_shared: StartService) -> Iterator[Prepare]:
    """Give a service in a state: the same to all, except for one that can be surprised once."""
    ready: dict[str, RunningService] = {}
    with ExitStack() as at_end:

        def give(state: str) -> RunningService:
            if state not in ready or state == SURPRISED:
                ready[state] = STATES[state](start_shared, at_end)
            return ready[state]

        yield give


def trigger(prepare: Prepare, trigger: Trigger, method: str = "GET") -> Answer:
    """Make a service answer."""
    answer = exchange(prepare(trigger.state).port, trigger.raw, method)
    assert answer is not None
    return answer


def cases() -> Iterator[Any]:
    """List all outcomes; those that need one state go to one process, which prepares it once."""
    for outcome, trigger in TRIGGERS.items():
        marks = [pytest.mark.xdist_group(f"openapi {trigger.state}")]
        if trigger.state == FULL:  # takes seconds
            marks.append(pytest.mark.slow)
        yield pytest.param(outcome, marks=marks, id=" ".join(map(str, outcome)))


@pytest.mark.slow
@pytest.mark.parametrize("outcome", list(cases()))
def test_an_operation_answers_as_documented(prepare: Prepare, outcome: Outcome) -> None:
    answer = trigger(prepare, TRIGGERS[outcome], outcome.method)
    assert answer.status == outcome.status
    if outcome.method != "HEAD":
        assert answer.code == outcome.code
    operation = document()["paths"][outcome.path][outcome.method.lower()]
    check_answer(resolved(operation["responses"][str(outcome.status)]), answer)


@pytest.mark.slow
@pytest.mark.parametrize("name", ANYWHERE)
def test_any_address_answers_what_it_does_not_expect_as_documented(
    prepare: Prepare, name: str
) -> None:
    status, code, cause = ANYWHERE[name]
    answer = trigger(prepare, cause)
    assert (answer.status, answer.code) == (status, code)
    response = document()["components"]["responses"][name]
    assert codes_of(response) == [code]
    check_answer(response, answer)


def check_answer(response: Mapping[str, Any], answer: Answer) -> None:
    """Check an answer against the response that documents it: no header and no type besides."""
    described = {name.lower(): resolved(part) for name, part in response["headers"].items()}
    assert answer.headers.keys() - STANDARD_HEADERS == described.keys()
    for name, header in described.items():
        value = answer.headers[name]
        is_number = header["schema"].get("type") == "integer"
        check_schema(header["schema"], int(value) if is_number else value)
    content = response.get("content", {})
    kind = answer.headers.get("content-type", "").partition(";")[0]
    assert [kind] == list(content or [""])
    if answer.body and "schema" in content[kind]:
        check_schema(content[kind]["schema"], answer.json)


def test_every_documented_outcome_is_triggered_and_no_other_is() -> None:
    assert set(TRIGGERS) == set(documented_outcomes())


def test_the_served_description_is_valid(prepare: Prepare) -> None:
    served = ask(prepare(OPEN).port, "GET", "/openapi.yaml").body
    assert served == FILE.read_bytes()
    validate(yaml.safe_load(served))


def test_every_route_is_documented_with_its_methods_and_no_other_is() -> None:
    site_routes = {f"/v1/sites/{{site}}/{name}": route for name, route in SITE_ROUTES.items()}
    ours = {**ROUTES, **index.ROUTES}
    documented = {path: route for path, route in ours.items() if path not in PINNED}
    routes = {**site_routes, **documented, VERSION: ROUTES[CURRENT.path]}
    served = {
        (method, path) for path, route in routes.items() for method in route.allowed.split(", ")
    }
    assert served == {(method, path) for method, path, _ in documented_operations()}


def test_the_documented_options_of_the_block_are_those_in_the_source() -> None:
    parts = document()["components"]
    named = {name: part["schema"] for name, part in parts["parameters"].items()}
    widget = parts["schemas"]["Numbers"]["properties"]["widget"]["properties"]
    assert named["lang"]["enum"] == widget["lang"]["enum"] == list(LANGUAGES)
    assert named["theme"]["enum"] == list(THEMES)
    line = widget["lines"]["items"]["properties"]["key"]["enum"]
    assert named["lines"]["items"]["enum"] == line
    assert all(named[key] == {"type": "string", "const": "1"} for key in line)
    assert line == list(LINE_KEYS)


def test_the_documented_error_codes_are_those_of_the_table_each_with_its_status() -> None:
    examples = document()["components"]["examples"]
    assert all(code == part["value"]["error"]["code"] for code, part in examples.items())
    triggered = {(outcome.code, outcome.status) for outcome in TRIGGERS if outcome.code}
    triggered |= {(code, status) for status, code, _ in ANYWHERE.values()}
    public = {(code, STATUSES[code]) for code in STATUSES.keys() - {"foreign_host"}}
    assert triggered == public
    assert set(examples) == {code for code, _ in public}


def test_every_example_is_as_its_schema_says() -> None:
    for _, _, operation in documented_operations():
        for part in (operation.get("requestBody"), *operation["responses"].values()):
            for kind, content in resolved(part or {}).get("content", {}).items():
                for example in examples_of(content):
                    check_schema(content["schema"], example)
                    if kind == "text/plain":
                        check_schema(content["schema"]["contentSchema"], json.loads(example))


def examples_of(content: Mapping[str, Any]) -> Iterator[Any]:
    """Give the examples of a body."""
    if "example" in content:
        yield content["example"]
    for example in content.get("examples", {}).values():
        yield example["value"]


PARTS = [
    *("/", "a", "ệ", "?", "#", "&", "%", "%0", "%1", "7f", "0A", "%41", "%7E", "%C2%A0"),
    *("%01", "%1f", "%7F", "%C2", "%c2%85", "%C2%9f", "%E1%BB%87", "%2501"),
    *("%ED%A0%80", "%ed%bF", "%BF"),
]


@given(st.lists(st.sampled_from(PARTS), max_size=6).map(lambda parts: "/" + "".join(parts)))
def test_the_path_of_a_page_is_refused_where_its_pattern_says_so(path: str) -> None:
    pattern = document()["components"]["parameters"]["path"]["schema"]["pattern"]
    try:
        page_path(path)
        is_refused = False
    except Refusal as refusal:
        is_refused = not isinstance(refusal, UnnamedPage)
    assert is_refused is (re.search(pattern, path) is None)


EXCEPTIONS = """
# What a browser may send does not depend on what it will ask for.
[[operations]]
include-method = "OPTIONS"
checks = { negative_data_rejection = { enabled = false } }

# Text that is generated for text/plain is seldom JSON.
[[operations]]
include-name = "POST /v1/sites/{site}/hits"
checks = { positive_data_acceptance = { expected-statuses = ["200", "400", "404"] } }
"""


@pytest.mark.slow
def test_schemathesis_finds_no_answer_that_is_not_documented(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service()
    (tmp_path / "schemathesis.toml").write_text(EXCEPTIONS)
    options = {
        "url": service.url,
        "phases": "examples,coverage,fuzzing",
        "max-examples": "25",
        "seed": "1",
        "generation-codec": "ascii",  # which of all characters a path may hold, no pattern says
        "generation-database": "none",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    result = subprocess.run(
        [SCHEMATHESIS, "run", "--no-color", "--continue-on-failure", *flags, FILE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Tested: {len(list(documented_operations()))}" in result.stdout
    assert "ERROR" not in service.log
