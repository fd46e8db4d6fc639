#!/usr/bin/env bash
# Runs the command mtvit on this machine, in .venv, which it makes on the first
# start.
#
#   bash launch/local.sh                              # trains the quickstart
#   bash launch/local.sh pretrain --config=cifar10
#   bash launch/local.sh inspect --config=quickstart
#
# With --with_libtpu first it also installs the TPU compiler (200 MB), which
# mtvit plan --topology asks; it needs no TPU. With --with_peers first it
# makes .venv-peers, with what mtvit bench --peer measures (2 GB).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install requirements "$ROOT/requirements.txt"
install_command
if [[ "${1:-}" == --with_libtpu ]]; then
  install libtpu "$ROOT/launch/libtpu.txt"
  shift
fi
if [[ "${1:-}" == --with_peers ]]; then
  peers() {
    local python="$VENV/bin/python"
    PYTHON="$python" VENV="$ROOT/.venv-peers" \
      install peers "$ROOT/launch/peers.txt"
  }
  # Without the other index first: pip may know where the CPU build of torch is,
  # and a machine that reaches no other index would wait for it.
  peers 2> /dev/null ||
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu peers
  shift
fi
if [[ $# -eq 0 ]]; then
  set -- pretrain --config=quickstart --workdir="$ROOT/runs/quickstart"
fi
# What a stopped run prints as the command that continues it.
export MTVIT_LAUNCHER="$0"
exec "$VENV/bin/python" -m mtvit "$@"
