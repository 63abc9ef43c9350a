#!/usr/bin/env bash
# Compares whole commands with tar and gzip or pigz, with libdeflate-gzip (Debian's libdeflate-tools), and with the
# Python codex-manager if it can be installed. Passes its arguments on to the benchmark:
# benches/compare.sh --only first-backup --rounds 10
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/python-peer
if [ ! -x "$tools/bin/codex-manager" ] && command -v python3 >/dev/null; then
  python3 -m venv "$tools" && "$tools/bin/pip" -q install 'codex-manager==23.0.0' || rm -rf "$tools"
fi
peer=()
if [ -x "$tools/bin/codex-manager" ]; then
  peer=(--python "$PWD/$tools/bin/codex-manager")
else
  echo "the Python codex-manager could not be installed and is not measured" >&2
fi
for program in pigz libdeflate-gzip; do
  command -v "$program" >/dev/null || echo "$program is not installed and is not measured" >&2
done
echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || uptime)"
exec cargo bench --profile dist --bench compare -- "${peer[@]}" "$@"
