"""Measures `history losses` and the backups before it, on a home that was archived many times."""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

WORDS = "the parser fails on a semicolon because the lexer drops it before the end of the line ".split()


def line(kind, payload):
    return json.dumps({"timestamp": "2026-11-20T06:00:00.000Z", "type": kind, "payload": payload}) + "\n"


def answer(number, size):
    text = f"{number} " + " ".join(WORDS[(number + i) % len(WORDS)] for i in range(size // 5))
    return line("event_msg", {"type": "agent_message", "message": text})


def generate(home, conversations, size):
    """Writes conversations of `size` bytes; returns their paths."""
    folder = home / "sessions/2026/11/20"
    folder.mkdir(parents=True)
    paths = []
    turns = max(1, size // 20_000)
    block = "".join(answer(i, 20_000) for i in range(turns))
    for number in range(conversations):
        own = str(uuid.UUID(int=(0x01A1F78B << 96) | (number << 64) | 0x7EF3_B0EE_5CAA_B8D3 | (7 << 76)))
        path = folder / f"rollout-2026-11-20T06-00-00-{own}.jsonl"
        head = line("session_meta", {"id": own, "cwd": "/home/alice/proj", "source": "cli"})
        path.write_text(head + block)
        paths.append(path)
    return paths


def seconds(command, env, code=0):
    began = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode != code:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return took


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--mb", type=int, default=10_000)
    parser.add_argument("--conversations", type=int, default=4000)
    parser.add_argument("--archives", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        home = Path(root) / ".codex"
        paths = generate(home, args.conversations, args.mb * 1_000_000 // args.conversations)
        env = {"HOME": root, "PATH": os.environ["PATH"], "CODEX_HOME": str(home)}
        backup = [args.binary, "backup", "--no-status", "--quiet"]
        losses = [args.binary, "history", "losses"]
        print(f"first backup: {seconds(backup, env):.2f} s")
        for round_ in range(args.archives - 1):
            # As many conversations as a user continues between two backups.
            for path in paths[round_ * 3 : round_ * 3 + 3]:
                with path.open("a") as out:
                    out.write(answer(round_, 2_000))
            grown = seconds(backup, env)
        unchanged = [seconds(backup, env) for _ in range(args.rounds)]
        print(f"backup, 3 grown: {grown:.2f} s; unchanged: {statistics.median(unchanged):.2f} s")
        archives = sorted((Path(root) / ".codex-manager/backups").glob("*.tar.gz"))
        found = [seconds(losses, env) for _ in range(args.rounds)]
        peer = [seconds(["tar", "tzf", str(archives[-1])], env) for _ in range(min(args.rounds, 3))]
        own, other = statistics.median(found), statistics.median(peer)
        size = sum(path.stat().st_size for path in paths) / 1e9
        print(f"history losses, {size:.1f} GB, {len(archives)} archives: {own:.2f} s")
        print(f"tar tzf of one archive: {other:.2f} s, {other / own:.1f} times as long")


main()
