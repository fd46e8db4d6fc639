# tpu_setup.sh: the code and its environment on every worker.
load helpers

setup_slice() {
  echo 2 > "$FAKE/workers"
  tpu create --type=v5e-16 > /dev/null 2>&1
}

@test "installs on every worker what the pins say" {
  setup_slice
  run tpu setup
  ends 0
  says "process 0: 4 of 8 devices"
  says "process 1: 4 of 8 devices"
  jax="$(sed -n 's/^jax==//p' requirements.txt)"
  storage="$(sed -n 's/.*google-cloud-storage==//p' requirements.txt)"
  [[ -n "$storage" ]]
  [[ "$(grep -c "curl '-LsSf' 'https://astral.sh/uv/" "$FAKE/installs")" == 2 ]]
  for i in 0 1; do
    home="$FAKE/home of $i"
    grep -F "'venv' '--python' '3.12' '$home/mtvit_venv'" "$FAKE/installs"
    grep -F "'pip' 'install' '--python' '$home/mtvit_venv/bin/python' \
'-r' '$home/mtvit/requirements.txt' 'jax[tpu]==$jax' \
'google-cloud-storage==$storage'" "$FAKE/installs"
  done
}

@test "copies tracked files as they are now, and nothing else" {
  setup_slice
  echo changed > "a file"
  echo weird > -n
  echo gone > gone
  git add -- "a file" -n gone
  rm gone
  echo "changed again" > "a file"
  echo secret > untracked
  run tpu setup
  ends 0
  says "note: 1 files that git does not track are left out"
  for i in 0 1; do
    home="$FAKE/home of $i/mtvit"
    [[ "$(cat "$home/a file")" == "changed again" ]]
    [[ "$(cat "$home/-n")" == weird ]]
    [[ ! -e "$home/untracked" && ! -e "$home/.git" && ! -e "$home/gone" ]]
  done
}

@test "again: old files go, runs and the environment stay" {
  setup_slice
  echo old > old
  git add old
  tpu setup
  home="$FAKE/home of 0"
  mkdir -p "$home/mtvit/runs/mine"
  touch "$home/mtvit_venv/mine"
  git rm --quiet -f old
  run tpu setup
  ends 0
  [[ ! -e "$home/mtvit/old" ]]
  [[ -d "$home/mtvit/runs/mine" && -e "$home/mtvit_venv/mine" ]]
  [[ "$(grep -c "'venv'" "$FAKE/installs")" == 2 ]]    # One for each worker.
  [[ "$(grep -c curl "$FAKE/installs")" == 2 ]]
}

@test "from a repository, at a branch" {
  setup_slice
  origin="$BATS_TEST_TMPDIR/an origin"
  git init --quiet "$origin"
  cp -r launch requirements.txt "$origin"
  echo main > "$origin/which"
  git -C "$origin" add .
  identity=(-c user.name=x -c user.email=x@x)
  git -C "$origin" "${identity[@]}" commit --quiet -m x
  git -C "$origin" checkout --quiet -b "other"
  echo other > "$origin/which"
  git -C "$origin" "${identity[@]}" commit --quiet -am x
  git -C "$origin" checkout --quiet -
  run tpu setup --git="file://$origin"
  ends 0
  [[ "$(cat "$FAKE/home of 1/mtvit/which")" == main ]]
  run tpu setup --git="file://$origin" --ref=other
  ends 0
  [[ "$(cat "$FAKE/home of 1/mtvit/which")" == other ]]
  calls "'scp'" 0
}

@test "a folder of another is not replaced" {
  setup_slice
  home="$FAKE/home of 1"
  mkdir -p "$home/mtvit/launch"
  echo precious > "$home/mtvit/mine"
  run tpu setup
  ends 2
  says "error: mtvit in the home of a worker of pod is no copy of this"
  says "fix: move it away"
  [[ "$(cat "$home/mtvit/mine")" == precious ]]
  mv "$home/mtvit" "$home/moved"
  run tpu setup
  ends 0
  [[ "$(cat "$home/moved/mine")" == precious ]]
}

@test "runs stay, wherever an earlier setup was killed" {
  make 2
  for i in 0 1; do
    mkdir -p "$FAKE/home of $i/mtvit/runs/mine"
  done
  # Before the new code had its place, and before the old had gone.
  mv "$FAKE/home of 0/mtvit" "$FAKE/home of 0/.mtvit_setup_old"
  cp -r "$FAKE/home of 1/mtvit" "$FAKE/home of 1/.mtvit_setup_old"
  rm -r "$FAKE/home of 1/mtvit/runs"
  run tpu setup
  ends 0
  for i in 0 1; do
    home="$FAKE/home of $i"
    [[ -d "$home/mtvit/runs/mine" && -e "$home/mtvit/launch/tpu_worker.sh" ]]
    [[ -z "$(find "$home" -maxdepth 1 -name '.mtvit_setup*')" ]]
  done
}

@test "not while a run goes on" {
  make
  plan "1 hang"
  tpu run --detach -- mtvit pretrain --workdir=gs://b/r
  touch "$FAKE/home of 0/mtvit/mark"
  run tpu setup
  ends 2
  says "a run is going on on pod"
  [[ -e "$FAKE/home of 0/mtvit/mark" ]]
}

@test "a failed installation and a lost connection are not for good" {
  setup_slice
  echo once > "$FAKE/pip_fails"
  run tpu setup
  ends 1
  says "the installation failed on a worker of pod"
  echo install > "$FAKE/lost"
  run tpu setup
  ends 255
  says "the installation: no connection to a worker"
  run tpu setup
  ends 0
}

@test "outside of git, without a slice, with half a flag" {
  run tpu setup
  ends 1
  says "the code could not be copied to pod"
  run tpu setup --ref=main
  ends 2
  says "--ref needs --git"
  rm -rf .git
  run env GIT_CEILING_DIRECTORIES="$BATS_TEST_TMPDIR" \
    bash launch/tpu_setup.sh pod --zone=z
  ends 2
  says "is no git checkout"
}
