#!/usr/bin/env bash
# Measures the search screen of the shipped binary (profile `dist`), on a generated home with many conversations:
# benches/screen.sh [--conversations 50000] [--rounds 5] [--binary FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
  *" --binary "*) ;;
  *)
    cargo build --profile dist --quiet
    set -- --binary "$PWD/target/dist/codex-manager" "$@"
    ;;
esac
exec python3 benches/screen/measure.py "$@"
