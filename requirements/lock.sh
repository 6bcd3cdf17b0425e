#!/bin/sh
# Writes the lock files: exact versions with hashes, for every platform and Python that we support.
# What is locked already stays as it is where pyproject.toml allows it; `rm` a file first to move all of it.
set -eu
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
wanted() { .venv/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))$1, sep='\n')"; }
compile pyproject.toml --extra uvloop -o requirements/serve.txt
wanted "['project']['optional-dependencies']['embedded']" | compile - -c requirements/serve.txt -o requirements/embedded.txt
compile pyproject.toml --group dev -c requirements/serve.txt -o requirements/dev.txt
wanted "['build-system']['requires'] + ['editables']" | compile - -c requirements/dev.txt -o requirements/build.txt
.venv/bin/python requirements/check.py
