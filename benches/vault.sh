#!/usr/bin/env bash
# Compares `vault backup` with `restic backup` of the same home: the first backup, an unchanged home, and a home
# with changes in 1 % of the conversations. Works on copies. Usage: benches/vault.sh HOME, where HOME is a Codex home.
set -euo pipefail
source=$(realpath "${1:?usage: benches/vault.sh HOME}")
cd "$(dirname "$0")/.."
manager=${CODEX_MANAGER:-$PWD/target/release/codex-manager}
[ -n "${CODEX_MANAGER:-}" ] || cargo build --release --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Two copies, because the links of codex-manager change the ctime, after which restic reads a file again.
cp -a "$source" "$work/home"
cp -a "$source" "$work/plain-home"
cd "$work"
export HOME=$work CODEX_HOME=$work/home CODEX_MANAGER_HOME=$work/manager RESTIC_PASSWORD=benchmark
restic version
# Copies of one repository, because restic chooses the cost of the key derivation at init. Each has its own cache.
restic -r by-restic init --repository-version 2 >/dev/null
cp -a by-restic by-manager
"$manager" vault init "$work/by-manager" --quiet

# Prints the peak memory of the largest process.
measure() {
  local label=$1 repository=$2 before
  shift 2
  before=$(du -sk "$repository" | cut -f1)
  /usr/bin/time -f "$label: %e s, %M KB" "$@" 2>&1 >/dev/null | tail -1 | tr '\n' ','
  echo " $(($(du -sk "$repository" | cut -f1) - before)) KB stored"
}

round() {
  measure "restic, $1" by-restic restic -r by-restic --cache-dir cache backup --quiet plain-home
  measure "codex-manager, $1" by-manager "$manager" vault backup --quiet
}

round first
for _ in 1 2 3 4 5; do round unchanged; done
mapfile -t conversations < <(find home/sessions plain-home/sessions -name '*.jsonl' | sort -t/ -k2)
for ((i = 0; i < ${#conversations[@]}; i += 200)); do
  echo '{"type":"event_msg"}' | tee -a "${conversations[i]}" >>"${conversations[i + 1]}"
done
round '1%% changed'
restic -r by-manager check --read-data --quiet
