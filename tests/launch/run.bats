# tpu_run.sh: a run on all workers, its log, and its exit code.
load helpers

@test "runs on all workers, follows the log, ends well" {
  make 2
  plan "40 0"
  run tpu run -- mtvit pretrain --config=configs/a.py --workdir=gs://b/r
  ends 0
  says "first line of worker 0"
  says "step 40/100"
  [[ "$output" != *"first line of worker 1"* ]]
  for i in 0 1; do
    home="$FAKE/home of $i"
    file "$home/mtvit: '-m' 'mtvit' 'pretrain' '--config=configs/a.py' \
'--workdir=gs://b/r' '--coordinator=auto'" "runs.$i"
    [[ "$(cat "$home/mtvit_logs/latest/exit")" == 0 ]]
    grep -q "first line of worker $i" "$home/mtvit_logs/latest/log"
  done
}

@test "arguments arrive as they are" {
  make 2
  plan "1 0"
  words=("--config.a=two words" "--config.b=it's \"quoted\" \$HOME \`ls\` \\"
         "--config.c=(1, 2)" "--config.d=*" "--config.e=" "--x=a
b" "  " "" "--y=é; rm -rf ~ && echo #" "--z=a;" ";" "--w=\\;" --workdir="gs://b/a b")
  run tpu run -- mtvit pretrain "${words[@]}"
  ends 0
  all=(-m mtvit pretrain "${words[@]}" --coordinator=auto)
  file "$FAKE/home of 0/mtvit: ${all[*]@Q}" runs.0
  file "$FAKE/home of 1/mtvit: ${all[*]@Q}" runs.1
}

@test "a coordinator of one's own, and programs that have none" {
  make
  plan "1 0" "1 0" "1 0"
  tpu run -- mtvit pretrain --workdir=gs://b/r --coordinator=h:1
  tpu run -- mtvit plan --workdir=gs://b/r
  tpu run -- mtvit finetune --workdir=gs://b/r
  [[ "$(sed -n 1p "$FAKE/runs.0")" == *"'--coordinator=h:1'" ]]
  [[ "$(sed -n 2p "$FAKE/runs.0")" == *"'--workdir=gs://b/r'" ]]
  [[ "$(sed -n 3p "$FAKE/runs.0")" == *"'--coordinator=auto'" ]]
}

@test "the exit code is the run's" {
  make
  plan "1 1" "1 2" "1 3" "1 4" "1 5" "1 75" "1 130" "1 134" "1 137" "1 143"
  for code in 1 2 3 4 5 75 130 134 137 143; do
    run tpu run -- mtvit pretrain --workdir=gs://b/r
    ends "$code"
    says "the run on pod ended with exit code $code"
    [[ "$(cat "$FAKE/home of 0/mtvit_logs/latest/exit")" == "$code" ]]
  done
}

@test "what another worker found goes before the 1 of worker 0" {
  make 2
  plan "1 1" "1 1"
  printf '%s\n' "1 4" "1 137" > "$FAKE/plan.1"
  run tpu run -- mtvit pretrain --workdir=gs://b/r
  ends 4
  says "worker 0 ended with 1, but t1v-n-fake-w-1 with 4"
  run tpu run -- mtvit pretrain --workdir=gs://b/r
  ends 1
}

@test "a second run is refused on all workers, or replaces the first" {
  make 2
  plan "1 hang" "2 0"
  run tpu run --detach -- mtvit pretrain --workdir=gs://b/r
  ends 0
  says "started on pod; to follow"
  run tpu run -- mtvit pretrain --workdir=gs://b/r
  ends 2
  says "a run is going on on pod"
  [[ "$(wc -l < "$FAKE/runs.0")" == 1 ]]
  TMUX_TMPDIR="$FAKE/tmux.1" tmux has-session -t =mtvit
  run tpu run --replace -- mtvit pretrain --workdir=gs://b/r
  ends 0
  says "step 2/100"
  for i in 0 1; do
    # The first was asked, and had the time to save.
    logs="$FAKE/home of $i/mtvit_logs"
    [[ "$(cat "$logs"/[0-9]*/exit | sort | tr '\n' ' ')" == "0 75 " ]]
    grep -q "SIGTERM: saved" "$logs"/[0-9]*/log
  done
}

@test "a run that is deaf to SIGTERM is killed after the grace" {
  make
  plan "1 deaf" "2 0"
  tpu run --detach -- mtvit pretrain --workdir=gs://b/r
  run tpu run --replace --grace=1 -- mtvit pretrain --workdir=gs://b/r
  ends 0
  [[ "$(cat "$FAKE/home of 0/mtvit_logs"/[0-9]*/exit | sort | tr '\n' ' ')" \
    == "0 137 " ]]
}

@test "a lost connection does not end the run, nor the following" {
  make
  plan "7 0"
  echo follow > "$FAKE/lost"
  run tpu run --wait=0 -- mtvit pretrain --workdir=gs://b/r
  ends 0
  says "step 7/100"
  [[ "$(wc -l < "$FAKE/runs.0")" == 1 ]]
  # Also where it goes on for a while.
  plan "7 0" "8 wait"
  echo follow > "$FAKE/lost"
  (sleep 1; touch "$FAKE/go") 3>&- &
  run tpu run --wait=0 -- mtvit pretrain --workdir=gs://b/r
  ends 0
  says "step 8/100"
  [[ "$(wc -l < "$FAKE/runs.0")" == 2 ]]
}

@test "a start that gcloud repeats is one start" {
  make 2
  plan "7 wait"
  echo start > "$FAKE/again"
  run tpu run --detach -- mtvit pretrain --workdir=gs://b/r
  ends 0
  [[ "$(wc -l < "$FAKE/runs.0")" == 1 && "$(wc -l < "$FAKE/runs.1")" == 1 ]]
}

@test "no connection at all is 255, and the run goes on" {
  make
  plan "7 hang"
  printf '%s\n' follow state > "$FAKE/lost"
  run tpu run -- mtvit pretrain --workdir=gs://b/r
  ends 255
  says "the connection to pod is lost"
  TMUX_TMPDIR="$FAKE/tmux.0" tmux has-session -t =mtvit
}

@test "a start that fails on a worker is undone on the others" {
  make 2
  plan "1 hang"
  # No tmux server can be made there.
  rm -rf "$FAKE/tmux.1"
  touch "$FAKE/tmux.1"
  run tpu run -- mtvit pretrain --workdir=gs://b/r
  ends 255
  says "did not start on all workers of pod"
  run env TMUX_TMPDIR="$FAKE/tmux.0" tmux has-session -t =mtvit
  ends 1
}

@test "--attach shows the run that is going on, and how it ends" {
  make
  plan "7 wait"
  tpu run --detach -- mtvit pretrain --workdir=gs://b/r
  (sleep 3; touch "$FAKE/go") 3>&- &
  run tpu run --attach
  ends 0
  says "step 7/100"
  [[ "$(wc -l < "$FAKE/runs.0")" == 1 ]]
}

@test "a worker that restarts loses the run, which is said" {
  make
  plan "7 reboot"
  run tpu run -- mtvit pretrain --workdir=gs://b/r
  ends 1
  says "worker 0 of pod was restarted"
}

@test "before the setup, and wrong use" {
  tpu create --type=v5e-8
  run tpu run -- mtvit pretrain --workdir=gs://b/r
  ends 2
  says "mtvit is not on pod"
  says "tpu_setup.sh pod --zone=z"
  run tpu run
  ends 2
  says "-- mtvit COMMAND is missing"
  run tpu run -- ls
  ends 2
  run tpu run --attach -- mtvit pretrain
  ends 2
  says "--attach takes no command"
}
