#!/usr/bin/env bash
# `history rebuild` of the release binary beside a line-by-line parser in Python, on generated
# conversations: benches/history.sh [--mb 1000] [--conversations 200] [--rounds 5] [--seed 1] [--no-peer]
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet
exec python3 benches/history/compare.py --binary "$PWD/target/release/codex-manager" "$@"
