#!/usr/bin/env bash
# Start-up and size of one build beside a program that does nothing, of the same target, in turn.
#
#   benches/start.sh TARGET PROGRAM [ROUNDS]     x86_64-unknown-linux-gnu, x86_64-unknown-linux-musl,
#                                                x86_64-pc-windows-gnu (under wine) [default: 100 rounds]
set -euo pipefail
target=$1 program=$(realpath "$2") rounds=${3:-100}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run=()
case $target in
  *-windows-gnu) compiler=x86_64-w64-mingw32-gcc run=(.ci/cross wine) ;;
  *-linux-musl) compiler="gcc -static" ;;
  *) compiler=gcc ;;
esac
echo 'int main(void) { return 0; }' | $compiler -xc -O2 -s -o "$work/nothing.exe" -
if [ "${#run[@]}" -gt 0 ]; then
  # The first start makes the prefix. In a copy of it, the server of wine runs on and is part of no start.
  "${run[@]}" "$work/nothing.exe"
  cp -a target/cross/wine "$work/wine"
  export WINEPREFIX=$work/wine WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml=;bcryptprimitives=n"
  run=(/usr/lib/wine/wine64)
  trap 'wineserver -k; wineserver -w; rm -rf "$work"' EXIT
  wineserver -p60
fi
CODEX_HOME=$work/codex CODEX_MANAGER_HOME=$work/manager python3 - "$rounds" "$program" "$work/nothing.exe" "${run[@]}" <<'END'
import os, statistics, subprocess, sys, time

rounds, program, nothing, *runner = sys.argv[1:]
home = os.environ["CODEX_MANAGER_HOME"]
os.makedirs(os.environ["CODEX_HOME"])
os.makedirs(home)
commands = {
    "nothing": [nothing],
    "--version": [program, "--version"],
    "recommend": [program, "recommend"],
}
times = {name: [] for name in commands}
for _ in range(int(rounds)):
    for name, command in commands.items():
        start = time.perf_counter()
        subprocess.run(runner + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times[name].append(time.perf_counter() - start)
base = times["nothing"]
for name, taken in times.items():
    ratio = statistics.median(a / b for a, b in zip(taken, base))
    print(f"{name}: {statistics.median(taken) * 1000:.1f} ms, {ratio:.2f} x nothing")
print(f"size: {os.path.getsize(program) / 1e6:.1f} MB")
END
