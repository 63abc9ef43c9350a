#!/usr/bin/env bash
# `vault backup` beside `restic backup` of the same home: first, unchanged, and with 1 % of the conversations
# changed. Works on a copy. Usage: benches/vault.sh HOME, with a Codex home as HOME.
set -euo pipefail
source=$(realpath "${1:?usage: benches/vault.sh HOME}")
cd "$(dirname "$0")/.."
cargo build --release --quiet
manager=$PWD/target/release/codex-manager
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a "$source" "$work/home"
cd "$work"
export HOME=$work CODEX_HOME=$work/home CODEX_MANAGER_HOME=$work/manager RESTIC_PASSWORD=benchmark
restic version
restic -r by-restic init --repository-version 2 >/dev/null
"$manager" vault init "$work/by-manager" --quiet

# The memory is that of the largest process.
measure() {
  local label=$1 repository=$2 before
  shift 2
  before=$(du -sk "$repository" | cut -f1)
  /usr/bin/time -f "$label: %e s, %M KB" "$@" 2>&1 >/dev/null | tail -1 | tr '\n' ','
  echo " $(($(du -sk "$repository" | cut -f1) - before)) KB stored"
}

round() {
  measure "restic, $1" by-restic restic -r by-restic backup --quiet home
  measure "codex-manager, $1" by-manager "$manager" vault backup --quiet
}

round first
for _ in 1 2 3 4 5; do round unchanged; done
mapfile -t conversations < <(find home/sessions -name '*.jsonl' | sort)
for ((i = 0; i < ${#conversations[@]}; i += 100)); do
  echo '{"type":"event_msg"}' >>"${conversations[i]}"
done
round '1 % changed'
restic -r by-manager check --read-data --quiet
