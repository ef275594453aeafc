#!/bin/sh
# The task verbs, in one place: `./do help` lists them. People and CI run the same ones.
# The first call makes .venv from a hashed lock in requirements/; it needs Python 3.11 to 3.13 and a package registry.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$root/.venv
python=$venv/bin/python
lock=$venv/.do-lock          # a link to the process that is installing
stamp=$venv/.do-installed   # what is installed, complete; its absence means: not yet, or interrupted
ours=$venv/.do-made         # this script made .venv, so it may empty it

usage() {
    cat <<'END'
./do demo [ARGS]       train, classify and review the bundled handwriting; offline, about a minute
./do test [ARGS]       the tests, in four processes; ARGS go to pytest
./do check             ruff, mypy, import-linter, and the documents that are generated
./do fix               let ruff repair and format
./do docs              write the generated parts of the documents, and docs/openapi.json, again
./do bench [ARGS]      the benchmarks
./do chaos [ARGS]      random faults over the real program, and an oracle that counts; --faults N --seed S --minutes M
./do pixmill ARGS      the command line, from .venv
./do setup [NAME]      make .venv from requirements/NAME.lock: cpu (default), gpu, api or dev
./do lock [ARGS]       write requirements/*.lock again from pyproject.toml; --upgrade takes newer versions
./do help              this page

PIXMILL_PYTHON=/path/to/python3.13 ./do …   chooses the interpreter that .venv is made with.
END
}

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# The first interpreter that can carry the locks. A command that exists may still not run (version managers' shims).
find_python() {
    seen=
    if [ -n "${PIXMILL_PYTHON:-}" ]; then set -- "$PIXMILL_PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
    for candidate in "$@"; do
        version=$("$candidate" -c 'import ensurepip, venv, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case $version in
        3.11 | 3.12 | 3.13)
            command -v "$candidate"
            return
            ;;
        esac
        seen="$seen $candidate is $version;"
    done
    die "Pixmill needs Python 3.11, 3.12 or 3.13 with venv and pip.${seen:- None was found on PATH.}" \
        "Install one, or name it: PIXMILL_PYTHON=/path/to/python3.13 ./do …"
}

# What a finished installation of $1 looks like; any difference brings the installation up to date.
described() {
    printf '%s\n%s\n' "$1" "$root"
    cat "$root/requirements/build.lock" "$root/requirements/$1.lock" "$root/pyproject.toml"
}

is_installed() {
    [ -x "$python" ] && [ -f "$stamp" ] && described "$1" | cmp -s - "$stamp"
}

# One installation at a time; a lock whose owner is gone is taken over.
take_lock() {
    mkdir -p "$venv"
    said=
    until ln -s $$ "$lock" 2>/dev/null; do
        owner=$(readlink "$lock" || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            rm -f "$lock"
            continue
        fi
        [ -n "$said" ] || say "Waiting for another ./do (process $owner) that is setting up .venv …"
        said=yes
        sleep 1
    done
    trap 'rm -f "$lock"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

release_lock() {
    rm -f "$lock"
    trap - EXIT HUP INT TERM
}

# An environment that is whole and holds the same kind of packages is brought up to date; anything else starts empty.
empty_unless_fit() {
    if [ -x "$python" ] && [ ! -e "$ours" ]; then
        return # somebody's own .venv: add to it, never empty it
    fi
    if [ -x "$python" ] && [ -f "$stamp" ] && [ "$(sed -n 2p "$stamp")" = "$root" ]; then
        case "$(sed -n 1p "$stamp"):$1" in
        "$1:$1" | cpu:dev | api:*) return ;;
        esac
    fi
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .do-lock -exec rm -rf {} +
}

pip() { "$python" -m pip --disable-pip-version-check --no-input "$@"; }

# uv is much quicker than pip and checks the same hashes. Where it cannot work (a registry that only pip is set up for, a
# platform without it), pip does the same from the same lock.
install() {
    if "$python" -m uv pip install --quiet --python "$python" --no-build-isolation "$@"; then
        return
    fi
    say "uv could not install (its reason is above); trying pip, which takes longer …"
    pip install --quiet --no-build-isolation "$@"
}

set_up() {
    rm -f "$stamp.new"
    empty_unless_fit "$1"
    rm -f "$stamp"
    say "Setting up .venv from requirements/$1.lock (once; a few minutes, up to ${2} of disk) …"
    if [ ! -x "$python" ]; then
        interpreter=$(find_python)
        : >"$ours"
        "$interpreter" -m venv "$venv"
    fi
    # Trust the certificates that this machine trusts, and ask the registry that pip is told to ask.
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
    index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    pip install --quiet --require-hashes --only-binary :all: -r "$root/requirements/build.lock"
    install --require-hashes -r "$root/requirements/$1.lock"
    install --no-deps -e "$root"
    described "$1" >"$stamp.new"
    mv "$stamp.new" "$stamp"
    say "Ready."
}

# Make sure that .venv holds at least $1. `dev` and `gpu` hold all that `cpu` holds.
need() {
    wanted=$1
    have=$(sed -n 1p "$stamp" 2>/dev/null || true)
    case "$wanted:$have" in cpu:dev | cpu:gpu) wanted=$have ;; esac
    if is_installed "$wanted"; then
        return
    fi
    case $wanted in
    gpu) size='8 GB' ;;
    api) size='300 MB' ;;
    *) size='3 GB' ;;
    esac
    take_lock
    is_installed "$wanted" || set_up "$wanted" "$size"
    release_lock
}

# Every check runs, so that one look shows all there is to repair.
check() {
    failed=
    attempt 'ruff check' "$python" -m ruff check .
    attempt 'ruff format --check' "$python" -m ruff format --check .
    attempt 'mypy' "$python" -m mypy
    attempt 'lint-imports' "$venv/bin/lint-imports" --no-logo
    attempt 'generated documents' documents --check --diff
    attempt 'docs/openapi.json' "$python" -m api.openapi --check
    [ -z "$failed" ] || die "Failed: ${failed#, }. ./do fix repairs what ruff can, ./do docs writes the documents again."
}

attempt() {
    title=$1
    shift
    say "── $title"
    "$@" || failed="$failed, $title"
}

fix() {
    "$python" -m ruff check --fix . || say "ruff left the findings above to you."
    "$python" -m ruff format .
}

docs() {
    documents -r
    "$python" -m api.openapi
}

documents() {
    "$python" -m cogapp "$@" README.md CHANGELOG.md docs/*.md
}

# dev.lock is made first and binds the others, so that a version is the same in every environment.
lock() {
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}" UV_CUSTOM_COMPILE_COMMAND="./do lock"
    one_lock dev pyproject.toml --extra cpu --group dev "$@"
    one_lock build --group build -c requirements/dev.lock "$@"
    one_lock api pyproject.toml --extra parquet --extra thumbnails -c requirements/dev.lock "$@"
    one_lock cpu pyproject.toml --extra cpu -c requirements/dev.lock "$@"
    one_lock gpu pyproject.toml --extra gpu -c requirements/dev.lock "$@"
}

one_lock() {
    name=$1
    shift
    "$python" -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-emit-index-url --output-file "requirements/$name.lock" "$@" >/dev/null
    say "requirements/$name.lock: $(grep -c == "requirements/$name.lock") packages"
}

# No `need … && …` below: on the left of && a shell would go on after a failed installation.
verb=${1:-help}
[ $# -eq 0 ] || shift
case $verb in
demo)
    need cpu
    export PIXMILL_COMMAND="./do pixmill" # so that the hints it prints can be typed as they are
    exec "$venv/bin/pixmill" demo "$@"
    ;;
pixmill)
    need cpu
    export PIXMILL_COMMAND="./do pixmill"
    exec "$venv/bin/pixmill" "$@"
    ;;
test | bench | chaos)
    need dev
    cd "$root"
    [ "$verb" != bench ] || exec "$python" -m bench "$@"
    [ "$verb" != chaos ] || exec "$python" -m tests.chaos "$@"
    # More processes than cores, a file to one of them: tests wait for others to start, and a file shares what is made for it.
    # The tests start some thousand processes: each would compile the same modules again.
    unset PYTHONDONTWRITEBYTECODE
    exec "$python" -m pytest -n "${PIXMILL_TEST_PROCESSES:-4}" --dist loadfile --no-loadscope-reorder "$@"
    ;;
check | fix | docs | lock)
    need dev
    cd "$root"
    "$verb" "$@"
    ;;
setup)
    case ${1:-cpu} in
    api | cpu | gpu | dev) need "${1:-cpu}" ;;
    *) die "There is no requirements/$1.lock. Choose api, cpu, gpu or dev." ;;
    esac
    ;;
help | -h | --help) usage ;;
*)
    say "There is no verb '$verb'."
    usage >&2
    exit 2
    ;;
esac
