"""The settings: who wins, and that every wrong one is named in one line and gives nothing away."""

import argparse
import re
import sys
import zoneinfo
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitcounter.config import SETTINGS, Config, add_flags, load, service_links
from hitcounter.errors import ConfigError
from hitcounter.site import Site
from tests.speeds import examples

HIDDEN = "hunter2"


def written(tmp_path: Path, text: str) -> str:
    """Write a configuration file."""
    path = tmp_path / "hitcounter.toml"
    path.write_text(text, "utf-8")
    return str(path)


def loaded(tmp_path: Path, toml: str) -> Config:
    return load({"config": written(tmp_path, toml)}, {})


def complaint(flags: dict[str, Any]) -> str:
    """Load settings; return what is said about them, nothing if they are right."""
    try:
        load(flags, {})
    except ConfigError as error:
        return str(error)
    return ""


def fault(tmp_path: Path, toml: str) -> str:
    """Load a wrong file; return what is said about it."""
    return complaint({"config": written(tmp_path, toml)})


def test_without_settings_the_defaults_hold() -> None:
    config = load({}, {})
    assert config == Config()
    assert (config.host, config.port, config.workers) == ("127.0.0.1", 8080, 1)
    assert config.timezone.key == "Asia/Ho_Chi_Minh"
    assert config.is_open


@pytest.mark.parametrize(
    ("flag", "variable", "in_file", "expected"),
    [
        (None, None, None, 8080),
        (None, None, 3, 3),
        (None, "2", None, 2),
        (None, "2", 3, 2),
        ("1", None, None, 1),
        ("1", None, 3, 1),
        ("1", "2", None, 1),
        ("1", "2", 3, 1),
    ],
)
def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(
    tmp_path: Path, flag: str | None, variable: str | None, in_file: int | None, expected: int
) -> None:
    flags = {"port": flag, "config": written(tmp_path, f"port = {in_file}" if in_file else "")}
    environ = {"HITCOUNTER_PORT": variable} if variable else {}
    assert load(flags, environ).port == expected


def test_the_file_is_named_by_a_flag_or_by_the_environment(tmp_path: Path) -> None:
    path = written(tmp_path, "port = 3")
    by_variable = load({}, {"HITCOUNTER_CONFIG": path})
    assert by_variable == load({"config": path}, {})
    assert (by_variable.port, by_variable.config) == (3, Path(path))
    assert load({"config": path}, {"HITCOUNTER_CONFIG": "/nowhere"}).port == 3


def test_a_file_may_begin_with_the_mark_that_windows_editors_write(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeffport = 3").port == 3


def test_what_was_given_is_known_whatever_it_says(tmp_path: Path) -> None:
    path = written(tmp_path, "data_dir = 'data'")
    assert "data_dir" not in load({}, {}).given
    for flags, environ in (
        ({"data_dir": "data"}, {}),
        ({}, {"HITCOUNTER_DATA_DIR": "data"}),
        ({"config": path}, {}),
    ):
        assert "data_dir" in load(flags, environ).given


def test_an_empty_name_of_a_file_means_no_file() -> None:
    assert load({}, {"HITCOUNTER_CONFIG": ""}).config is None


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, "port = 3")
    config = load({"config": "~/hitcounter.toml", "data_dir": "~/data"}, {})
    assert (config.port, config.data_dir) == (3, tmp_path / "data")


def test_other_variables_of_the_environment_are_not_ours() -> None:
    assert load({}, {"PORT": "1", "hitcounter_port": "1", "PATH": "/bin"}) == Config()


def test_every_setting_is_read_by_one_rule_from_file_environment_and_flag(tmp_path: Path) -> None:
    texts = {
        "host": "::1",
        "port": "0",
        "operations_host": "::1",
        "operations_port": "off",
        "operations_hosts": "Dem.example.vn, [::1]",
        "workers": "4",
        "data_dir": "/var/lib/hitcounter",
        "redis_url": f"rediss://:{HIDDEN}@redis.example.vn:6380/1",
        "store_binary": "/usr/bin/valkey-server",
        "timezone": "Europe/Berlin",
        "lang": "en",
        "max_sites": "7",
        "max_pages": "0",
        "trusted_proxies": "10.0.0.0/8, ::1/128",
        "count_robots": "true",
        "robot_words": "OurWatcher, acme",
        "limits": "off",
        "promise_wanted": "A",
        "kept_window_s": "30.5",
        "store_timeout_s": "0.25",
        "body_timeout_s": "2.5",
        "send_timeout_s": "20",
        "head_timeout_s": "7",
        "max_connections": "500",
        "watch_every_s": "7.5",
        "journal_max_mb": "64",
        "store_max_mb": "300",
        "log_format": "json",
    }
    assert texts.keys() | {"config"} == SETTINGS.keys()
    by_flag = load(texts, {})
    assert load({}, {f"HITCOUNTER_{name.upper()}": text for name, text in texts.items()}) == by_flag
    in_file = loaded(tmp_path, "".join(f"{name} = '{text}'\n" for name, text in texts.items()))
    assert [getattr(in_file, name) for name in texts] == [getattr(by_flag, name) for name in texts]
    assert by_flag.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert (by_flag.workers, by_flag.kept_window_s, by_flag.lang) == (4, 30.5, "en")
    assert (by_flag.operations_port, load({"operations_port": "0"}, {}).operations_port) == (
        None,
        0,
    )
    assert by_flag.operations_hosts == ("dem.example.vn", "::1")
    assert (by_flag.watch_every_s, by_flag.journal_max_mb) == (7.5, 64)
    assert by_flag.store_max_mb == 300
    assert (by_flag.body_timeout_s, by_flag.send_timeout_s) == (2.5, 20.0)
    assert by_flag.timezone == ZoneInfo("Europe/Berlin")
    assert by_flag.count_robots
    assert by_flag.robot_words == ("OurWatcher", "acme")


def test_the_file_has_types_of_its_own(tmp_path: Path) -> None:
    config = loaded(tmp_path, "port = 0\nkept_window_s = 30\ntrusted_proxies = ['10.0.0.0/8', '']")
    assert (config.port, config.kept_window_s) == (0, 30.0)
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://localhost",
        "redis://127.0.0.1:6379/0",
        f"redis://:{HIDDEN}@127.0.0.1:6379/0",
        f"rediss://user:{HIDDEN}@[::1]:6380",
        "unix:///run/redis.sock",
        f"unix://:{HIDDEN}@/run/redis.sock?db=1",
    ],
)
def test_a_url_names_a_store_or_is_empty(url: str) -> None:
    assert load({"redis_url": url}, {}).redis_url == url


BAD_VALUES: dict[str, list[Any]] = {
    "host": [1, ["::1"], "a..b", "x" * 64, "\ud800", "", " ", "a b", "a/b", ".", "::1%", "::1%a\0"],
    "port": ["", "-1", "65536", "http", "80.5", 65536, -1, 1.5, True, [8080], {}],
    "operations_host": [1, ["::1"], "", " ", "a b", "::1%"],
    "operations_port": ["", "on", "65536", -1, 1.5, False, ["off"]],
    "operations_hosts": [1, ["a b"], "a/b", "http://counter", "*", [1], {}],
    "workers": ["0", "257", "", "one", 0, 1000],
    "data_dir": [1, ["data"], "a\0b", "~no-such-user/data", "", " ", "/srv/\udcff"],
    "redis_url": [
        1,
        [f"redis://:{HIDDEN}@localhost"],
        {"url": HIDDEN},
        "localhost:6379",
        f"http://:{HIDDEN}@localhost",
        f"redis://:{HIDDEN}@",
        f"redis://:{HIDDEN}@localhost:port",
        f"redis://:{HIDDEN}@localhost:99999",
        f"redis://:{HIDDEN}@[localhost",
        f"unix://{HIDDEN}",
        f"redis+sentinel://:{HIDDEN}@localhost",
        f"redis://user:{HIDDEN}/@localhost",
        f"redis://user:1/{HIDDEN}@localhost",
        f"redis://:{HIDDEN}@localhost?{HIDDEN}=1",
        f"redis://{HIDDEN}@localhost",
        HIDDEN,
    ],
    "store_binary": [1, ["valkey-server"], "/srv/\udcff"],
    "timezone": ["", "Hanoi", "GMT+7", "Asia", "../etc/passwd", "/etc/passwd", "a\0b", 7, []],
    "lang": ["", "fr", "VI", ["vi"], {}, 1],
    "max_sites": ["0", "-1", "many", 10**9 + 1, 1.0],
    "max_pages": ["-1", "many", 10**9 + 1, False],
    "trusted_proxies": ["10.0.0.1/8", "proxy", "10.0.0.0/33", 1, [1], {"a": 1}, True],
    "count_robots": ["", "yes", "True", 1, 0, 1.0, [True], {}],
    "robot_words": ["ab", ["acme", "x"], [1], 1, {}, True],
    "limits": ["", "true", "ON", True, 1, ["on"], {}],
    "promise_wanted": ["", "a", "C", "none", "unknown", True, ["A"], {}],
    "kept_window_s": ["0", "-1", "soon", "nan", "inf", "3601", 0, -5, True, [5], 10**400],
    "store_timeout_s": ["0", "", "1s", float("nan"), float("inf"), {}, False],
    "body_timeout_s": ["0", "-1", "slow", "nan", 3601, 0, True, [5]],
    "send_timeout_s": ["0", "-1", "10s", "inf", 3601, 0, False, {}],
    "head_timeout_s": ["0", "-1", "10s", "inf", 3601, 0, False, {}],
    "max_connections": ["0", "-1", "1.5", "many", 0, True],
    "watch_every_s": ["0", "", "-1", "1min", "nan", 3601, [60], True],
    "journal_max_mb": ["0", "-1", "", "256MB", "1.5", 10**9 + 1, 1.5, True, [256]],
    "store_max_mb": ["-1", "", "256MB", "1.5", 10**9 + 1, 1.5, True, [256]],
    "log_format": ["", "JSON", "logfmt", True, ["json"], {}],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(name: str, value: Any) -> None:
    message = complaint({name: value})
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert HIDDEN not in message


def test_every_setting_but_the_file_has_wrong_values_above() -> None:
    assert BAD_VALUES.keys() | {"config"} == SETTINGS.keys()


toml_values = st.recursive(
    st.text() | st.integers() | st.floats() | st.booleans() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
short_settings = st.sampled_from(sorted(SETTINGS.keys() - {"config"}))


@settings(max_examples=examples(400))
@given(short_settings, toml_values | st.integers(min_value=-(10**400), max_value=10**400))
def test_whatever_a_file_says_is_taken_or_refused_by_name(name: str, value: Any) -> None:
    message = complaint({name: value})
    assert message == "" or message.startswith(f"{name}: ")
    assert "\n" not in message


@given(st.text(), st.sampled_from(["", "redis://", "rediss://", "unix://", "http://", "redis://["]))
def test_no_message_repeats_the_password_of_a_url(text: str, start: str) -> None:
    assert HIDDEN not in complaint({"redis_url": f"{start}:{HIDDEN}@{text}"})


def test_a_site_is_declared_in_its_own_script_or_as_punycode(tmp_path: Path) -> None:
    punycode = "xn--hinngdn-uwa2n1471a.vn"
    for name in ("hộinôngdân.vn", "HỘINÔNGDÂN.vn", punycode):
        sites = loaded(tmp_path, f'[sites."{name}"]').sites
        assert {name: site.name for name, site in sites.items()} == {punycode: punycode}
    twice = f'[sites."hộinôngdân.vn"]\n[sites."{punycode}"]'
    assert fault(tmp_path, twice) == f"sites.'{punycode}': {punycode} is declared twice"

    assert "a site name is" in fault(tmp_path, '[sites."hội nông"]')


def test_a_name_stands_for_one_site(tmp_path: Path) -> None:
    text = '[sites.a]\naliases = ["old.example.vn", "hộinôngdân.vn"]\n[sites.b]\naliases = ["{}"]'
    names = ("old.example.vn", "xn--hinngdn-uwa2n1471a.vn")
    assert loaded(tmp_path, text.format("other")).sites["a"].aliases == names
    itself = "is declared as a site itself: leave out one of both"
    for alias in ("a", "b"):
        assert fault(tmp_path, text.format(alias)) == f"sites.'b'.aliases: {alias} {itself}"
    assert fault(tmp_path, text.format(names[0])) == (
        f"sites.'b'.aliases: {names[0]} is an alias of a already"
    )
    assert "sites.'b'.aliases: a site name is" in fault(tmp_path, text.format("a b"))


def test_an_unknown_name_is_an_error_wherever_it_stands(tmp_path: Path) -> None:
    assert "'prot'" in fault(tmp_path, "prot = 80")
    assert "'data-dir'" in fault(tmp_path, "data-dir = '/tmp'")
    for name in ("HITCOUNTER_PROT", "HITCOUNTER_SITES", "HITCOUNTER_"):
        with pytest.raises(ConfigError, match="unknown setting"):
            load({}, {name: "80"})


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"port = ", "is not TOML"), (b"port = 1\nport = 2", "is not TOML"), (b"\xff", "is not TOML")],
)
def test_what_is_not_toml_is_refused_by_the_name_of_the_file(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "hitcounter.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))} {said}"):
        load({"config": str(path)}, {})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"^cannot read {re.escape(str(path))}: "):
            load({"config": str(path)}, {})


def test_a_declared_site_has_its_own_settings_or_those_of_the_service(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        lang = "en"
        max_pages = 5
        count_robots = true
        [sites.demo]
        [sites."www.example.vn"]
        timezone = "Europe/Berlin"
        lang = "vi"
        origins = ["https://www.example.vn", "http://localhost:8000", "en.example.vn"]
        max_pages = 0
        query = ["id", "muc"]
        count_robots = false
        """,
    )
    origins = frozenset({"https://www.example.vn", "http://localhost:8000", "en.example.vn"})
    assert config.sites == {
        "demo": Site("demo", ZoneInfo("Asia/Ho_Chi_Minh"), "en", frozenset(), 5, count_robots=True),
        "www.example.vn": Site(
            "www.example.vn", ZoneInfo("Europe/Berlin"), "vi", origins, 0, ("id", "muc")
        ),
    }
    assert not config.is_open


def test_a_site_that_is_not_declared_has_the_settings_of_the_service() -> None:
    config = load({"lang": "en", "timezone": "UTC", "max_pages": "3"}, {})
    assert config.site("demo") == Site("demo", ZoneInfo("UTC"), "en", frozenset(), 3)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("sites = 1", "sites: declare"),
        ("[[sites]]", "sites: declare"),
        ("[sites]\ndemo = 1", "sites.'demo': declare"),
        ("[sites.Demo]", "sites.'Demo': a site name is"),
        ("[sites.'a b']", "sites.'a b': a site name is"),
        ("[sites.'']", "sites.'': a site name is"),
        ("[sites.www.example]", "sites.'www': unknown setting 'example': dots in a name"),
        ("[sites.demo]\nport = 1", "sites.'demo': unknown setting 'port'"),
        ("[sites.demo]\ntimezone = 'Hanoi'", "sites.'demo'.timezone: 'Hanoi'"),
        ("[sites.demo]\nlang = 'fr'", "sites.'demo'.lang: 'fr'"),
        ("[sites.demo]\nlang = ['vi']", "sites.'demo'.lang: "),
        ("[sites.demo]\nmax_pages = -1", "sites.'demo'.max_pages: -1"),
        ("[sites.demo]\norigins = 1", "sites.'demo'.origins: 1"),
        ("[sites.demo]\nquery = ['a b']", "sites.'demo'.query: 'a b' is not the name"),
        ("[sites.demo]\nquery = ['id', 'id']", "sites.'demo'.query: at most 8 parameters"),
        ("[sites.demo]\norigins = [1]", "sites.'demo'.origins: "),
        ("[sites.demo]\nown = ['10.0.0.1/8']", "sites.'demo'.own: 10.0.0.1/8 has host bits set"),
        ("[sites.demo]\ncount_robots = 1", "sites.'demo'.count_robots: 1 is not true or false"),
    ],
)
def test_a_wrong_site_is_named(tmp_path: Path, toml: str, said: str) -> None:
    assert fault(tmp_path, toml).startswith(said)


@pytest.mark.parametrize(
    "origin",
    [
        "https://",
        "ftp://www.example.vn",
        "//www.example.vn",
        "https://www.example.vn/",
        "https://www.example.vn/a",
        "https://user@www.example.vn",
        "www.example.vn:8080",
        "*",
        "https://*.example.vn",
        "a b",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(tmp_path: Path, origin: str) -> None:
    said = fault(tmp_path, f"[sites.demo]\norigins = ['{origin}']")
    assert said.startswith("sites.'demo'.origins: ")
    assert repr(origin) in said


def test_every_spelling_of_an_origin_is_one_origin(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        [sites.demo]
        origins = [
            "https://WWW.Example.vn", "https://www.example.vn.", "https://www.example.vn:443",
            "http://www.example.vn:80", "http://việt.vn:8080", "HTTPS://[::1]:443", "Việt.VN",
        ]
        """,
    )
    assert config.sites["demo"].origins == {
        "https://www.example.vn",
        "http://www.example.vn",
        "http://xn--vit-5kz.vn:8080",
        "https://[::1]",
        "xn--vit-5kz.vn",
    }


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("LOCALHOST", "localhost"),
        ("localhost.", "localhost"),
        ("việt.vn", "xn--vit-5kz.vn"),
        ("::", "::"),
        ("[::1]", "::1"),
        ("FE80::1%Eth0", "fe80::1%Eth0"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_every_spelling_of_a_host_is_one_host(text: str, host: str) -> None:
    assert load({"host": text}, {}).host == host


def test_an_ipv4_network_that_is_written_as_ipv6_is_one_of_ipv4() -> None:
    config = load({"trusted_proxies": "::ffff:10.0.0.1, ::ffff:10.1.0.0/112, ::/0"}, {})
    ipv4 = (ip_network("10.0.0.1"), ip_network("10.1.0.0/16"))
    assert config.trusted_proxies == (*ipv4, ip_network("::/0"))


SERVICE_LINKS = {
    "HITCOUNTER_SERVICE_HOST": "10.0.0.1",
    "HITCOUNTER_SERVICE_PORT": "8080",
    "HITCOUNTER_SERVICE_PORT_HTTP": "8080",
    "HITCOUNTER_PORT": "tcp://10.0.0.1:8080",
    "HITCOUNTER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "HITCOUNTER_PORT_8080_TCP_PROTO": "tcp",
    "HITCOUNTER_PORT_8080_TCP_PORT": "8080",
    "HITCOUNTER_PORT_8080_TCP_ADDR": "10.0.0.1",
    "HITCOUNTER_VALKEY_SERVICE_HOST": "10.0.0.2",
    "HITCOUNTER_VALKEY_PORT": "udp://10.0.0.2:6379",
    "HITCOUNTER_VALKEY_PORT_6379_TCP_ADDR": "10.0.0.2",
}


def test_what_a_container_platform_sets_is_passed_over() -> None:
    assert load({}, SERVICE_LINKS | {"HITCOUNTER_LANG": "en"}) == Config(lang="en")
    others = {"HITCOUNTER_PORT": "80", "VALKEY_SERVICE_HOST": "10.0.0.2"}
    assert service_links(SERVICE_LINKS) == sorted(SERVICE_LINKS)
    assert service_links(others) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HITCOUNTER_REDIS_URL", "tcp://10.0.0.2:6379"),
        ("HITCOUNTER_HOST", "tcp://10.0.0.2"),
        ("HITCOUNTER_PROT", "tcp://10.0.0.2:8080"),
        ("HITCOUNTER_PORT", "http://10.0.0.2:8080"),
        ("HITCOUNTER_PORT_HTTP", "8080"),
        ("HITCOUNTER_SERVICE", "10.0.0.2"),
    ],
)
def test_a_typo_is_not_taken_for_what_a_container_platform_sets(name: str, value: str) -> None:
    with pytest.raises(ConfigError):
        load({}, {name: value})


def test_a_machine_without_time_zones_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tzdata")] + ["tzdata"]:
        monkeypatch.setitem(sys.modules, name, None)
    paths = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([])
    ZoneInfo.clear_cache()
    try:
        with pytest.raises(ConfigError, match=r"^timezone: this machine knows no time zones"):
            load({}, {})
    finally:
        zoneinfo.reset_tzpath(paths)


def test_the_command_line_has_one_flag_per_setting() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser.add_argument_group("settings"))
    arguments = [f"--{name.replace('_', '-')}={name}" for name in SETTINGS]
    assert vars(parser.parse_args(arguments)) == {name: name for name in SETTINGS}
    assert set(vars(parser.parse_args([])).values()) == {None}
    assert all(
        setting.metadata["help"] in " ".join(parser.format_help().split())
        for setting in SETTINGS.values()
    )
