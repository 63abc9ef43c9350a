#!/usr/bin/env bash
# The vault on Garage, a distributed S3 store: three nodes on loopback, each with a copy of everything. Kills
# nodes during backups and restores, and checks that no snapshot is lost. Not part of the test suite:
#   cargo install garage --version 2.5.0 --no-default-features --features bundled-libs,lmdb
#   cargo build && tests/vault-garage.sh
set -euo pipefail
cd "$(dirname "$0")/.."
manager=${CODEX_MANAGER:-$PWD/target/debug/codex-manager}
garage=${GARAGE:-garage}
work=$(mktemp -d)
declare -A pids
stop_all() {
  kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap stop_all EXIT

secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
for n in 1 2 3; do
  mkdir -p "$work/$n"
  cat >"$work/$n.toml" <<TOML
metadata_dir = "$work/$n/meta"
data_dir = "$work/$n/data"
db_engine = "lmdb"
replication_factor = 3
rpc_bind_addr = "127.0.0.1:4390$n"
rpc_public_addr = "127.0.0.1:4390$n"
rpc_secret = "$secret"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:4391$n"
root_domain = ".s3.localhost"
TOML
done
node() {
  local n=$1
  shift
  "$garage" -c "$work/$n.toml" "$@"
}
start() {
  RUST_LOG=error "$garage" -c "$work/$1.toml" server >>"$work/$1.log" 2>&1 &
  pids[$1]=$!
  until node "$1" status >/dev/null 2>&1; do sleep 0.2; done
}
crash() {
  kill -9 "${pids[$1]}"
  wait "${pids[$1]}" 2>/dev/null || true
  echo "   killed node $1"
}
# Waits until each node is connected to the others. Each object is on at least two nodes.
settle() {
  for n in 1 2 3; do
    until [ "$(node $n status 2>/dev/null | grep -c 127.0.0.1:4390)" -ge 3 ]; do sleep 0.5; done
  done
}

for n in 1 2 3; do start $n; done
for n in 2 3; do node 1 node connect "$(node $n node id -q)" >/dev/null; done
for n in 1 2 3; do node 1 layout assign -z "zone$n" -c 10G "$(node $n node id -q | cut -d@ -f1)" >/dev/null; done
node 1 layout apply --version 1 >/dev/null
node 1 bucket create bucket >/dev/null
key=$(node 1 key create test)
node 1 bucket allow --read --write bucket --key test >/dev/null

export HOME=$work/home CODEX_HOME=$work/home/.codex RESTIC_PASSWORD=test
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION=garage
AWS_ACCESS_KEY_ID=$(awk '/Key ID:/ { print $3 }' <<<"$key")
AWS_SECRET_ACCESS_KEY=$(awk '/Secret key:/ { print $3 }' <<<"$key")
url() { echo "s3:http://127.0.0.1:4391$1/bucket/vault"; }
sessions=$CODEX_HOME/sessions/2026/11/17
mkdir -p "$sessions"
# Writes megabytes that do not compress. Their old mtimes let the backup use hard links.
grow() {
  for i in $(seq "$1" "$2"); do
    head -c 4000000 /dev/urandom | base64 -w0 | sed 's/^/{"type":"x","payload":"/; s/$/"}\n/' \
      >"$sessions/rollout-2026-11-17T10-00-00-019a0000-0000-7000-8000-$(printf %012d "$i").jsonl"
  done
  find "$sessions" -exec touch -d '2026-11-17 10:00' {} +
}
vault() { "$manager" vault "$@"; }
count() { vault snapshots --json --quiet | grep -o '"id"' | wc -l; }
expect() {
  [ "$(count)" = "$1" ] || { echo "FAILED: $(count) snapshots instead of $1" >&2; exit 1; }
  vault check --read-data --quiet
  echo "   $1 snapshots, all data read and intact"
}
# Kills a node after half a second.
crash_during() {
  local n=$1
  shift
  "$@" &
  local work_pid=$!
  sleep 0.5
  crash "$n"
  local code=0
  wait "$work_pid" || code=$?
  return $code
}

grow 1 20
vault init "$(url 1)" --quiet
echo '1. backup with all nodes'
vault backup --quiet
expect 1

echo '2. backup while another node is killed: it succeeds'
grow 21 40
crash_during 3 vault backup --quiet
expect 2

echo '3. restore while that node is missing: it succeeds'
vault restore latest --to "$work/restored-3" --quiet
diff -r "$sessions" "$work/restored-3/sessions/2026/11/17"

echo '4. restore while another node is killed: it succeeds'
start 3
settle
crash_during 2 vault restore latest --to "$work/restored-4" --quiet
diff -r "$sessions" "$work/restored-4/sessions/2026/11/17"
start 2
settle

echo '5. backup while the node that restic talks to is killed: an error, and nothing is lost'
grow 41 60
code=0
crash_during 1 vault backup --quiet --timeout 20 || code=$?
echo "   exit code $code"
[ $code = 1 ]
vault init "$(url 2)" --quiet
expect 2
vault backup --quiet
expect 3

echo '6. restore while the node that restic talks to is killed: an error, and nothing is written'
start 1
settle
code=0
crash_during 2 vault restore latest --to "$work/restored-6" --quiet --timeout 20 || code=$?
echo "   exit code $code"
[ $code = 1 ] && [ ! -e "$work/restored-6" ]
vault init "$(url 3)" --quiet
vault restore latest --to "$work/restored-6" --quiet
diff -r "$sessions" "$work/restored-6/sessions/2026/11/17"
expect 3
echo 'nothing was lost'
