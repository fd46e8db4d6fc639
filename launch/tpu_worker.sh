#!/usr/bin/env bash
# Runs on each worker of a slice; the other tpu_*.sh call it through ssh.
#
#   install               uv, Python, the pins of requirements.txt and jax[tpu]
#   devices               what JAX sees; all workers must ask at once
#   start ID REPLACE GRACE mtvit COMMAND ARG...    a run within tmux; 73: one goes on
#   stop ID GRACE         ends the run ID; after GRACE seconds without mercy
#   state                 HOST none|running|lost|exit CODE, of the newest run
#   command               its command, as start got it
#   follow LINES          its log, from the last LINES, until it ends
#   last                  its newest step and the last line of its log
#   checkpoints WORKDIR   what is in there
#
# A run has a folder ~/mtvit_logs/ID with log, command, pid and, at the end,
# exit: the exit code. ~/mtvit_logs/latest is the newest.
set -euo pipefail

REPO="$HOME/mtvit"
VENV="$HOME/mtvit_venv"
LOGS="$HOME/mtvit_logs"
LATEST="$LOGS/latest"
SESSION=mtvit
BUSY=73
UV="$(sed -n "s/^UV=//p" "$REPO/launch/common.sh")"

has_session() {
  tmux has-session -t "=$SESSION" 2> /dev/null
}

is_running() {
  [[ ! -e "$LATEST/exit" ]] && has_session
}

# await FILE TENTHS: until it is there, for at most so many tenths of a second.
await() {
  local i
  for ((i = 0; i < $2; i++)); do
    if [[ -e "$1" ]]; then
      return
    fi
    sleep 0.1
  done
  [[ -e "$1" ]]
}

install() {
  local jax storage
  export PATH="$HOME/.local/bin:$PATH"
  if ! command -v tmux > /dev/null; then
    sudo apt-get update -qq && sudo apt-get install -y -qq tmux
  fi
  if ! command -v uv > /dev/null; then
    curl -LsSf "https://astral.sh/uv/$UV/install.sh" | sh
  fi
  if [[ ! -x "$VENV/bin/python" ]]; then
    uv venv --python 3.12 "$VENV"
  fi
  jax="$(sed -nE 's/^jax==([^ ;]+).*/\1/p' "$REPO/requirements.txt")"
  # What Orbax wants for a work directory on gs://; named in a comment there.
  storage="$(sed -nE 's/.*google-cloud-storage==([^ ;]+).*/\1/p' \
    "$REPO/requirements.txt")"
  uv pip install --python "$VENV/bin/python" \
    -r "$REPO/requirements.txt" "jax[tpu]==$jax" \
    "google-cloud-storage==$storage"
}

devices() {
  timeout 300 "$VENV/bin/python" -c '
import jax
jax.distributed.initialize()
print(f"process {jax.process_index()} of {jax.process_count()}: "
      f"{jax.local_device_count()} of {jax.device_count()} devices, "
      f"{jax.devices()[0].device_kind}")'
}

# Within tmux: the run itself.
work() {
  local folder="$1" child code=0
  shift
  cd "$REPO"
  PYTHONPATH="$REPO" PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=3 \
    "$VENV/bin/python" -m "$@" > "$folder/log" 2>&1 < /dev/null &
  child=$!
  echo "$child" > "$folder/pid.part"
  mv "$folder/pid.part" "$folder/pid"
  wait "$child" || code=$?
  echo "$code" > "$folder/exit.part"
  mv "$folder/exit.part" "$folder/exit"
}

start() {
  local id="$1" replace="$2" grace="$3" folder="$LOGS/$1"
  shift 3
  if [[ -e "$folder" ]]; then
    return                # gcloud repeats a command whose connection broke.
  fi
  if is_running; then
    if [[ "$replace" != 1 ]]; then
      echo "$(hostname): a run is going on: $(cat "$LATEST/command")" >&2
      exit "$BUSY"
    fi
    stop "$(basename "$(readlink "$LATEST")")" "$grace"
  fi
  if has_session; then
    tmux kill-session -t "=$SESSION" || true    # It was about to end.
  fi
  mkdir -p "$folder"
  echo "${*@Q}" > "$folder/command"
  : > "$folder/log"
  ln -sfn "$id" "$LATEST"
  # Several words: tmux starts them without a shell, but takes a ";" at the end
  # of one for its own.
  tmux new-session -d -s "$SESSION" \
    bash "$REPO/launch/tpu_worker.sh" work "$folder" "${@/%;/\\;}"
  if ! await "$folder/pid" 100; then
    echo "$(hostname): the run did not start within ten seconds" >&2
    exit 1
  fi
}

stop() {
  local id="$1" grace="$2" child
  if [[ "$(readlink "$LATEST" 2> /dev/null)" != "$id" ]] || ! is_running \
      || [[ ! -e "$LATEST/pid" ]]; then
    return
  fi
  child="$(cat "$LATEST/pid")"
  kill -TERM "$child" 2> /dev/null || true
  timeout "$grace" tail --pid="$child" -s 0.1 -f /dev/null || true
  kill -KILL "$child" 2> /dev/null || true
  await "$LATEST/exit" 100 || true
}

state() {
  if [[ ! -e "$LATEST" ]]; then
    echo "$(hostname) none"
  elif [[ -e "$LATEST/exit" ]]; then
    echo "$(hostname) exit $(cat "$LATEST/exit")"
  elif has_session; then
    echo "$(hostname) running"
  else
    echo "$(hostname) lost"       # It has been restarted.
  fi
}

follow() {
  tail -n "$1" -s 0.2 --pid="$(cat "$LATEST/pid")" -f "$LATEST/log"
  await "$LATEST/exit" 20 || true
}

last() {
  local step
  step="$(grep -oE 'step [0-9]+/[0-9]+' "$LATEST/log" | tail -n 1)" || true
  echo "${step:-no step yet}"
  tail -n 1 "$LATEST/log"
}

case "${1:-}" in
  install | devices | work | start | stop | state | follow | last) "$@" ;;
  command) cat "$LATEST/command" ;;
  checkpoints) cd "$REPO" && ls -1 "$2/checkpoints" ;;
  *)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2 ;;
esac
