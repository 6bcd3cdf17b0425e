"""Every script that was ever published is in the package, unchanged, and is served for ever."""

import re
import subprocess
import sys
import zipfile
from base64 import b64encode
from hashlib import sha256, sha384
from pathlib import Path

import pytest

from hitcounter import __version__
from hitcounter.web.scripts import CURRENT, PINNED
from tests.conftest import RunningService
from tests.support.wire import ask

ROOT = Path(__file__).parents[2]
# By version of the changelog. Pages keep an address for years: a line here is never taken out.
PUBLISHED = {
    "0.1.0": "1183c13bd83f",
    "0.2.0": "1183c13bd83f",
    "0.3.0": "1183c13bd83f",
    "0.4.0": "bfce8c1ab1ad",
    "0.5.0": "f54aa871e35f",
    "0.6.0": "f54aa871e35f",
    "0.7.0": "dccf67f08ea6",
}


def test_every_version_of_the_changelog_names_its_script() -> None:
    """Add the script to `static/published`, and its line above, when a version is published."""
    versions = set(re.findall(r"^## ([0-9.]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M))
    assert len(versions) > 2
    assert versions - {__version__} <= PUBLISHED.keys() <= versions


def test_every_published_script_is_in_the_source_under_its_hash() -> None:
    files = {path.name: path for path in (ROOT / "src").rglob("published/*")}
    assert files.keys() == {f"widget-{version}.js" for version in PUBLISHED.values()}
    for name, path in files.items():
        assert name == f"widget-{sha256(path.read_bytes()).hexdigest()[:12]}.js"
    assert PINNED.keys() == {*(f"/{name}" for name in files), CURRENT.path}


@pytest.mark.parametrize("version", sorted({*PUBLISHED.values(), CURRENT.version}))
def test_every_published_script_is_served(anyone: RunningService, version: str) -> None:
    answer = ask(anyone.port, "GET", f"/widget-{version}.js")
    assert answer.status == 200
    assert sha256(answer.body).hexdigest().startswith(version)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    digest = b64encode(sha384(answer.body).digest()).decode()
    assert PINNED[f"/widget-{version}.js"].integrity == f"sha384-{digest}"


def test_the_wheel_has_every_published_script(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = zipfile.ZipFile(wheel)
    static = "hitcounter/web/static"
    for version in PUBLISHED.values():
        content = packed.read(f"{static}/published/widget-{version}.js")
        assert sha256(content).hexdigest().startswith(version)
    assert packed.read(f"{static}/widget.js") == CURRENT.content
