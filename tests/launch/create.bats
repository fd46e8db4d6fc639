# tpu_create.sh: what is asked for, waiting, and what can go wrong.
load helpers

@test "on demand, with the type's runtime" {
  run tpu create --type=v5e-8 --project=p
  ends 0
  says "pod: READY"
  grep -Fx "'compute' 'tpus' 'tpu-vm' 'create' 'pod' '--zone=z' '--project=p' \
'--accelerator-type=v5litepod-8' '--version=v2-alpha-tpuv5-lite'" \
    "$FAKE/calls"
}

@test "each type's name and runtime" {
  while read -r type name version; do
    run tpu create --type="$type" --dry_run
    ends 0
    says "--accelerator-type=$name --version=$version"
  done <<'END'
v4-8 v4-8 tpu-ubuntu2204-base
v5e-16 v5litepod-16 v2-alpha-tpuv5-lite
v5litepod-16 v5litepod-16 v2-alpha-tpuv5-lite
v5p-1024 v5p-1024 v2-alpha-tpuv5
v6e-256 v6e-256 v2-alpha-tpuv6e
END
  run tpu create --type=v9-8 --dry_run
  ends 2
  says "no runtime version is known for type v9-8"
  run tpu create --type=v9-8 --version=mine --dry_run
  says "--version=mine"
}

@test "spot" {
  run tpu create --type=v6e-8 --spot
  ends 0
  calls "'--spot'" 1
}

@test "waits for a slice that is being made" {
  printf '%s\n' CREATING CREATING READY > "$FAKE/node_states"
  run tpu create --type=v5e-8 --wait=0
  ends 0
  [[ "$output" == *"pod: CREATING"*"pod: READY" ]]
  [[ "$(grep -c CREATING <<< "$output")" -eq 1 ]]
}

@test "queued: waits through the queue" {
  printf '%s\n' ACCEPTED WAITING_FOR_RESOURCES PROVISIONING ACTIVE \
    > "$FAKE/new_queue"
  run tpu create --type=v5p-8 --queued --spot --wait=0
  ends 0
  [[ "$output" == *"ACCEPTED in"*"WAITING"*"PROVISIONING"*"ACTIVE"*READY ]]
  grep -Fx "'compute' 'tpus' 'queued-resources' 'create' 'pod' '--zone=z' \
'--accelerator-type=v5p-8' '--node-id=pod' '--runtime-version=v2-alpha-tpuv5' \
'--spot'" "$FAKE/calls"
  calls "'tpu-vm' 'create'" 0
}

@test "queued: FAILED says why, and what to do" {
  printf '%s\n' WAITING_FOR_RESOURCES FAILED > "$FAKE/new_queue"
  echo "Quota 'TPUV5sPreemptible' exhausted. Limit 0" > "$FAKE/failed"
  run tpu create --type=v5e-8 --queued --wait=0
  ends 2
  says "Quota 'TPUV5sPreemptible' exhausted. Limit 0"
  says "tpu_delete.sh pod --zone=z"
  says "the project has no quota for v5litepod-8 in z"
}

@test "queued: taken away while waiting" {
  printf '%s\n' WAITING_FOR_RESOURCES SUSPENDED > "$FAKE/new_queue"
  run tpu create --type=v5e-8 --queued --wait=0
  ends 69
  says "the request for pod is SUSPENDED"
}

@test "a request that waits already is waited for, not made again" {
  printf '%s\n' WAITING_FOR_RESOURCES WAITING_FOR_RESOURCES ACTIVE \
    > "$FAKE/queue"
  run tpu create --type=v5e-8 --queued --wait=0
  ends 0
  calls "'create'" 0
}

@test "refusals by kind" {
  while IFS="|" read -r code error text; do
    echo "$error" > "$FAKE/refusals"
    run tpu create --type=v5e-8 --spot
    ends "$code"
    says "$error"
    says "$text"
    says "fix: "
  done <<'END'
2|Quota limit 'TPUV5sPreemptible' has been exceeded. Limit: 0|no spot quota for
69|There is no more capacity in the zone "z"; you can try|no capacity for
69|{"code": 8, "status": "RESOURCE_EXHAUSTED"}|has no room for v5litepod-8
2|SERVICE_DISABLED: Cloud TPU API|services enable tpu.googleapis.com
2|PERMISSION_DENIED: no|can't be created with these flags
1|INTERNAL: something|pod was not created
END
}

@test "a slice that is there is not made again; one that is stopped is named" {
  make
  run tpu create --type=v5e-8
  ends 0
  calls "'create'" 0
  echo STOPPED > "$FAKE/node"
  run tpu create --type=v5e-8
  ends 2
  says "tpu-vm start pod --zone=z"
}

@test "without a network nothing is taken for absent" {
  touch "$FAKE/offline"
  run tpu create --type=v5e-8
  ends 255
  says "network is unreachable"
  calls "'create'" 0
}

@test "wrong use" {
  while IFS="|" read -r words text; do
    read -ra words <<< "$words"
    run bash launch/tpu_create.sh "${words[@]}"
    ends 2
    says "$text"
    says "usage: bash launch/tpu_create.sh NAME"
  done <<'END'
--zone=z --type=v5e-8|the NAME of the slice is missing
pod --type=v5e-8|--zone= is missing
pod --zone=z|--type= is missing
pod --zone=z --type=v5e-8 --sopt|unknown flag --sopt
pod --zone=z --type|--type needs =VALUE
pod --zone=z --type=v5e-8 --spot=1|unknown flag --spot=1
pod --zone=z --type=v5e-8 --wait=x|--wait=x must be a whole number
pod other --zone=z --type=v5e-8|stray argument 'other'
Pod --zone=z --type=v5e-8|NAME 'Pod' must be of
pod;ls --zone=z --type=v5e-8|NAME 'pod;ls' must be of
END
  file "" calls
}

@test "every script has help, and names itself in it" {
  for script in launch/tpu_{create,setup,run,watch,status,delete}.sh; do
    run bash "$script" --help
    ends 0
    says "bash $script NAME --zone="
    [[ "$output" != *"set -euo"* ]]
  done
}
