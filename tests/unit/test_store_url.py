"""The address of a store: passwords that would tear it apart, and parts that nobody uses."""

import pytest

from hitcounter.store.url import fault

HIDDEN = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://localhost",
        "redis://localhost/",
        "redis://localhost/3",
        "redis://localhost?db=3",
        f"redis://:{HIDDEN}%40%2F%23%3F%20@localhost:6379/0",
        f"redis://user:{HIDDEN}:more@[::1]:6379",
        "redis://:@localhost",
        f"rediss://user:{HIDDEN}@redis.example.vn:6380/1?ssl_ca_certs=/etc/ca.pem",
        "rediss://localhost?ssl_cert_reqs=none&ssl_check_hostname=false",
        "unix:///run/redis.sock",
        f"unix://:{HIDDEN}@/run/redis.sock?db=1",
    ],
)
def test_a_url_as_documented_is_right(url: str) -> None:
    assert fault(url) is None


@pytest.mark.parametrize("end", ["@", "/", "#", "?", " ", "@/", "\n", "/#"])
@pytest.mark.parametrize("start", ["", "1", "6379"])
@pytest.mark.parametrize("user", ["", "user"])
@pytest.mark.parametrize("place", ["localhost:6379/0", "[::1]", "/run/redis.sock"])
def test_a_password_that_tears_the_url_apart_is_to_be_encoded(
    end: str, start: str, user: str, place: str
) -> None:
    scheme = "unix" if place.startswith("/") else "redis"
    for password in (f"{start}{end}{HIDDEN}", f"{start}{HIDDEN}{end}"):
        said = fault(f"{scheme}://{user}:{password}@{place}")
        assert said is not None
        assert "percent-encoding" in said
        assert HIDDEN not in said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://localhost/zero", "the number of a database"),
        ("redis://localhost/1/2", "the number of a database"),
        ("redis://localhost/-1", "the number of a database"),
        ("redis://localhost/1?db=1", "named twice"),
        ("redis://localhost?db=many", "db is the number"),
        ("redis://localhost?db=1&db=2", "once each"),
        ("redis://localhost?db", "once each"),
        ("redis://localhost?socket_timeout=1", "once each: db"),
        ("redis://localhost?ssl_cert_reqs=none", "once each: db"),
        ("rediss://localhost?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://localhost?decode_responses=1", "once each: db, ssl_ca_certs"),
        ("redis://localhost#0", "percent-encoding"),
        ("redis://localhost:0", "not a URL"),
        ("redis://localhost:port", "not a URL"),
        ("redis://[localhost", "not a URL"),
        ("redis://", "not a URL"),
        ("redis:localhost", "not a URL"),
        ("http://localhost", "not a URL"),
        (f"redis://{HIDDEN}@localhost", "a user has a password"),
        ("unix://run/redis.sock", "not a URL"),
        ("unix:///", "not a URL"),
        ("unix:///run/redis.sock?nothing=1", "once each: db"),
    ],
)
def test_a_part_that_is_not_used_is_an_error(url: str, said: str) -> None:
    assert said in (fault(url) or "")
