#!/usr/bin/env bash
# Compares `vault backup` with `restic backup` of the same home: the first backup, an unchanged home in turn, and a home
# with changes in 1 % of the conversations. Works on copies. Usage: benches/vault.sh HOME [ROUNDS], where HOME is a
# Codex home, and ROUNDS are those of the unchanged one [default: 5].
# `python3 benches/find/generate.py HOME --mb 3000 --conversations 600` writes a home.
set -euo pipefail
source=$(realpath "${1:?usage: benches/vault.sh HOME [ROUNDS]}") rounds=${2:-5}
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

# Prints the peak memory of the largest process, and appends the seconds to a file of the repository.
measure() {
  local label=$1 repository=$2 before seconds kb
  shift 2
  before=$(du -sk "$repository" | cut -f1)
  /usr/bin/time -o time -f "%e %M" "$@" >/dev/null
  read -r seconds kb <time
  echo "$seconds" >>"$repository.seconds"
  echo "$label: $seconds s, $kb KB, $(($(du -sk "$repository" | cut -f1) - before)) KB stored"
}

# Prints the median, the least and the greatest of the numbers.
spread() {
  sort -n | awk '{ a[NR] = $1 }
    END { printf "%.2f s (%.2f to %.2f)", (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2, a[1], a[NR] }'
}

round() {
  measure "restic, $1" by-restic restic -r by-restic --cache-dir cache backup --quiet plain-home
  measure "codex-manager, $1" by-manager "$manager" vault backup --quiet
}

echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg)"
round first
rm ./*.seconds
for ((number = 0; number < rounds; number++)); do round unchanged; done
echo "unchanged, $rounds rounds: restic $(spread <by-restic.seconds), codex-manager $(spread <by-manager.seconds)," \
  "more by pairs $(paste by-manager.seconds by-restic.seconds | awk '{ print $1 - $2 }' | spread)"
mapfile -t conversations < <(find home/sessions plain-home/sessions -name '*.jsonl' | sort -t/ -k2)
for ((i = 0; i < ${#conversations[@]}; i += 200)); do
  echo '{"type":"event_msg"}' | tee -a "${conversations[i]}" >>"${conversations[i + 1]}"
done
round '1 % changed'
restic -r by-manager check --read-data --quiet
