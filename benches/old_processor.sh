#!/usr/bin/env bash
# Measures backup at the default level, verify and restore of a build whose digests use neither SHA instructions nor
# AVX-512, beside the usual build and other programs. Everything else, such as compression, uses all instructions of the
# processor: benches/old_processor.sh [--rounds 5]. Passes its arguments on to the benchmark of compare.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

target=target/portable-digests
cargo build --profile dist --quiet --features codex-manager-base/portable-digests --target-dir "$target"
echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || uptime)"
exec cargo bench --profile dist --bench compare -- --binary "$target/dist/codex-manager" \
  --only first-backup --only next-backup --only restore "$@"
