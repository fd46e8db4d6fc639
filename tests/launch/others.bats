# tpu_status.sh, tpu_delete.sh, --dry_run everywhere, and gcloud's real flags.
load helpers

@test "status: nothing there, waiting, not set up" {
  run tpu status
  ends 0
  says "slice:    pod ABSENT"
  echo WAITING_FOR_RESOURCES > "$FAKE/queue"
  run tpu status
  says "queue:    WAITING_FOR_RESOURCES"
  rm "$FAKE/queue"
  tpu create --type=v5e-8
  run tpu status
  ends 255
  says "fix: if it is not set up: bash launch/tpu_setup.sh pod"
}

@test "status: a run that goes on, and one that ended" {
  make 2
  run tpu status
  ends 0
  says "worker:   t1v-n-fake-w-1 none"
  plan "0 0" "42 wait"
  tpu run -- mtvit pretrain --workdir=gs://b/r
  run tpu status
  says "newest:   no step yet"
  says "log:      first line of worker 0"
  tpu run --detach -- mtvit pretrain --workdir=gs://b/r
  grows() { grep -q step "$FAKE/home of 0/mtvit_logs/latest/log"; }
  eventually grows
  run tpu status
  ends 0
  says "slice:    pod READY"
  says "worker:   t1v-n-fake-w-0 running"
  says "worker:   t1v-n-fake-w-1 running"
  says "command:  'mtvit' 'pretrain' '--workdir=gs://b/r' '--coordinator=auto'"
  says "newest:   step 42/100"
  says "log:      step 42/100 · ETA 00:00:10"
  touch "$FAKE/go"
  tpu run --attach
  run tpu status
  says "worker:   t1v-n-fake-w-0 exit 0"
}

@test "delete: asks, or is told" {
  make
  run tpu delete <<< n
  ends 2
  says "pod: slice READY, request in the queue ABSENT"
  says "nothing was deleted"
  run tpu delete < /dev/null
  ends 2
  calls "'delete'" 0
  run tpu delete <<< y
  ends 0
  says "pod is deleted"
  calls "'tpu-vm' 'delete' 'pod' '--zone=z' '--quiet'" 1
  run tpu delete --yes
  ends 0
  says "there is no pod in z; nothing to delete"
}

@test "delete: the request takes the slice along; a failed request too" {
  echo ACTIVE > "$FAKE/new_queue"
  tpu create --type=v5e-8 --queued
  run tpu delete --yes
  ends 0
  calls "'queued-resources' 'delete' 'pod' '--zone=z' '--force' '--quiet'" 1
  calls "'tpu-vm' 'delete'" 0
  [[ ! -e "$FAKE/node" && ! -e "$FAKE/queue" ]]
  echo FAILED > "$FAKE/queue"
  run tpu delete --yes
  ends 0
  [[ ! -e "$FAKE/queue" ]]
}

@test "delete: without a network it does not say that there is nothing" {
  make
  touch "$FAKE/offline"
  run tpu delete --yes
  ends 255
  [[ "$output" != *"nothing to delete"* ]]
}

@test "--dry_run calls nothing, and prints what a shell can run" {
  words=(mtvit pretrain "--config.x=it's two" --workdir=gs://b/r)
  : > "$BATS_TEST_TMPDIR/said"
  for script in "create --type=v5e-8" "create --type=v5e-8 --queued --spot" \
      setup "setup --git=http://x/y" status delete "watch --type=v5e-8 --spot" \
      run; do
    read -ra script <<< "$script"
    end=()
    [[ "${script[0]}" != @(watch|run) ]] || end=(-- "${words[@]}")
    run tpu "${script[@]}" --dry_run "${end[@]}"
    ends 0
    says "gcloud compute tpus"
    grep -E '^(gcloud|git) ' <<< "$output" >> "$BATS_TEST_TMPDIR/said"
  done
  file "" calls
  # The printed start, pasted, starts the run with the very same words.
  make
  plan "1 0"
  grep "tpu_worker.sh start" "$BATS_TEST_TMPDIR/said" | tail -n 1 \
    > "$BATS_TEST_TMPDIR/start.sh"
  run bash "$BATS_TEST_TMPDIR/start.sh"
  ends 0
  all=(-m "${words[@]}" --coordinator=auto)
  eventually test -e "$FAKE/runs.0"
  file "$FAKE/home of 0/mtvit: ${all[*]@Q}" runs.0
  # And the printed copy of the code copies it.
  grep "^git .* | tar " "$BATS_TEST_TMPDIR/said" | head -n 1 \
    | sed "s#/tmp/mtvit.tar.gz#'$BATS_TEST_TMPDIR/x.tar.gz'#" \
    > "$BATS_TEST_TMPDIR/tar.sh"
  bash "$BATS_TEST_TMPDIR/tar.sh"
  tar -tzf "$BATS_TEST_TMPDIR/x.tar.gz" | grep -Fx launch/tpu_worker.sh
}

@test "gcloud has every flag that is used" {
  path="${PATH#*:}"
  unset PYTHONPATH        # gcloud is a Python program too.
  PATH="$path" command -v gcloud > /dev/null || skip "gcloud is not installed"
  echo ACTIVE > "$FAKE/new_queue"
  tpu create --type=v5e-8 --queued --spot --project=p
  tpu setup --project=p
  tpu delete --yes --project=p
  tpu create --type=v5e-8 --spot --project=p
  tpu delete --yes --project=p
  verbs="$(sed -E "s/'compute' 'tpus' '([a-z-]+)' '([a-z]+)'.*/\1 \2/" \
    "$FAKE/calls" | sort -u)"
  [[ "$(wc -l <<< "$verbs")" -eq 8 ]]
  while read -r kind verb; do
    # Without the escapes of a terminal.
    help="$(PATH="$path" gcloud compute tpus "$kind" "$verb" --help \
      | sed 's/\x1b\[[0-9;]*m//g')"
    flags="$(grep -F "'$kind' '$verb'" "$FAKE/calls" \
      | grep -oE "'--[a-z-]+" | tr -d "'" | sort -u)"
    while read -r flag; do
      [[ "$help" =~ [^a-z-]"$flag"[^a-z-] ]] || {
        echo "gcloud compute tpus $kind $verb has no $flag"
        false
      }
    done <<< "$flags"
  done <<< "$verbs"
}

@test "prepare_tfds.sh: --dry_run installs nothing" {
  export MTVIT_VENV="$BATS_TEST_TMPDIR/no venv"
  run bash launch/prepare_tfds.sh imagenet2012 --data_dir="gs://b/a b" --dry_run
  ends 0
  [[ "$output" == "'$MTVIT_VENV/bin/tfds' 'build' 'imagenet2012' \
'--data_dir=gs://b/a b' '--file_format=array_record'" ]]
  [[ ! -e "$MTVIT_VENV" ]]
  run bash launch/prepare_tfds.sh --dry_run
  ends 2
  says "usage: bash launch/prepare_tfds.sh NAME"
}

@test "a flag of a script behind -- is refused before anything is called" {
  for flag in --dry_run --dry-run -dry_run --dry_run=true --spot --zone=y \
      --project=p --type=v5e-8 --max_restarts=3 --help; do
    for script in "run" "watch --type=v5e-8 --spot"; do
      read -ra script <<< "$script"
      run tpu "${script[@]}" -- mtvit pretrain --workdir=gs://b/r "$flag"
      ends 2
      says "$flag stands behind --"
      says "fix: "
    done
  done
  file "" calls
}

@test "slips that would cost money are refused before anything is called" {
  while IFS="|" read -r words text; do
    read -ra words <<< "$words"
    run bash "launch/tpu_${words[0]}.sh" "${words[@]:1}"
    ends 2
    says "$text"
  done <<'END'
create pod --zone= --type=v5e-8|--zone= has no value
create pod --zone=z --type=v5e-8 --project=|--project= has no value
create pod --zone=z --type=v5e-8 --dry-run|unknown flag --dry-run
create pod --zone=z --type=v5e-8 --dry_run=true|unknown flag --dry_run=true
create -dry_run --zone=z --type=v5e-8|NAME '-dry_run' must be of
create pod --zone=z --zone=y --type=v5e-8|--zone=y: given twice
watch pod --zone=z --type=v5e-8 --sport -- mtvit pretrain|unknown flag --sport
watch pod --zone=z --type= -- mtvit pretrain|--type= has no value
watch pod --zone=z --type=v5e-8 mtvit pretrain|stray argument
delete pod --zone=z --project= --yes|--project= has no value
END
  mkdir mtvit
  cp "$BATS_TEST_DIRNAME/../../mtvit/__main__.py" mtvit/
  run tpu watch --type=v5e-8 -- mtvit pretain --workdir=gs://b/r
  ends 2
  says "has no command pretain"
  file "" calls
}

@test "a folder that is there is never removed for the environment" {
  mkdir mine empty bin
  echo precious > mine/file
  printf '#!/bin/sh\n[ "$1" = -c ] || exit 1\n' > bin/python3
  chmod +x bin/python3
  for folder in mine empty "new one"; do
    run env MTVIT_VENV="$PWD/$folder" PATH="$PWD/bin:$PATH" \
      bash launch/local.sh
    ends 2
    says "fix: "
  done
  [[ "$(cat mine/file)" == precious && -d empty && ! -e "new one" ]]
  run env MTVIT_VENV="$PWD/mine" PATH="$PWD/bin:$PATH" bash launch/local.sh
  says "is no virtual environment, and not empty"
}
