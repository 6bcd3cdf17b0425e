#!/bin/sh
# Checks types and style of our scripts, and that widget.js is what widget/ builds; `build` builds it.
# Installs what that takes, and axe-core for the tests.
# Where Node.js is missing it is skipped, except in CI, where that is a failure.
set -eu
cd "$(dirname "$0")"

if ! command -v npm >/dev/null; then
    echo "skipped: types and style of scripts, as Node.js with npm is not installed"
    [ "${CI:-}" != true ]
    exit
fi

if ! cmp -s package-lock.json node_modules/installed.json; then
    npm ci --ignore-scripts
    cp package-lock.json node_modules/installed.json
fi
if [ "${1:-}" = build ]; then
    exec node build.js
fi
node_modules/.bin/tsc
echo "ok: types of scripts"
node build.js --check
cd ../../..
here=tests/browser/javascript
$here/node_modules/.bin/eslint --max-warnings=0 --config $here/eslint.config.js \
    widget src/hitcounter/pages/static/index.js $here/*.js
echo "ok: style of scripts"
