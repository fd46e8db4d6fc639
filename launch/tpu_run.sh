#!/usr/bin/env bash
# Runs a program of mtvit on all workers of a slice, within tmux, so that it
# goes on when this machine or its connection does not. Shows the log of worker
# 0 and ends with the exit code of the run.
#
#   bash launch/tpu_run.sh NAME --zone=ZONE [FLAG...] -- mtvit COMMAND ARG...
#   bash launch/tpu_run.sh NAME --zone=ZONE --attach
#
#   bash launch/tpu_run.sh my-slice --zone=us-west4-a -- mtvit pretrain \
#       --config=imagenet:variant=B/16 --workdir=gs://BUCKET/run
#
#   --detach          does not follow the log
#   --attach          follows the run that is going on, or ended last
#   --replace         stops a run that is going on first
#   --grace=SECONDS   that a stopped run has to save (120)
#   --wait=SECONDS    before a lost connection is made again (5)
#   --project=ID      by default gcloud's
#   --dry_run         prints the commands
#
# --coordinator=auto is added. Each worker keeps ~/mtvit_logs/TIME/log and exit.
# Exit codes: of worker 0, but 2, 3, 4 or 5 of any worker goes first (a process
# that fails alone ends the others with 1); 1 if a worker was restarted; 2 if
# the run could not be started as asked; 255 connection lost: the run goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tpu_common.sh"

parse "detach attach replace grace= wait=" "$@"
WAIT="$(whole_number wait 5)" || exit
GRACE="$(whole_number grace 120)" || exit
LINES_SHOWN=1000         # All of a run that has just begun.

# Starts the run on all workers, or on none.
start() {
  local id code=0
  id="$(date -u +%Y%m%d-%H%M%S)-$$"
  worker all start "$id" "${FLAG[replace]:-0}" "$GRACE" "${COMMAND[@]}" \
    || code=$?
  if [[ "$code" -eq 0 ]]; then
    return
  fi
  # Those that did start would wait for the others.
  worker all stop "$id" 5 || true
  case "$code" in
    "$BUSY") fail 2 "a run is going on on $NAME" \
      "--attach to follow it, --replace to stop it" ;;
    127) fail 2 "mtvit is not on $NAME" \
      "bash launch/tpu_setup.sh $NAME $(quote "${WHERE[@]}")" ;;
  esac
  fail "$LOST" "the run did not start on all workers of $NAME" "try again"
}

# worker_state WORKER: the lines of its `state`; exits if there is no answer.
worker_state() {
  ask "$1" state || fail "$LOST" "the connection to $NAME is lost" \
    "the run may go on: bash launch/tpu_run.sh $NAME --attach ..."
}

# finish CODE: exits with the code of the run; CODE is worker 0's.
finish() {
  local code="$1" states other
  if [[ "$code" -ne 0 && ! "$code" =~ ^[2-5]$ ]]; then
    states="$(worker_state all)" || states=""
    other="$(grep -m 1 -E ' exit [2-5]$' <<< "$states")" || true
    if [[ -n "$other" ]]; then
      echo "worker 0 ended with $code, but ${other% exit *} with ${other##* }" \
        "(its log says why)" >&2
      code="${other##* }"
    fi
  fi
  echo "the run on $NAME ended with exit code $code" >&2
  exit "$code"
}

follow() {
  local state seen
  while true; do
    seen=1
    worker 0 follow "$LINES_SHOWN" || seen=""
    state="$(worker_state 0)" || exit
    case "${state#* }" in
      exit\ *)
        if [[ -z "$seen" ]]; then
          worker 0 follow 20 || true
        fi
        finish "${state##* }" ;;
      lost) fail 1 "worker 0 of $NAME was restarted during the run" \
        "start it again; it continues from its newest checkpoint" ;;
      none) fail 2 "nothing has run on $NAME" ;;
    esac
    LINES_SHOWN=10
    sleep "$WAIT"
  done
}

if [[ -n "${FLAG[attach]:-}" ]]; then
  [[ "${#COMMAND[@]}" -eq 0 ]] || wrong_use "--attach takes no command"
  LINES_SHOWN=10
else
  [[ "${COMMAND[0]:-}" == mtvit && "${#COMMAND[@]}" -gt 1 ]] \
    || wrong_use "-- mtvit COMMAND is missing"
  case "${COMMAND[*]} " in
    *" --coordinator"*) ;;
    "mtvit pretrain "* | "mtvit finetune "* | "mtvit evaluate "*)
      COMMAND+=(--coordinator=auto) ;;
  esac
  start
fi
if [[ -n "${FLAG[dry_run]:-}" ]]; then
  if [[ -z "${FLAG[detach]:-}" ]]; then
    worker 0 follow "$LINES_SHOWN"
    worker 0 state
  fi
  exit
fi
if [[ -n "${FLAG[detach]:-}" ]]; then
  echo "started on $NAME; to follow: bash launch/tpu_run.sh $NAME" \
    "$(quote "${WHERE[@]}") --attach"
  exit
fi
trap 'echo "not following any more; the run on $NAME goes on" >&2
exit 130' INT
follow
