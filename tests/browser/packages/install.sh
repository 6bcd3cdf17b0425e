#!/bin/sh
# Installs other people's programs, for the tests that visit pages made with them, and builds those pages.
# Where Node.js is missing it is skipped, except in CI, where that is a failure.
set -eu
cd "$(dirname "$0")"

if ! command -v npm >/dev/null; then
    echo "skipped: pages of other people, as Node.js with npm is not installed"
    [ "${CI:-}" != true ]
    exit
fi

sources=$(cat package-lock.json build.js applications/* astro/*.* astro/src/*/* | cksum)
if [ "$(cat node_modules/built/complete 2>/dev/null)" != "$sources" ]; then
    if ! cmp -s package-lock.json node_modules/installed.json; then
        # React stands there under two other names than those that its companions ask for.
        npm ci --ignore-scripts --legacy-peer-deps
        cp package-lock.json node_modules/installed.json
    fi
    node build.js
    echo "$sources" >node_modules/built/complete
fi
echo "ok: pages of other people are built"
