"""Builds what is released into dist/: wheel, source archive, what they need, notes, checksums.

It refuses whatever would make the version another than the one that its changelog describes.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from hitcounter import __version__

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
LOCKS = ("serve.txt", "embedded.txt")
HEADING = re.compile(r"## (\S+) – (\S+)")  # version, and the day of its release


def git(*args: str) -> str:
    """Ask git about this tree."""
    asked = subprocess.run(["git", *args], cwd=ROOT, check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def notes() -> str:
    """Return what the changelog says of this version; exit where it is not yet released there."""
    _, section, *_ = re.split(r"^(?=## )", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.M)
    heading, _, text = section.partition("\n")
    found = HEADING.fullmatch(heading)
    if found is None or found[1] != __version__ or not re.fullmatch(r"\d{4}-\d\d-\d\d", found[2]):
        sys.exit(f"CHANGELOG.md begins with {heading!r}, not with the day of release {__version__}")
    return text.strip() + "\n"


def require_clean_tree() -> None:
    """Exit where the tree is not what is committed, or the version is tagged already."""
    if changed := git("status", "--porcelain"):
        sys.exit(f"not committed:\n{changed}")
    if git("tag", "--list", f"v{__version__}"):
        sys.exit(f"v{__version__} is tagged already: raise the version")


def build() -> list[Path]:
    """Build the wheel and the source archive, the same bytes each time, and the pins for them."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(DIST)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    pins = "".join((ROOT / "requirements" / name).read_text("utf-8") for name in LOCKS)
    (DIST / "requirements.txt").write_text(pins, "utf-8")
    return [*sorted(DIST.glob(f"hitcounter-{__version__}*")), DIST / "requirements.txt"]


def main() -> None:
    """Check, build, and say what is left to do."""
    text = notes()
    require_clean_tree()
    files = build()
    (DIST / "NOTES.md").write_text(text, "utf-8")
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (DIST / "SHA256SUMS").write_text("".join(sums))
    print(*(file.relative_to(ROOT) for file in sorted(DIST.iterdir())), sep="\n")
    tag = f"git tag -a v{__version__} --cleanup=verbatim -F dist/NOTES.md"  # it has lines with #
    print(f"next: {tag}, and give these files away with it")


if __name__ == "__main__":
    main()
