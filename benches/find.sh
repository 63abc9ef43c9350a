#!/usr/bin/env bash
# Measures `find`, `sessions`, `usage` and `mcp` of the shipped binary (profile `dist`), beside ripgrep and, if given,
# ccusage and a program with an index of its own, on a generated home with tool outputs and images: benches/find.sh
# [--mb 1000] [--conversations 1000] [--rounds 5] [--index-rounds 1] [--seed 1] [--binary FILE] [--peer FILE]...
# [--ccusage FILE]
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
