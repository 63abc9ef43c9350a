#!/usr/bin/env bash
# Start-up and size of one build beside a program that does nothing, of the same target, in turn. On Linux also
# `recommend` with 20 accounts, and the time until Codex starts of a `launch` that switches the login and of
# `launch --isolated`, beside a direct start.
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
else
  # In place of Codex: prints the time of its start.
  $compiler -xc -O2 -s -o "$work/started.exe" - <<'END'
#include <stdio.h>
#include <time.h>
int main(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
}
END
fi
CODEX_HOME=$work/codex CODEX_MANAGER_HOME=$work/manager python3 - "$rounds" "$program" "$work" "${run[@]}" <<'END'
import base64, gzip, json, os, statistics, subprocess, sys, time

rounds, program, work, *runner = sys.argv[1:]
os.makedirs(os.environ["CODEX_HOME"])
os.makedirs(os.environ["CODEX_MANAGER_HOME"])


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def with_accounts(count):
    """Returns the options of homes with the profiles of that many accounts, and the quota of each."""
    home, manager = f"{work}/codex-{count}", f"{work}/manager-{count}"
    os.makedirs(home)
    options = ["--codex-home", home, "--manager-home", manager, "--quiet", "--yes"]
    for number in range(count):
        account = {"chatgpt_account_id": f"account-{number}", "chatgpt_user_id": f"user-{number}"}
        claims = {"email": f"user{number}@example.com", "https://api.openai.com/auth": account}
        token = f"{encoded({'alg': 'none'})}.{encoded(claims)}.signature"
        tokens = {"id_token": token, "access_token": token, "refresh_token": f"rt_{number}",
                  "account_id": f"account-{number}"}
        with open(f"{home}/auth.json", "w") as file:
            json.dump({"tokens": tokens, "last_refresh": "2026-11-19T10:00:00Z"}, file)
        subprocess.run([program, *options, "profile", "save", f"user{number}"], check=True, **SILENT)
    with open(f"{manager}/cooldown.json") as file:
        document = json.load(file)
    now = time.time()
    for number, account in enumerate(document["accounts"]):
        windows = [{"limit_id": "codex", "minutes": minutes, "used_percent": number * 37 % 101,
                    "resets_at": utc(now + minutes * 30)} for minutes in (300, 10_080)]
        account["observation"] = {"source": "live", "observed_at": utc(now), "windows": windows}
    with open(f"{manager}/cooldown.json", "w") as file:
        json.dump(document, file)
    return options


def utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def compare_starts():
    """Prints the time of `launch` until Codex starts, with three accounts."""
    codex = f"{work}/started.exe"
    launch = [program, *with_accounts(3), "launch", "--codex-bin", codex]
    delays = {}
    for number in range(int(rounds)):
        # The login in the home is that of user2 at first, and then of the other of these two accounts.
        starts = {
            "a direct start": [codex],
            "launch that switches the login, until Codex starts": [*launch, f"user{number % 2}"],
            "launch --isolated, until Codex starts": [*launch, "--isolated", "user2"],
        }
        for name, command in starts.items():
            start = time.monotonic_ns()
            started = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
            delays.setdefault(name, []).append((int(started) - start) / 1e6)
    for name, taken in delays.items():
        more = statistics.median(a - b for a, b in zip(taken, delays["a direct start"]))
        print(f"{name}: {statistics.median(taken):.1f} ms, {more:.1f} ms more than a direct start")


SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
commands = {
    "nothing": [f"{work}/nothing.exe"],
    "--version": [program, "--version"],
    "recommend": [program, "recommend"],
}
if not runner:
    commands["recommend, 20 accounts"] = [program, *with_accounts(20), "recommend"]
times = {name: [] for name in commands}
for _ in range(int(rounds)):
    for name, command in commands.items():
        start = time.perf_counter()
        subprocess.run(runner + command, **SILENT)
        times[name].append(time.perf_counter() - start)
base = times["nothing"]
for name, taken in times.items():
    ratio = statistics.median(a / b for a, b in zip(taken, base))
    print(f"{name}: {statistics.median(taken) * 1000:.1f} ms, {ratio:.2f} x nothing")
if not runner:
    compare_starts()
with open(program, "rb") as file:
    content = file.read()
print(f"size: {len(content) / 1e6:.1f} MB, compressed {len(gzip.compress(content, 6)) / 1e6:.1f} MB")
END
