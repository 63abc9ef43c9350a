#!/usr/bin/env bash
# Compares `find` and `sessions` of the shipped binary (profile `dist`) with ripgrep, on a generated home with tool outputs
# and images: benches/find.sh [--mb 1000] [--conversations 1000] [--rounds 5] [--seed 1] [--binary FILE] [--peer FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
  *" --binary "*) ;;
  *)
    cargo build --profile dist --quiet
    set -- --binary "$PWD/target/dist/codex-manager" "$@"
    ;;
esac
exec python3 benches/find/compare.py "$@"
