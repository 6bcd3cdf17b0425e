"""`make release`: builds what the changelog describes, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hitcounter import __version__

ROOT = Path(__file__).parents[1]
BUILT_FROM = ("src", "requirements", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
WHO = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.vn")

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a repository of what a release is built from."""
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def release(tree: Path, heading: str) -> "subprocess.CompletedProcess[str]":
    """Commit a changelog, and try to release that."""
    text = f"# Changelog\n\n{heading}\n\n### Added\n\n- All is new.\n\n## 0.1.0 – 2026-11-23\n"
    (tree / "CHANGELOG.md").write_text(text, "utf-8")
    subprocess.run(["git", "add", "-A"], cwd=tree, check=True)
    commit = ["git", *WHO, "commit", "-q", "--allow-empty", "-m", "a change"]
    subprocess.run(commit, cwd=tree, check=True)
    return again(tree)


def again(tree: Path) -> "subprocess.CompletedProcess[str]":
    """Release what is there."""
    command = [sys.executable, "requirements/release.py"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True)


def install(dist: Path, place: Path) -> str:
    """Install a release as the documents say; return what its program says of itself."""
    document = (ROOT / "docs" / "operating.md").read_text("utf-8")
    _, _, section = document.partition("\n## Installing a release\n")
    lines = section.partition("```sh\n")[2].partition("```")[0]
    lines = lines.replace("/opt/hitcounter", str(place))
    subprocess.run(["sh", "-ec", lines], cwd=dist, check=True, capture_output=True)
    version = [str(place / ".venv/bin/hitcounter"), "--version"]
    return subprocess.run(version, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("heading", [f"## {__version__} – unreleased", "## 0.0.9 – 2026-11-30"])
def test_what_the_changelog_does_not_release_is_refused(tree: Path, heading: str) -> None:
    refused = release(tree, heading)
    assert refused.returncode == 1
    assert heading in refused.stderr
    assert not (tree / "dist").exists()


def test_a_release_is_the_same_bytes_each_time_and_never_of_what_is_not_committed(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, registry: None
) -> None:
    done = release(tree, f"## {__version__} – 2026-11-30")
    assert done.returncode == 0, done.stderr
    sums = (tree / "dist/SHA256SUMS").read_text()
    assert [line.split()[1] for line in sums.splitlines()] == [
        f"hitcounter-{__version__}-py3-none-any.whl",
        f"hitcounter-{__version__}.tar.gz",
        "requirements.txt",
    ]
    assert (tree / "dist/NOTES.md").read_text() == "### Added\n\n- All is new.\n"
    subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tree / "dist", check=True)
    assert again(tree).returncode == 0
    assert (tree / "dist/SHA256SUMS").read_text() == sums
    assert install(tree / "dist", tmp_path_factory.mktemp("opt")) == f"{__version__}\n"
    (tree / "README.md").write_text("changed")
    assert again(tree).stderr == "not committed:\nM README.md\n"
    subprocess.run(["git", "checkout", "-q", "README.md"], cwd=tree, check=True)
    tag = done.stdout.partition("next: git ")[2].partition(",")[0].split()
    subprocess.run(["git", *WHO, *tag], cwd=tree, check=True)
    tagged = ["git", "tag", "--list", "--format=%(contents)", f"v{__version__}"]
    assert "### Added\n" in subprocess.run(tagged, cwd=tree, capture_output=True, text=True).stdout
    assert "tagged already" in again(tree).stderr
