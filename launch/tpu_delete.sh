#!/usr/bin/env bash
# Deletes a slice, and its request in the queue: both can cost money or quota.
#
#   bash launch/tpu_delete.sh NAME --zone=ZONE [FLAG...]
#
#   --yes             does not ask
#   --project=ID      by default gcloud's
#   --dry_run         prints the commands
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tpu_common.sh"

parse "yes" "$@"
[[ "${#COMMAND[@]}" -eq 0 ]] || wrong_use "stray argument --"

if [[ -n "${FLAG[dry_run]:-}" ]]; then
  NODE=READY QUEUE=ACTIVE
else
  NODE="$(describe tpu-vm state)" || exit
  QUEUE="$(describe queued-resources state.state)" || exit
  if [[ "$NODE $QUEUE" == "ABSENT ABSENT" ]]; then
    echo "there is no $NAME in ${FLAG[zone]}; nothing to delete"
    exit
  fi
  echo "$NAME: slice $NODE, request in the queue $QUEUE"
  if [[ -z "${FLAG[yes]:-}" ]]; then
    read -r -p "delete it, with the disks of its workers? [y/N] " ANSWER \
      || ANSWER=""
    [[ "$ANSWER" == [yY]* ]] || fail 2 "nothing was deleted" "--yes"
  fi
fi

if [[ "$QUEUE" != ABSENT ]]; then
  # --force takes the slice along.
  tpu queued-resources delete --force --quiet
  NODE="$(describe tpu-vm state)" || exit
fi
if [[ "$NODE" != ABSENT ]]; then
  tpu tpu-vm delete --quiet
fi
if [[ -z "${FLAG[dry_run]:-}" ]]; then
  echo "$NAME is deleted"
fi
