#!/usr/bin/env bash
# Compares `sync` of the shipped binary (profile `dist`) with codexSync, unison and rsync, if they are installed, and
# with one `find -printf` over both sides. Passes its arguments on to the benchmark: benches/sync.sh --rounds 9
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/codexsync
if [ ! -x "$tools/bin/codexsync" ] && command -v python3 >/dev/null; then
  python3 -m venv "$tools" && "$tools/bin/pip" -q install 'codexsync==0.1.2' || rm -rf "$tools"
fi
peer=()
if [ -x "$tools/bin/codexsync" ]; then
  peer=(--codexsync "$PWD/$tools/bin/codexsync")
else
  echo "codexsync is not installed and is not measured" >&2
fi
for program in unison rsync; do
  command -v "$program" >/dev/null || echo "$program is not installed and is not measured" >&2
done
echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || uptime)"
exec cargo bench --profile dist --bench compare -- --sync "${peer[@]}" "$@"
