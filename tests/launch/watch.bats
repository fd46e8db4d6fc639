# tpu_watch.sh: what is started again, and what is not.
load helpers

WORDS=(mtvit pretrain --workdir=gs://b/r "--config.x=it's two")

# watch FLAG... : with --wait=0 and a few flags that do not matter here.
watch() {
  tpu watch --type=v5e-8 --wait=0 "$@" -- "${WORDS[@]}"
}

# starts COUNT: how often the run was started.
starts() {
  local count
  count="$(cat "$FAKE/runs.0" 2> /dev/null | wc -l)"
  if [[ "$count" -ne "$1" ]]; then
    echo "$count starts instead of $1"
    cat "$FAKE/calls"
    return 1
  fi
}

@test "from nothing to a finished run" {
  plan "100 0"
  run watch --spot --version=mine
  ends 0
  starts 1
  calls "'create' 'pod' '--zone=z' '--accelerator-type=v5litepod-8' \
'--version=mine' '--spot'" 1
  all=(-m "${WORDS[@]}" --coordinator=auto)
  file "$FAKE/home of 0/mtvit: ${all[*]@Q}" runs.0
  calls "'delete'" 0
}

@test "preempted again and again, with progress: no end but the run's" {
  plan "10 preempt" "20 preempt" "30 preempt" "40 0"
  run watch --spot --max_restarts=1
  ends 0
  starts 4
  says "pod was taken away (PREEMPTED)"
  says "at step 30; starting again (0 of 1 without progress)"
  calls "'tpu-vm' 'create'" 4
  calls "'scp'" 4
  calls "'tpu-vm' 'delete'" 3
}

@test "preempted from the queue: the request goes, and is made again" {
  printf '%s\n' WAITING_FOR_RESOURCES ACTIVE > "$FAKE/new_queue"
  plan "10 preempt" "20 0"
  run watch --queued --spot
  ends 0
  starts 2
  calls "'queued-resources' 'create'" 2
  calls "'queued-resources' 'delete' 'pod' '--zone=z' '--force'" 1
  calls "'tpu-vm' 'create'" 0
}

@test "a slice that is gone with its node is noticed by its request" {
  echo SUSPENDED > "$FAKE/queue"
  printf '%s\n' ACTIVE > "$FAKE/new_queue"
  plan "10 0"
  run watch --queued
  ends 0
  calls "'queued-resources' 'delete'" 1
  calls "'queued-resources' 'create'" 1
}

@test "codes that are worth another start, on the same slice" {
  make
  plan "0 1" "0 75" "0 134" "0 137" "0 139" "1 143" "1 0"
  run watch
  ends 0
  starts 7
  calls "'create'" 0
  calls "'scp'" 1
}

@test "codes that are not" {
  make
  plan "1 2" "2 3" "3 4" "4 5" "5 130" "6 126"
  count=0
  for code in 2 3 4 5 130 126; do
    count=$((count + 1))
    run watch
    ends "$code"
    starts "$count"
  done
}

@test "K restarts without a new checkpoint, then it ends with the last code" {
  make
  plan "5 1" "5 1" "5 75" "5 134" "9 0"
  run watch --max_restarts=2
  ends 134
  starts 4
  says "2 restarts without a new checkpoint after step 5"
  says "the last exit code is 134"
}

@test "progress starts the count anew; a save in progress is none" {
  make
  plan "1 1" "1 1" "1 1" "2 1" "2 1" "2 1" "3 0"
  run watch --max_restarts=2
  ends 0
  starts 7
}

@test "what was there before counts as no progress" {
  make
  mkdir -p "$FAKE/gs/b/r/checkpoints/50"
  plan "50 1" "50 1"
  run watch --max_restarts=0
  ends 1
  starts 1
}

@test "a preemption without progress counts too" {
  plan "0 preempt" "0 preempt" "1 0"
  run watch --spot --max_restarts=1
  ends 255
  starts 2
}

@test "a lost connection: it follows the same run again" {
  make
  plan "7 wait"
  printf '%s\n' follow state > "$FAKE/lost"
  (sleep 3; touch "$FAKE/go") 3>&- &
  run watch
  ends 0
  starts 1
  says "the connection to pod is lost"
  says "step 7/100"
}

@test "a run that ended while there was no connection is not started again" {
  make
  plan "7 4" "9 0"
  printf '%s\n' follow state > "$FAKE/lost"
  run watch
  ends 4
  starts 1
  says "the run on pod ended with exit code 4"
}

@test "no connection for good: K times, then 255" {
  make
  plan "0 0"
  yes "bash mtvit" | head -n 50 > "$FAKE/lost"
  run watch --max_restarts=2
  ends 255
  starts 0
  says "2 restarts without a new checkpoint"
}

@test "without a network nothing is deleted or created" {
  make
  touch "$FAKE/offline"
  run watch --max_restarts=1
  ends 255
  calls "'delete'" 0
  calls "'create'" 0
}

@test "no capacity: tries on; no quota: ends" {
  full='There is no more capacity in the zone "z"'
  printf '%s\n' "$full" "$full" "$full" > "$FAKE/refusals"
  plan "10 preempt"
  (eventually test -e "$FAKE/runs.0"
   echo "Quota limit exceeded" > "$FAKE/refusals") 3>&- &
  run watch --spot --max_restarts=1
  ends 2
  says "no capacity for v5litepod-8"
  says "no spot quota"
  starts 1
  calls "'tpu-vm' 'create'" 5
}

@test "a failed installation is tried again" {
  printf 'once\n' > "$FAKE/pip_fails"
  plan "1 0"
  run watch
  ends 0
  starts 1
  calls "'scp'" 2
}

@test "started again, it follows the run that goes on" {
  make
  plan "7 wait"
  tpu run --detach -- "${WORDS[@]}"
  (sleep 3; touch "$FAKE/go") 3>&- &
  run watch
  ends 0
  starts 1
  calls "'scp'" 0
}

@test "another run that goes on is left alone, or replaced if asked" {
  make
  plan "7 hang" "8 0"
  tpu run --detach -- mtvit pretrain --workdir=gs://b/other
  run watch
  ends 2
  says "another run is going on on pod"
  starts 1
  run watch --replace
  ends 0
  starts 2
}

@test "a work directory on the slice: a note, and progress all the same" {
  make
  plan "1 1" "2 1" "3 0"
  run tpu watch --type=v5e-8 --wait=0 --max_restarts=0 -- mtvit pretrain \
    --config=configs/a.py:x --workdir=runs/a
  ends 0
  starts 3
  says "note: if runs/a is on the slice, it is lost with it"
}

@test "the default work directory" {
  source launch/tpu_common.sh
  [[ "$(workdir mtvit pretrain --config=configs/a.py:b/c)" == runs/a ]]
  [[ "$(workdir mtvit pretrain --config configs/a.py)" == runs/a ]]
  [[ "$(workdir m --workdir=x --config=configs/a.py --workdir "y z")" \
    == "y z" ]]
}

@test "Ctrl-C says that the run goes on" {
  make
  plan "7 hang"
  set -m
  bash launch/tpu_watch.sh pod --zone=z --type=v5e-8 -- "${WORDS[@]}" \
    > "$BATS_TEST_TMPDIR/said" 2>&1 3>&- &
  eventually grep -q "step 7" "$BATS_TEST_TMPDIR/said"
  kill -INT -- "-$!"
  code=0
  wait "$!" || code=$?
  set +m
  [[ "$code" -eq 130 ]]
  grep "not following any more" "$BATS_TEST_TMPDIR/said"
  grep "not watching any more; the run on pod, if any, goes on" \
    "$BATS_TEST_TMPDIR/said"
  TMUX_TMPDIR="$FAKE/tmux.0" tmux has-session -t =mtvit
}

@test "--replace leaves the same run alone" {
  make
  plan "7 wait"
  tpu run --detach -- "${WORDS[@]}"
  (sleep 3; touch "$FAKE/go") 3>&- &
  run watch --replace
  ends 0
  starts 1
}
