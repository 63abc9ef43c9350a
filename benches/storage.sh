#!/usr/bin/env bash
# Compares `storage shrink` with `zstd -T2 --long=27` of the same conversations, in which images repeat at compactions,
# and measures a first `backup` before and after. Usage: benches/storage.sh [MB [CONVERSATIONS [ROUNDS]]]. Needs zstd,
# Codex on PATH, and 1.5 times MB of free disk space.
set -euo pipefail
mb=${1:-10000} conversations=${2:-250} rounds=${3:-1}
cd "$(dirname "$0")/.."
manager=${CODEX_MANAGER:-$PWD/target/release/codex-manager}
[ -n "${CODEX_MANAGER:-}" ] || cargo build --release --quiet
generate=$PWD/benches/storage/generate.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HOME=$work CODEX_HOME=$work/home CODEX_MANAGER_HOME=$work/manager
python3 "$generate" home "$mb" "$conversations" 1
bytes() { find "$@" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }
plain=$(bytes home/sessions)
echo "$conversations conversations, $((plain / 1000000)) MB, load $(cut -d' ' -f1-3 /proc/loadavg)"

# Prints the peak memory of the largest process.
measure() {
  local label=$1
  shift
  echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || true
  /usr/bin/time -f "%e %M" -o time "$@" >/dev/null
  read -r seconds kb <time
  echo "$label: $seconds s, $(awk "BEGIN { printf \"%.0f\", $plain / 1e6 / $seconds }") MB/s, $((kb / 1000)) MB of memory"
}
stored() { echo "  $(awk "BEGIN { printf \"%.1f\", $plain / $1 }") times smaller: $(($1 / 1000000)) MB"; }

for ((round = 0; round < rounds; round++)); do
  mkdir by-zstd
  measure 'zstd -T2 --long=27' zstd -q -T2 --long=27 -r home/sessions --output-dir-mirror by-zstd
  stored "$(bytes by-zstd)"
  rm -r by-zstd
  measure 'backup before' "$manager" backup --no-status --quiet
  stored "$(bytes manager/backups)"
  rm -r manager
  measure 'storage shrink' "$manager" storage shrink --quiet
  stored "$(bytes home/sessions)"
  measure 'backup after' "$manager" backup --no-status --quiet
  stored "$(bytes manager/backups)"
  measure 'storage expand' "$manager" storage expand --quiet
  [ "$(bytes home/sessions)" = "$plain" ]
  rm -r manager
done
