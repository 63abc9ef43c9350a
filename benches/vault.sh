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
restic -r by-restic init --repository-version 2 --quiet
"$manager" vault init "$work/by-manager" --quiet

measure() {
  local label=$1
  shift
  /usr/bin/time -f "$label: %e s, %M KB" "$@" 2>&1 >/dev/null | tail -1
}

round() {
  measure "restic, $1" restic -r by-restic backup --quiet home
  measure "codex-manager, $1" "$manager" vault backup --quiet
}

round first
for _ in 1 2 3; do round unchanged; done
mapfile -t conversations < <(find home/sessions -name '*.jsonl' | sort)
for ((i = 0; i < ${#conversations[@]}; i += 100)); do
  echo '{"type":"event_msg"}' >>"${conversations[i]}"
done
round '1 % changed'
du -sk by-restic by-manager
restic -r by-manager check --read-data --quiet
