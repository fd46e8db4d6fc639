#!/usr/bin/env bash
# Creates a TPU slice, and waits until it is ready. One that exists, or waits
# in the queue, is waited for.
#
#   bash launch/tpu_create.sh NAME --zone=ZONE --type=TYPE [FLAG...]
#
#   --type=TYPE       v5e-8 (gcloud: v5litepod-8), v6e-8, v5p-8, v4-8, ...
#                     v5e and v6e count chips; v4 and v5p count cores, two to
#                     a chip: v5p-1024 has 512 chips.
#   --spot            cheaper, and may be taken away at any time
#   --queued          waits in Google's queue until there is room
#   --version=NAME    the runtime; by default the one for the type
#   --project=ID      by default gcloud's
#   --wait=SECONDS    between looks at the state (30)
#   --dry_run         prints the commands
#
# Exit codes: 0 ready, 2 usage, quota or permission, 69 no capacity in the
# zone, 1 another failure, 255 gcloud could not tell.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tpu_common.sh"

parse "type= version= wait= spot queued" "$@"
[[ "${#COMMAND[@]}" -eq 0 ]] || wrong_use "stray argument --"
[[ -n "${FLAG[type]:-}" ]] || wrong_use "--type= is missing"
WAIT="$(whole_number wait 30)" || exit
PRICE="on demand"
[[ -z "${FLAG[spot]:-}" ]] || PRICE=spot
TYPE="$(accelerator "${FLAG[type]}")"
VERSION="${FLAG[version]:-$(runtime "$TYPE")}"
[[ -n "$VERSION" ]] || fail 2 "no runtime version is known for type $TYPE" \
  "--type=v5e-8, v5p-8, v6e-8, v4-8, ..., or --version=NAME"

# refused FILE: exits with what to do about gcloud's error.
refused() {
  local spot="${FLAG[spot]:+spot }"
  if grep -qiE 'no more capacity|insufficient|stockout' "$1"; then
    fail "$NO_CAPACITY" "no capacity for $TYPE in ${FLAG[zone]}" \
      "try later, another --zone, or --queued to wait in the queue"
  elif grep -qi quota "$1"; then
    fail 2 "the project has no ${spot}quota for $TYPE in ${FLAG[zone]}" \
      "ask for it under IAM > Quotas (tpu.googleapis.com), or another --zone"
  elif grep -qi RESOURCE_EXHAUSTED "$1"; then
    fail "$NO_CAPACITY" "${FLAG[zone]} has no room for $TYPE" "try later"
  elif grep -qE 'SERVICE_DISABLED|has not been used' "$1"; then
    fail 2 "the project may not use TPUs yet" \
      "gcloud services enable tpu.googleapis.com"
  elif grep -qE 'PERMISSION_DENIED|INVALID_ARGUMENT|argument' "$1"; then
    fail 2 "$NAME can't be created with these flags; see gcloud's line above" \
      "check --zone, --type and --project"
  fi
  fail 1 "$NAME was not created; see gcloud's line above" "try again"
}

# create KIND WORD...
create() {
  local words=(--accelerator-type="$TYPE" "${@:2}")
  if [[ -n "${FLAG[spot]:-}" ]]; then
    words+=(--spot)
  fi
  if ! tpu "$1" create "${words[@]}" > "$TEMPORARY/create" 2>&1; then
    cat "$TEMPORARY/create" >&2
    refused "$TEMPORARY/create"
  fi
  cat "$TEMPORARY/create"
}

# say STATE: once for each change.
SAID=""
say() {
  if [[ "$SAID" != "$1" ]]; then
    echo "$NAME: $1"
    SAID="$1"
  fi
}

wait_in_queue() {
  local state
  while true; do
    state="$(describe queued-resources state.state)" || exit
    say "$state in the queue"
    case "$state" in
      ACTIVE) return ;;
      FAILED)
        describe queued-resources state.failedData.error.message \
          > "$TEMPORARY/failed" || exit
        cat "$TEMPORARY/failed" >&2
        echo "  remove it with: bash $LAUNCH/tpu_delete.sh $NAME" \
          "$(quote "${WHERE[@]}")" >&2
        refused "$TEMPORARY/failed" ;;
      SUSPENDING | SUSPENDED | DELETING | ABSENT)
        fail "$NO_CAPACITY" "the request for $NAME is $state" \
          "bash $LAUNCH/tpu_delete.sh $NAME, and create it again" ;;
    esac
    sleep "$WAIT"
  done
}

wait_for_node() {
  local state
  while true; do
    state="$(describe tpu-vm state)" || exit
    say "$state"
    case "$state" in
      READY) return ;;
      STOPPING | STOPPED)
        fail 2 "$NAME is $state" \
          "gcloud compute tpus tpu-vm start $NAME $(quote "${WHERE[@]}")" ;;
      PREEMPTED | TERMINATED | DELETING | ABSENT)
        fail "$NO_CAPACITY" "$NAME is $state" \
          "bash $LAUNCH/tpu_delete.sh $NAME, and create it again" ;;
    esac
    sleep "$WAIT"
  done
}

# exists KIND
exists() {
  local state
  [[ -z "${FLAG[dry_run]:-}" ]] || return 1
  state="$(describe "$1" name)" || exit
  [[ "$state" != ABSENT ]]
}

FROM_QUEUE=""
if ! exists tpu-vm; then
  FROM_QUEUE="${FLAG[queued]:-}"
  if [[ -z "${FLAG[queued]:-}" ]]; then
    echo "creating $NAME: $TYPE, $PRICE, $VERSION" \
      "(some minutes)" >&2
    create tpu-vm --version="$VERSION"
  elif ! exists queued-resources; then
    create queued-resources --node-id="$NAME" --runtime-version="$VERSION"
  fi
fi
if [[ -n "${FLAG[dry_run]:-}" ]]; then
  if [[ -n "$FROM_QUEUE" ]]; then
    describe queued-resources state.state
  fi
  describe tpu-vm state
  exit
fi
if [[ -n "$FROM_QUEUE" ]]; then
  wait_in_queue
fi
wait_for_node
