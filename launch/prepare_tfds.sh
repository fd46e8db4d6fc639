#!/usr/bin/env bash
# Downloads a TFDS data set and prepares it as ArrayRecord (random access).
#
#   bash launch/prepare_tfds.sh cifar10 [--data_dir=DIR]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ $# -lt 1 ]]; then
  echo "usage: bash launch/prepare_tfds.sh NAME [--data_dir=DIR]" >&2
  exit 2
fi
install requirements "$ROOT/requirements.txt"
exec "$VENV/bin/tfds" build "$@" --file_format=array_record
