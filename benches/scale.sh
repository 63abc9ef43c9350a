#!/usr/bin/env bash
# Measures lists, checks and backups of the shipped binary (profile `dist`) with N and with 4 N conversations of a few
# lines, `prune` with N/10 archives, and in turn a `find` without a match and `find -printf` with N conversations:
# benches/scale.sh [--conversations 50000] [--rounds 11] [--binary FILE]...
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
  *" --binary "*) ;;
  *)
    cargo build --profile dist --quiet
    set -- --binary "$PWD/target/dist/codex-manager" "$@"
    ;;
esac
exec python3 benches/scale/compare.py "$@"
