#!/usr/bin/env bash
# The build of one or more commits, each in a fresh clone: from nothing to the end of `cargo run --release -- demo`,
# and from one changed line of the program to tested binaries. The crates must be in cargo's cache.
#
#   benches/build.sh [COMMIT...]     [default: HEAD]
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
[ $# -gt 0 ] || set -- HEAD
commits=()
for commit; do commits+=("$(git rev-parse "$commit")"); done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A line of the same size is another literal, one of another size adds a statement.
changed=src/ui/question.rs
TIMEFORMAT='%0lR, CPU %0U + %0S s'

timed() {
  local name=$1
  shift
  printf '%s: ' "$name"
  { time "$@" >"$work/log" 2>&1; } 2>&1 || { cat "$work/log"; exit 1; }
}

for commit in "${commits[@]}"; do
  git clone --quiet "$repository" "$work/clone"
  cd "$work/clone"
  git checkout --quiet "$commit"
  git log -1 --format='%h of %cs'
  export CARGO_TARGET_DIR=$work/target
  cargo fetch --quiet
  timed "the demo" cargo run --release --quiet -- demo
  timed "the tests" cargo test --no-run --quiet
  for ending in n N n; do
    sed -i "s|\[y/[nN]\]|[y/$ending]|" $changed
    timed "a line of the same size" cargo test --no-run --quiet
  done
  for limit in 1001 1002 1003; do
    added="let question = if question.len() > $limit { question.trim() } else { question };"
    sed -i "/fn read_answer(/a $added" $changed
    timed "a line of another size" cargo test --no-run --quiet
  done
  cd "$repository"
  rm -rf "$work/clone" "$work/target"
done
