#!/usr/bin/env bash
# Checks mtvit on this machine's GPU against its CPU, and measures the train step
# there, within 8 minutes and without a network.
#
#   bash launch/gpu_check.sh --output=DIR [--batch=FILE] [--peer_python=PYTHON]
#
# It installs nothing: PYTHON names a Python with JAX for CUDA, flax, optax and
# the like; .venv is taken without it. --allow_cpu tries it without a GPU. See
# launch/README.md, and --help.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${MTVIT_VENV:-$ROOT/.venv}"
if [[ -z "${PYTHON:-}" ]]; then
  PYTHON="$VENV/bin/python"
  [[ -x "$PYTHON" ]] || PYTHON=python3
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m mtvit.tools.gpu_check "$@"
