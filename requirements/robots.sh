#!/bin/sh
# Judges who is a robot by agents that others have collected, with the is-bot of the lock or another that is named.
# The collections are read and thrown away: none of them is part of this project.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
.venv/bin/uv pip install -q --no-deps --target "$scratch/python" device-detector==6.5.1 ${1:+"$1"}
npm pack --silent --pack-destination "$scratch" top-user-agents@2.1.138 >"$scratch/name"
tar -xzf "$scratch/$(cat "$scratch/name")" -C "$scratch"
PYTHONPATH="$PWD:$scratch/python" .venv/bin/python requirements/robots.py \
    "$scratch/python/device_detector/tests/fixtures/upstream" "$scratch/package/src/index.json"
