#!/usr/bin/env bash
# Compares `history rebuild` of the shipped binary (profile `dist`) with a line-by-line parser in Python, on generated
# conversations: benches/history.sh [--mb 1000] [--conversations 200] [--rounds 5] [--seed 1] [--no-peer]
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --profile dist --quiet
exec python3 benches/history/compare.py --binary "$PWD/target/dist/codex-manager" "$@"
