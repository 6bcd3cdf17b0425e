#!/bin/sh
# Writes the lock files: exact versions with hashes, for every platform and Python that we support.
set -eu
cd "$(dirname "$0")/.."
compile() { ${UV:-.venv/bin/uv} pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
compile pyproject.toml --extra embedded --extra uvloop -o requirements/serve.txt
compile pyproject.toml --group dev -c requirements/serve.txt -o requirements/dev.txt
printf 'hatchling==1.33.0\neditables\n' | compile - -c requirements/dev.txt -o requirements/build.txt
