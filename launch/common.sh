# Sourced by the launch scripts: makes .venv and keeps it up to date.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${MTVIT_VENV:-$ROOT/.venv}"

# The version of uv that gets a Python where there is none; TPU workers too.
UV=0.13.9

# Prints a Python of a version that the pins are for, or nothing.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 \
      python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(
        not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null; then
      echo "$candidate"
      return
    fi
  done
}

# Prints a Python that uv has got, with uv itself if need be, or nothing.
get_python() {
  local folder="$ROOT/.uv" uv
  export UV_PYTHON_INSTALL_DIR="$folder/python"
  echo "no Python 3.11 to 3.13 here; uv gets one, into $folder" >&2
  if ! uv="$(command -v uv)"; then
    uv="$folder/uv"
    if [[ ! -x "$uv" ]]; then
      curl -LsSf "https://astral.sh/uv/$UV/install.sh" 2> /dev/null \
        | UV_UNMANAGED_INSTALL="$folder" sh > /dev/null 2>&1 || return 0
    fi
  fi
  "$uv" python install --quiet --no-bin 3.12 > /dev/null 2>&1 || return 0
  "$uv" python find --managed-python --no-project 3.12
}

# install NAME FILE...: installs requirement files into $VENV, once for each
# content of the files.
install() {
  local name="$1" python stamp want made=""
  shift
  if [[ ! -x "$VENV/bin/python" ]]; then
    python="$(find_python)"
    python="${python:-$(get_python)}"
    if [[ -z "$python" ]]; then
      echo "error: no Python 3.11, 3.12 or 3.13, and uv could not get one" >&2
      echo "  fix: a network, or PYTHON=/path/to/python3.12" >&2
      exit 2
    fi
    # What is there already is not ours to remove, nor to fill.
    mkdir -p "$(dirname "$VENV")"
    if mkdir "$VENV" 2> /dev/null; then
      made=1
    elif [[ ! -e "$VENV/pyvenv.cfg" && -n "$(ls -A "$VENV")" ]]; then
      echo "error: $VENV is no virtual environment, and not empty" >&2
      echo "  fix: MTVIT_VENV=/path/to/another/folder" >&2
      exit 2
    fi
    if ! "$python" -m venv "$VENV"; then
      if [[ -n "$made" ]]; then
        rm -rf "$VENV"
      fi
      echo "error: $python -m venv failed" >&2
      echo "  fix: on Debian or Ubuntu, apt install python3-venv" >&2
      exit 2
    fi
  fi
  stamp="$VENV/.installed_$name"
  want="$(cat "$@" | cksum)"
  if [[ "$(cat "$stamp" 2>/dev/null)" != "$want" ]]; then
    echo "installing $name into $VENV (some minutes, once)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
      "${@/#/--requirement=}" || return
    echo "$want" > "$stamp"
  fi
}

# Installs the command mtvit into $VENV, as a link to this checkout.
install_command() {
  local stamp="$VENV/.installed_command" want
  want="$ROOT $(cksum < "$ROOT/pyproject.toml")"
  if [[ "$(cat "$stamp" 2>/dev/null)" != "$want" ]]; then
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
      --no-deps --no-build-isolation --editable "$ROOT" || return
    echo "$want" > "$stamp"
  fi
}

export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# TensorFlow says what is wrong, and no more.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
export TF_ENABLE_ONEDNN_OPTS="${TF_ENABLE_ONEDNN_OPTS:-0}"
# Large arrays in huge pages: a train step on a CPU is up to 1.4 times as fast.
# (glibc 2.35 or newer; others ignore it.)
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
