#!/usr/bin/env bash
# Downloads a TFDS data set and prepares it as ArrayRecord (random access).
#
#   bash launch/prepare_tfds.sh cifar10 [--data_dir=DIR] [--dry_run]
#
# DIR may be gs://BUCKET/DIR; --dry_run prints the command.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

COMMAND=("$VENV/bin/tfds" build)
DRY_RUN=""
for word in "$@"; do
  if [[ "$word" == --dry_run ]]; then
    DRY_RUN=1
  else
    COMMAND+=("$word")
  fi
done
if [[ "${#COMMAND[@]}" -lt 3 ]]; then
  echo "usage: bash launch/prepare_tfds.sh NAME [--data_dir=DIR] [--dry_run]" >&2
  exit 2
fi
COMMAND+=(--file_format=array_record)
if [[ -n "$DRY_RUN" ]]; then
  echo "${COMMAND[*]@Q}"
  exit
fi
install requirements "$ROOT/requirements.txt"
exec "${COMMAND[@]}"
