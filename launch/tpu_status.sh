#!/usr/bin/env bash
# Says how a slice and its run are: the slice's state, each worker's, the
# newest step and the last line of worker 0's log.
#
#   bash launch/tpu_status.sh NAME --zone=ZONE [FLAG...]
#
#   --project=ID      by default gcloud's
#   --dry_run         prints the commands
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tpu_common.sh"

parse "" "$@"
[[ "${#COMMAND[@]}" -eq 0 ]] || wrong_use "stray argument --"

if [[ -n "${FLAG[dry_run]:-}" ]]; then
  describe tpu-vm state
  describe queued-resources state.state
  worker all state
  worker 0 command
  worker 0 last
  exit
fi

STATE="$(describe tpu-vm state)" || exit
QUEUE="$(describe queued-resources state.state)" || exit
echo "slice:    $NAME $STATE"
if [[ "$QUEUE" != ABSENT ]]; then
  echo "queue:    $QUEUE"
fi
if [[ "$STATE" != READY ]]; then
  exit
fi
STATES="$(ask all state)" || fail "$LOST" "no answer from the workers" \
  "if it is not set up: bash launch/tpu_setup.sh $NAME"
sort <<< "$STATES" | sed 's/^/worker:   /'
if ! grep -q ' none$' <<< "$STATES"; then
  ask 0 command | sed 's/^/command:  /'
  ask 0 last | sed '1s/^/newest:   /; 2s/^/log:      /'
fi
