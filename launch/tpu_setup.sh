#!/usr/bin/env bash
# Installs mtvit on all workers of a slice: uv, Python 3.12, the pins of
# requirements.txt with jax[tpu], and the code: the files of this checkout that
# git tracks, as they are now, or a clone. May be repeated.
#
#   bash launch/tpu_setup.sh NAME --zone=ZONE [FLAG...]
#
#   --git=URL         clones URL instead
#   --ref=NAME        a branch or tag of it
#   --project=ID      by default gcloud's
#   --dry_run         prints the commands
#
# With several workers, gcloud wants its key in an agent:
#   eval "$(ssh-agent)"; ssh-add ~/.ssh/google_compute_engine
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tpu_common.sh"

parse "git= ref=" "$@"
[[ "${#COMMAND[@]}" -eq 0 ]] || wrong_use "stray argument --"
[[ -z "${FLAG[ref]:-}" || -n "${FLAG[git]:-}" ]] \
  || wrong_use "--ref needs --git"
ARCHIVE="$TEMPORARY/mtvit.tar.gz"
if [[ -n "${FLAG[dry_run]:-}" ]]; then
  ARCHIVE=/tmp/mtvit.tar.gz
fi

# pack: the tracked files that are there, into ARCHIVE.
pack() {
  local untracked
  local list=(git -C "$ROOT" ls-files -z)
  # A file that is tracked and deleted is no error.
  local tar=(tar -C "$ROOT" -czf "$ARCHIVE" --null --verbatim-files-from
             --ignore-failed-read -T -)
  if ! "${list[@]}" > /dev/null 2>&1; then
    fail 2 "$ROOT is no git checkout" "--git=URL to clone one on the slice"
  fi
  untracked="$(git -C "$ROOT" ls-files --others --exclude-standard | wc -l)"
  if [[ "$untracked" -gt 0 ]]; then
    echo "note: $untracked files that git does not track are left out;" \
      "git add takes them along" >&2
  fi
  if [[ -n "${FLAG[dry_run]:-}" ]]; then
    echo "$(quote "${list[@]}") | $(quote "${tar[@]}")"
  else
    "${list[@]}" | "${tar[@]}"
  fi
}

FOREIGN=74        # Exit code of a worker: the folder mtvit is not ours.

# everywhere WHAT WORD...: on all workers, or exits saying WHAT failed.
everywhere() {
  local code=0
  on all "${@:2}" || code=$?
  case "$code" in
    0) return ;;
    "$BUSY") fail 2 "a run is going on on $NAME" "let it end, or stop it" ;;
    "$FOREIGN")
      fail 2 "mtvit in the home of a worker of $NAME is no copy of this" \
        "move it away" ;;
    "$LOST")
      fail "$LOST" "$1: no connection to a worker of $NAME" "try again" ;;
  esac
  # Not 2, as of pip: another try may help.
  fail 1 "$1 failed on a worker of $NAME; see above" "try again"
}

# The new code takes the place of the old, whole; runs/ stays. Another's folder
# stays as well. Wherever this is killed, no run is in what is removed next time.
# shellcheck disable=SC2016
PLACE='set -e
cd ~
new=.mtvit_setup_new old=.mtvit_setup_old
clear_old() {
  if [ -e "$old/runs" ]; then
    mv "$old/runs" mtvit/
  fi
  rm -rf "$old"
}
if tmux has-session -t =mtvit 2> /dev/null; then
  echo "a run is going on here; stop it, or let it end" >&2
  exit 73
fi
if [ -e "$old" ] && [ ! -e mtvit ]; then
  mv "$old" mtvit
fi
if [ -e mtvit ] && [ ! -e mtvit/launch/tpu_worker.sh ]; then
  exit 74
fi
clear_old
rm -rf "$new"
if [ -n "$1" ]; then
  git clone --quiet --depth=1 ${2:+--branch="$2"} -- "$1" "$new"
else
  mkdir "$new"
  tar -xzf mtvit.tar.gz -C "$new"
fi
if [ -e mtvit ]; then
  mv mtvit "$old"
fi
mv "$new" mtvit
clear_old'

if [[ -z "${FLAG[git]:-}" ]]; then
  pack
  CODE=0
  run gcloud compute tpus tpu-vm scp "$ARCHIVE" "$NAME:mtvit.tar.gz" \
    "${WHERE[@]}" --worker=all < /dev/null || CODE=$?
  if [[ "$CODE" -ne 0 ]]; then
    fail "$CODE" "the code could not be copied to $NAME; see gcloud's line" \
      "if it wants a key in the agent: ssh-add ~/.ssh/google_compute_engine"
  fi
fi
everywhere "copying the code" \
  bash -c "$PLACE" place "${FLAG[git]:-}" "${FLAG[ref]:-}"
everywhere "the installation" bash mtvit/launch/tpu_worker.sh install
everywhere "asking JAX for its devices" bash mtvit/launch/tpu_worker.sh devices
