#!/usr/bin/env bash
# Compares sync through the vault with restic alone, with sync through a folder, with codexSync and with rsync: a first run,
# idle runs, and a conversation of 20 MB that grew by a turn, sent and received. Needs restic, rsync, python3; 2 GB of disk.
# Usage: benches/sync_vault.sh [CONVERSATIONS] [BYTES OF EACH] [FIRST RUNS]
set -euo pipefail
files=${1:-50000}
bytes=${2:-2000}
firsts=${3:-3}
cd "$(dirname "$0")/.."
codexsync=$PWD/target/tools/codexsync/bin/codexsync
if [ ! -x "$codexsync" ]; then
  python3 -m venv target/tools/codexsync && target/tools/codexsync/bin/pip -q install 'codexsync==0.1.2'
fi
manager=${CODEX_MANAGER:-$PWD/target/release/codex-manager}
[ -n "${CODEX_MANAGER:-}" ] || cargo build --release --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HOME=$work RESTIC_PASSWORD=benchmark RESTIC_PROGRESS_FPS=1
restic version
echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg), $files conversations of $bytes bytes"

python3 - "$files" "$bytes" <<'PY'
import os, random, sys
dice = random.Random(1)
words = [bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz", k=8)).decode() for _ in range(5000)]
def rollout(number, size):
    day = f"sessions/2026/{1 + number // 28 % 12:02}/{1 + number % 28:02}"
    identity = f"01a1f78b-{number >> 12 & 0xffff:04x}-7{number & 0xfff:03x}-b0ee-{number:012x}"
    os.makedirs(f"a/{day}", exist_ok=True)
    path = f"a/{day}/rollout-2026-11-20T06-00-00-{identity}.jsonl"
    with open(path, "w") as file:
        file.write('{"type":"session_meta","payload":{"id":"%s"}}\n' % identity)
        while file.tell() < size:
            text = " ".join(dice.choices(words, k=60))
            file.write('{"type":"event_msg","payload":{"type":"user_message","message":"%s"}}\n' % text)
    return path
for number in range(int(sys.argv[1])):
    rollout(number, int(sys.argv[2]))
open("long", "w").write(rollout(int(sys.argv[1]), 20 << 20))
PY
long=$(cat long)
turn='{"type":"event_msg","payload":{"type":"agent_message","message":"'$(head -c 1500 /dev/urandom | base64 -w0)'"}}'
cp -a a plain
mkdir cloud cloud-rsync cloud-codexsync
for name in a b; do
  mkdir -p "manager-$name" "$name"
  paths="local_state_dir = \"$work/$name\"\nbackup_dir = \"$work/backups-$name\""
  printf "[identity]\nmachine_id = \"$name\"\n[paths]\n$paths\n[sync]\nremote = \"vault\"\n" >"$name.toml"
done
printf "[identity]\nmachine_id = \"a\"\n[paths]\n$paths\ncloud_root_dir = \"$work/cloud\"\n" | sed "s#$work/b\"#$work/a\"#" >folder.toml
cat >codexsync.toml <<TOML
[identity]
machine_id = "a"
[sync]
compare = "mtime"
session_mode = "all"
[paths]
local_state_dir = "$work/a"
cloud_root_dir = "$work/cloud-codexsync"
backup_dir = "$work/backups-codexsync"
temp_dir = "$work/temp-codexsync"
[targets]
include_roots = ["sessions"]
[process_detection]
process_names = ["no-such-codex"]
grace_period_seconds = 0
[state]
manifest_file = "$work/codexsync.json"
[logging]
level = "WARNING"
TOML

# Prints the time and the peak memory of the largest process.
measure() {
  local label=$1
  shift
  /usr/bin/time -f "$label: %e s, %M KB" "$@" 2>&1 >/dev/null | tail -1
}
sync_run() { "$manager" --manager-home "manager-$1" sync -c "$2.toml" run --apply --quiet; }
export -f sync_run
export manager
run() { measure "$1" bash -c "sync_run $2 $3"; }
stored() { du -sk "$1" | cut -f1; }

restic -r empty init --repository-version 2 >/dev/null
for ((round = 0; round < firsts; round++)); do
  rm -rf by-restic by-manager manager-a cloud cloud-rsync cloud-codexsync codexsync.json backups-a cache .cache
  mkdir -p cloud cloud-rsync cloud-codexsync manager-a
  cp -a empty by-restic
  cp -a empty by-manager
  "$manager" --manager-home manager-a vault init "$work/by-manager" --quiet
  measure "first: restic backup" restic -r by-restic --cache-dir cache backup --quiet plain
  run "first: vault" a a
  rm -rf manager-folder && run "first: folder" folder folder
  measure "first: codexSync" "$codexsync" -c codexsync.toml sync --apply
  measure "first: rsync" rsync -a a/ cloud-rsync
done
for round in 1 2 3 4 5 6 7; do
  measure "idle: restic snapshots" restic -r by-manager snapshots --quiet
  measure "idle: restic backup" restic -r by-restic --cache-dir cache backup --quiet plain
  run "idle: vault" a a
  run "idle: folder" folder folder
  measure "idle: codexSync" "$codexsync" -c codexsync.toml sync --apply
  measure "idle: rsync" rsync -a a/ cloud-rsync
done
"$manager" --manager-home manager-b vault init "$work/by-manager" --quiet
run "a second machine gets everything: vault" b b
for round in 1 2 3; do
  echo "$turn$round" | tee -a "plain/${long#a/}" >>"$long"
  before=$(stored by-restic)
  measure "a turn: restic backup" restic -r by-restic --cache-dir cache backup --quiet plain
  echo "stored: $(($(stored by-restic) - before)) KB"
  before=$(stored by-manager)
  run "a turn, sent: vault" a a
  echo "stored: $(($(stored by-manager) - before)) KB"
  run "a turn, sent: folder" folder folder
  measure "a turn, sent: codexSync" "$codexsync" -c codexsync.toml sync --apply
  measure "a turn, sent: rsync" rsync -a a/ cloud-rsync
  run "a turn, received: vault" b b
  cmp "$long" "b/${long#a/}"
done
restic -r by-manager check --quiet
