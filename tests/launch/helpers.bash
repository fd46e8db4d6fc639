# For the .bats files: a checkout in a path with spaces, and a fake cloud.
# shellcheck shell=bash disable=SC2154

setup() {
  local here
  here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
  export FAKE="$BATS_TEST_TMPDIR/cloud"
  REPO="$BATS_TEST_TMPDIR/a checkout"
  mkdir -p "$FAKE" "$REPO"
  : > "$FAKE/calls"
  cp -r "$here/../../launch" "$here/../../requirements.txt" "$REPO"
  git -C "$REPO" init --quiet
  git -C "$REPO" add .
  export PATH="$here/fake:$PATH"
  unset TMUX
  cd "$REPO" || return
}

teardown() {
  local folder
  for folder in "$FAKE"/tmux.*; do
    TMUX_TMPDIR="$folder" tmux kill-server 2> /dev/null || true
  done
}

# tpu VERB WORD...: a script, for the slice `pod` in zone z.
tpu() {
  bash "launch/tpu_$1.sh" pod --zone=z "${@:2}"
}

# make [WORKERS]: a slice that is ready and set up.
make() {
  echo "${1:-1}" > "$FAKE/workers"
  tpu create --type=v5e-8 > /dev/null 2>&1
  tpu setup > /dev/null 2>&1
  : > "$FAKE/calls"
}

# plan LINE...: how runs go, one after the other.
plan() {
  printf '%s\n' "$@" > "$FAKE/plan"
}

# ends CODE: how the last `run` ended.
ends() {
  if [[ "$status" -ne "$1" ]]; then
    echo "exit code $status instead of $1: $output"
    return 1
  fi
}

# says TEXT: in what the last `run` printed.
says() {
  if [[ "$output" != *"$1"* ]]; then
    echo "not said: $1; but: $output"
    return 1
  fi
}

# calls TEXT [COUNT]: how many calls of gcloud contain it; at least one.
calls() {
  local count
  count="$(grep -cF -- "$1" "$FAKE/calls" || true)"
  if [[ "$count" -lt 1 && -z "${2:-}" ]] \
      || [[ -n "${2:-}" && "$count" -ne "$2" ]]; then
    echo "$count calls of: $1"
    cat "$FAKE/calls"
    return 1
  fi
}

# file TEXT FILE: the whole content of a file of the fake cloud.
file() {
  if [[ "$(cat "$FAKE/$2")" != "$1" ]]; then
    echo "$2 is: $(cat "$FAKE/$2")"
    return 1
  fi
}

# eventually COMMAND...: becomes true within thirty seconds.
eventually() {
  local i
  for ((i = 0; i < 600; i++)); do
    if "$@"; then
      return
    fi
    sleep 0.05
  done
  echo "never: $*"
  return 1
}
