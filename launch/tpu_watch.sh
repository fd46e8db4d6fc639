#!/usr/bin/env bash
# Keeps a run going until it is done: creates the slice if there is none, sets
# it up and runs; makes it again when it was taken away, and starts the run
# again, which continues from its newest checkpoint.
#
#   bash launch/tpu_watch.sh NAME --zone=Z --type=T [FLAG...] -- mtvit COMMAND ARG...
#
#   bash launch/tpu_watch.sh my-slice --zone=us-west4-a --type=v5e-8 --spot -- \
#       mtvit pretrain --config=imagenet --workdir=gs://BUCKET/run
#
#   --type= --version= --spot --queued       as for tpu_create.sh
#   --git= --ref=                            as for tpu_setup.sh
#   --replace         stops another run that is going on; its code stays
#   --max_restarts=K  without progress, one after the other (5)
#   --wait=SECONDS    before a restart (30); doubles while there is no progress
#   --project=ID      by default gcloud's
#   --dry_run         prints the commands
#
# Starts again after exit codes 75, 134, 137, 139, 143, 1, 255 (no connection)
# and after a preemption; a new checkpoint is progress and starts the count
# anew. Waits for capacity without limit. Ends with the run's exit code after 0,
# 2, 3, 4, 5 and 130. Stopping this script does not stop the run; starting it
# again follows the run. The slice is not deleted at the end.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tpu_common.sh"

parse "type= version= spot queued git= ref= replace max_restarts= wait=" "$@"
MAX="$(whole_number max_restarts 5)" || exit
WAIT="$(whole_number wait 30)" || exit
[[ "${COMMAND[0]:-}" == mtvit && "${#COMMAND[@]}" -gt 1 ]] \
  || wrong_use "-- mtvit COMMAND is missing"
[[ -n "${FLAG[type]:-}" ]] || wrong_use "--type= is missing"
# A slice on which nothing can start is billed all the same.
if [[ -z "${FLAG[git]:-}" && -d "$ROOT/mtvit" ]] \
    && ! grep -qF "\"${COMMAND[1]}\":" "$ROOT/mtvit/__main__.py"; then
  wrong_use "mtvit in $ROOT has no command ${COMMAND[1]}"
fi
WORKDIR="$(workdir "${COMMAND[@]}")"
if [[ "$WORKDIR" != gs://* ]]; then
  echo "note: if $WORKDIR is on the slice, it is lost with it;" \
    "--workdir=gs://... is not" >&2
fi

# launch SCRIPT FLAGS WORD...: another script, with those of our flags that it
# has, by name.
launch() {
  local flag flags words=()
  read -ra flags <<< "$2"
  for flag in "${flags[@]}"; do
    if [[ -n "${FLAG[${flag%=}]:-}" ]]; then
      [[ "$flag" == *= ]] && flag+="${FLAG[${flag%=}]}"
      words+=("--$flag")
    fi
  done
  bash "$LAUNCH/$1" "$NAME" "${WHERE[@]}" "${words[@]}" "${@:3}"
}

create() {
  launch tpu_create.sh "type= version= spot queued wait= dry_run"
}

setup() {
  launch tpu_setup.sh "git= ref= dry_run"
}

# is_gone NODE QUEUE: whether a slice that was there has been taken away.
is_gone() {
  case "$1" in
    PREEMPTED | TERMINATED) return 0 ;;
    ABSENT) [[ "$2" =~ ^(ACTIVE|SUSPENDING|SUSPENDED|FAILED)$ ]] ;;
    *) return 1 ;;
  esac
}

# Makes sure that there is a slice and that it is set up.
READY=""                 # Whether this slice has been.
prepare() {
  local node queue command
  node="$(describe tpu-vm state)" || return
  queue="$(describe queued-resources state.state)" || return
  if is_gone "$node" "$queue"; then
    echo "$NAME was taken away ($node); making it again" >&2
    launch tpu_delete.sh "" --yes || return "$LOST"
    node=ABSENT
  fi
  if [[ "$node" != READY ]]; then
    READY=""
    create || return
  fi
  if [[ -z "$READY" ]]; then
    command="$(going_on)" || return
    if [[ -z "$command" ]]; then
      setup || return
    fi
  fi
  READY=1
}

# going_on: the command of the run that is going on, if any.
going_on() {
  local state code=0
  state="$(worker 0 state 2> /dev/null)" || code=$?
  case "$code" in
    0) ;;
    127) return 0 ;;        # Nothing is installed there.
    *) return "$LOST" ;;
  esac
  if [[ "$state" == *" running" ]]; then
    worker 0 command 2> /dev/null || return "$LOST"
  fi
}

# has_ended: whether the newest run there has left its exit code.
has_ended() {
  [[ "$(worker 0 state 2> /dev/null)" == *" exit "* ]]
}

# One attempt: a slice, and the run on it until that ends.
STARTED=""               # Whether what goes on there is ours.
attempt() {
  local command
  prepare || return
  command="$(going_on)" || return
  if [[ "${command%" '--coordinator=auto'"}" == "${COMMAND[*]@Q}" ]]; then
    STARTED=1
  elif [[ -n "$command" && -z "$STARTED" && -z "${FLAG[replace]:-}" ]]; then
    fail 2 "another run is going on on $NAME: $command" "--replace"
  fi
  if [[ -z "$command" && -n "$STARTED" && "$LAST" -eq "$LOST" ]] \
      && has_ended; then
    command="ended while there was no connection"
  fi
  if [[ -n "$command" && -n "$STARTED" ]]; then
    launch tpu_run.sh "" --attach
  else
    STARTED=1
    launch tpu_run.sh "" --replace -- "${COMMAND[@]}"
  fi
}

# pause TIMES: --wait, doubled so many times, at most ten minutes.
pause() {
  local seconds=$((WAIT << ($1 < 10 ? $1 : 10)))
  sleep $((seconds < 600 ? seconds : 600))
}

# restarts CODE: whether it is worth another start.
restarts() {
  local node queue
  case "$1" in
    1 | 75 | 134 | 137 | 139 | 143 | "$LOST") return 0 ;;
    0 | 2 | 3 | 4 | 5 | 130) return 1 ;;
  esac
  node="$(describe tpu-vm state)" || return 0
  queue="$(describe queued-resources state.state)" || return 0
  is_gone "$node" "$queue"
}

if [[ -n "${FLAG[dry_run]:-}" ]]; then
  create
  setup
  launch tpu_run.sh "dry_run" --replace -- "${COMMAND[@]}"
  exit
fi

trap 'echo "not watching any more; the run on $NAME, if any, goes on" >&2
exit 130' INT TERM
# ended CODE: exits with the code of the run.
ended() {
  if [[ "$(describe tpu-vm state 2> /dev/null)" != ABSENT ]]; then
    echo "note: $NAME is still there, and billed; to delete it:" \
      "bash launch/tpu_delete.sh $NAME $(quote "${WHERE[@]}")" >&2
  fi
  exit "$1"
}

BEST="$(newest_step "$WORKDIR")"
FAILURES=0 FULL=0 CODE=0
while true; do
  LAST="$CODE" CODE=0
  attempt || CODE=$?
  if [[ "$CODE" -eq "$NO_CAPACITY" ]]; then
    echo "no slice yet; trying again (see --queued)" >&2
    pause "$FULL"
    FULL=$((FULL + 1))
    continue
  fi
  FULL=0
  if ! restarts "$CODE"; then
    ended "$CODE"
  fi
  STEP="$(newest_step "$WORKDIR")"
  FAILURES=$((FAILURES + 1))
  if [[ "$STEP" -gt "$BEST" ]]; then
    BEST="$STEP" FAILURES=0
  elif [[ "$FAILURES" -gt "$MAX" ]]; then
    echo "error: $MAX restarts without a new checkpoint after step $BEST" >&2
    (fail "$CODE" "the last exit code is $CODE" \
      "read ~/mtvit_logs on the slice, and its state with tpu_status.sh") \
      || ended "$CODE"
  fi
  echo "exit code $CODE at step $STEP; starting again" \
    "($FAILURES of $MAX without progress)" >&2
  pause "$FAILURES"
done
