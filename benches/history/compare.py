"""Measures whole processes in alternation. Prints medians, and the median of the ratios of all rounds."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import generate

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command):
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    elapsed = time.monotonic() - started
    if status != 0:
        sys.exit(f"{command}: status {status}")
    return elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--mb", type=float, default=1000)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="history-bench-") as folder:
        home = f"{folder}/home"
        generate.write(home, given.mb, given.conversations, given.seed)
        ours = [given.binary, "--codex-home", home, "--manager-home", f"{folder}/manager", "--yes", "history"]
        works = {
            "rebuild, all": [*ours, "rebuild", "--no-backup", "--max-threads", "0"],
            "rebuild, the 100 most recent": [*ours, "rebuild", "--no-backup"],
            "check": [*ours, "check"],
        }
        peer = [sys.executable, f"{HERE}/peer.py", home]
        # Run every command once, so that later runs read from the page cache and have nothing to write.
        for command in [*works.values(), *([] if given.no_peer else [peer])]:
            run(command)
        if not given.no_peer:
            with open(f"{home}/peer-history.jsonl") as theirs:
                expected = theirs.read()
            run(works["rebuild, all"])
            with open(f"{home}/history.jsonl") as file:
                assert file.read() == expected, "the parsers disagree about the history"
        print(f"{given.mb:.0f} MB in {given.conversations} conversations, seed {given.seed}, {given.rounds} rounds")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        for name, command in works.items():
            figures, ratios, cpu = [], [], []
            for _ in range(given.rounds):
                mine = run(command)
                figures.append(mine)
                if not given.no_peer:
                    theirs = run(peer)
                    ratios.append(theirs[0] / mine[0])
                    cpu.append(theirs[1] / mine[1])
            seconds = statistics.median(figure[0] for figure in figures)
            memory = max(figure[2] for figure in figures)
            text = f"{name:30} {seconds * 1000:8.0f} ms  {memory:5.0f} MB"
            if ratios:
                text += f"  {statistics.median(ratios):6.1f} x faster than Python ({statistics.median(cpu):.1f} x in processor time)"
            print(text)


main()
