# Sourced by the tpu_*.sh scripts: flags, quoting, and the calls of gcloud.
# shellcheck shell=bash disable=SC2034

if ((BASH_VERSINFO[0] < 5)); then
  echo "error: the launch scripts for TPUs need bash 5 and GNU tar" >&2
  echo "  fix: run them on Linux or in Google's Cloud Shell" >&2
  exit 2
fi

LAUNCH="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(dirname "$LAUNCH")"
NO_CAPACITY=69    # Exit code: the zone is full; later it may not be.
BUSY=73           # Exit code of a worker: a run is going on there.
LOST=255          # Exit code: no connection, as ssh's own.

declare -A FLAG=()        # Of the command line, without dashes.
declare -a COMMAND=()     # What follows --.
declare -a WHERE=()       # --zone and --project, for gcloud.
NAME=""

TEMPORARY="$(mktemp -d)"
trap 'rm -rf "$TEMPORARY"' EXIT

# usage: prints the comment that a script opens with.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

# fail CODE WHAT [FIX]: says what is wrong and what to do, and exits.
fail() {
  echo "error: $2" >&2
  if [[ -n "${3:-}" ]]; then
    echo "  fix: $3" >&2
  fi
  exit "$1"
}

# wrong_use WHAT: of the command line.
wrong_use() {
  echo "error: $1" >&2
  usage | grep -m 1 '^ *bash launch/' | sed 's/^ */  usage: /' >&2
  echo "  fix: bash $0 --help" >&2
  exit 2
}

# Every flag of every script that the programs of mtvit have not: --dry_run
# behind -- would be a real run.
FLAGS=" zone= project= dry_run help type= version= spot queued git= ref= yes
  detach attach replace grace= wait= max_restarts= "

# check_command: exits if a flag of the scripts stands behind --.
check_command() {
  local word key
  for word in "${COMMAND[@]}"; do
    key="${word%%=*}"
    key="${key#-}"
    key="${key#-}"
    key="${key//-/_}"
    if [[ "$word" == -?* && "$key" =~ ^[a-z_]+$ && (
        " $FLAGS " =~ [[:space:]]"$key"=?[[:space:]] ) ]]; then
      wrong_use "$word stands behind --, where it is no flag of this script"
    fi
  done
}

# parse KNOWN WORD...: fills NAME, FLAG, COMMAND and WHERE. KNOWN are flags,
# those with a value written as "name=".
parse() {
  local known=" zone= project= dry_run $1 " word key
  shift
  while [[ $# -gt 0 ]]; do
    word="$1"
    shift
    key="${word#--}"
    case "$word" in
      -h | --help)
        usage
        exit 0 ;;
      --)
        COMMAND=("$@")
        break ;;
      --*=*)
        [[ "$known" == *" ${key%%=*}= "* ]] || wrong_use "unknown flag $word"
        # As of --zone=$ZONE where there is no ZONE.
        [[ -n "${key#*=}" ]] || wrong_use "$word has no value"
        [[ -z "${FLAG[${key%%=*}]:-}" ]] || wrong_use "$word: given twice"
        FLAG["${key%%=*}"]="${key#*=}" ;;
      --*)
        [[ "$known" != *" $key= "* ]] || wrong_use "$word needs =VALUE"
        [[ "$known" == *" $key "* ]] || wrong_use "unknown flag $word"
        FLAG["$key"]=1 ;;
      *)
        [[ -z "$NAME" ]] || wrong_use "stray argument ${word@Q}"
        NAME="$word" ;;
    esac
  done
  check_command
  [[ -n "$NAME" ]] || wrong_use "the NAME of the slice is missing"
  [[ "$NAME" =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] \
    || wrong_use "NAME ${NAME@Q} must be of a-z, 0-9 and -"
  [[ -n "${FLAG[zone]:-}" ]] || wrong_use "--zone= is missing"
  WHERE=(--zone="${FLAG[zone]}")
  if [[ -n "${FLAG[project]:-}" ]]; then
    WHERE+=(--project="${FLAG[project]}")
  fi
  if [[ -z "${FLAG[dry_run]:-}" ]] && ! command -v gcloud > /dev/null; then
    fail 2 "gcloud is not installed" "https://cloud.google.com/sdk/docs/install"
  fi
}

# whole_number NAME DEFAULT: a flag's value; exits if it is none.
whole_number() {
  local value="${FLAG[$1]:-$2}"
  [[ "$value" =~ ^[0-9]+$ ]] || wrong_use "--$1=$value must be a whole number"
  echo "$value"
}

# quote WORD...: the words for a shell.
quote() {
  local word words=()
  for word in "$@"; do
    if [[ "$word" =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      words+=("$word")
    else
      words+=("${word@Q}")
    fi
  done
  echo "${words[*]}"
}

# run WORD...: runs a command; --dry_run prints it instead.
run() {
  if [[ -n "${FLAG[dry_run]:-}" ]]; then
    quote "$@"
  else
    "$@"
  fi
}

# tpu KIND VERB WORD...: gcloud for KIND tpu-vm or queued-resources, and NAME.
tpu() {
  run gcloud compute tpus "$1" "$2" "$NAME" "${WHERE[@]}" "${@:3}" < /dev/null
}

# describe KIND FIELD: a field, ABSENT if there is no such resource. Fails,
# with gcloud's error, if gcloud can't tell.
describe() {
  local errors="$TEMPORARY/describe"
  if tpu "$1" describe --format="value($2)" 2> "$errors"; then
    return
  elif grep -qE 'NOT_FOUND|was not found' "$errors"; then
    echo ABSENT
  else
    cat "$errors" >&2
    return "$LOST"
  fi
}

# on WORKER WORD...: runs a command on worker 0, 1, ... or on `all` at once,
# with the exit code of the (first) command that fails, or $LOST. Other choices
# of workers break gcloud's count of exit codes.
on() {
  # A slice that is taken away closes no connection.
  tpu tpu-vm ssh --worker="$1" --ssh-flag=-oServerAliveInterval=30 \
    --ssh-flag=-oServerAliveCountMax=4 --command="$(quote "${@:2}")"
}

# worker WORKER WORD...: the same for a verb of tpu_worker.sh.
worker() {
  on "$1" bash mtvit/launch/tpu_worker.sh "${@:2}"
}

# ask WORKER WORD...: what a verb prints, without gcloud's own lines.
ask() {
  local errors="$TEMPORARY/ask" code=0
  worker "$@" 2> "$errors" || code=$?
  if [[ "$code" -ne 0 ]]; then
    cat "$errors" >&2
  fi
  return "$code"
}

# accelerator TYPE: gcloud's name of v5e-8 and the like.
accelerator() {
  case "$1" in
    v5e-*) echo "v5litepod-${1#v5e-}" ;;
    *) echo "$1" ;;
  esac
}

# runtime TYPE: the runtime version for gcloud's name of a type, or nothing.
# https://cloud.google.com/tpu/docs/runtimes
runtime() {
  case "$1" in
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
  esac
}

# workdir WORD...: the work directory of a run; of two the last counts.
workdir() {
  local found="" config="" i words=("$@")
  for i in "${!words[@]}"; do
    case "${words[i]}" in
      --workdir=*) found="${words[i]#*=}" ;;
      --workdir) found="${words[i + 1]:-}" ;;
      --config=*) config="${words[i]#*=}" ;;
      --config) config="${words[i + 1]:-}" ;;
    esac
  done
  config="$(basename "${config%%:*}" .py)"
  echo "${found:-runs/$config}"
}

# newest_step WORKDIR: of its checkpoints; 0 if there is none to be seen.
newest_step() {
  local found=""
  if [[ "$1" == gs://* ]]; then
    found="$(gcloud storage ls "${1%/}/checkpoints/" 2> /dev/null)" || true
  else
    found="$(worker 0 checkpoints "$1" 2> /dev/null)" || true
  fi
  # A save in progress has a longer name.
  found="$(sed -nE 's#^(.*/)?([0-9]+)/?$#\2#p' <<< "$found" | sort -n)"
  found="$(tail -n 1 <<< "$found")"
  echo "${found:-0}"
}
