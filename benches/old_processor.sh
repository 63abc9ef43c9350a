#!/usr/bin/env bash
# Measures backup, verify and restore as on a processor without SHA instructions and AVX-512, beside the usual build and
# other programs: benches/old_processor.sh [--rounds 5]. Passes its arguments on to the benchmark of compare.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

target=target/portable-digests
cargo build --profile dist --quiet --features codex-manager-base/portable-digests --target-dir "$target"
echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || uptime)"
exec cargo bench --profile dist --bench compare -- --binary "$target/dist/codex-manager" \
  --only first-backup --only next-backup --only restore "$@"
