#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them, two at a time.
#
#   bash launch/test.sh                       # all fast tests
#   bash launch/test.sh tests -m slow         # the others
#   bash launch/test.sh tests/faults          # kills, full disks, bad files
#   bash launch/test.sh tests/parity          # against timm and transformers
#   bash launch/test.sh tests/launch          # TPU scripts, a fake gcloud (bats)
#   bash launch/test.sh tests/cloud           # gs:// on an emulator
#   bash launch/test.sh tests/notebook        # the notebook, in its environment
#   bash launch/test.sh tests -m libtpu       # the TPU compiler, if installed
#   bash launch/test.sh tests/tasks -k color  # any pytest arguments
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install requirements "$ROOT/requirements.txt"
install test_requirements "$ROOT/tests/requirements.txt"
if [[ $# -eq 0 ]]; then
  set -- "$ROOT/tests" -m "not slow" \
    --ignore="$ROOT/tests/faults" --ignore="$ROOT/tests/launch"
fi
cd "$ROOT"
exec "$VENV/bin/python" -m pytest -n 2 --dist worksteal --durations=15 "$@"
