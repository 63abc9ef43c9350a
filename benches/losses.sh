#!/usr/bin/env bash
# Compares `history losses` of the shipped binary (profile `dist`) with `tar tzf` of one archive, and `backup` of a grown
# home with `backup` of an unchanged one: benches/losses.sh [--mb 10000] [--conversations 4000] [--archives 20] [--rounds 5]
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --profile dist --quiet
exec python3 benches/history/losses.py --binary "$PWD/target/dist/codex-manager" "$@"
