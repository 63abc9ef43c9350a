"""Prints processor time and memory with N and with 4 N conversations, in homes that are removed at the end.

Several binaries run in turn, so that an older version can be compared.
"""

import argparse
import datetime
import json
import os
import pathlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

COLUMNS = """id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
 source TEXT NOT NULL, model_provider TEXT NOT NULL, cwd TEXT NOT NULL, title TEXT NOT NULL, sandbox_policy TEXT NOT NULL,
 approval_mode TEXT NOT NULL, tokens_used INTEGER NOT NULL, archived INTEGER NOT NULL, created_at_ms INTEGER,
 updated_at_ms INTEGER, first_user_message TEXT NOT NULL, history_mode TEXT NOT NULL,
 attached_thread_parent_id TEXT"""
INDEXES = ["CREATE INDEX idx_threads_archived ON threads(archived)",
           "CREATE INDEX idx_threads_archived_cwd_updated_at_ms ON threads(archived, cwd, updated_at_ms DESC, id DESC)",
           "CREATE INDEX idx_threads_source ON threads(source)",
           "CREATE INDEX idx_threads_attached_parent ON threads(attached_thread_parent_id, archived)"
           " WHERE attached_thread_parent_id IS NOT NULL",
           "CREATE INDEX idx_threads_updated_at_ms ON threads(updated_at_ms DESC, id DESC)"]
COMMANDS = ["find nothing-has-this", "sessions", "sessions --json", "sessions --limit 30", "history check --json", "usage sessions",
            "usage sessions --limit 30", "storage", "backup --no-status"]
START = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.timezone.utc)


def line(kind, payload):
    return json.dumps({"timestamp": "2026-10-01T06:00:00.000Z", "type": kind, "payload": payload}) + "\n"


def write_home(home, count):
    os.makedirs(home)
    with open(f"{home}/auth.json", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write('{"OPENAI_API_KEY":"sk-fake-key-for-benches"}')
    database = sqlite3.connect(f"{home}/state_5.sqlite")
    database.execute(f"CREATE TABLE threads({COLUMNS})")
    for index in INDEXES:
        database.execute(index)
    database.execute("CREATE TABLE thread_spawn_edges(parent_thread_id TEXT NOT NULL, child_thread_id TEXT NOT NULL PRIMARY KEY,"
                     " status TEXT NOT NULL)")
    for number in range(count):
        ident = f"01a1{number >> 16:04x}-{number & 0xffff:04x}-7ef3-b0ee-5caab8d3b455"
        folder = f"{home}/sessions/2026/{1 + number // 28 % 10:02}/{1 + number % 28:02}"
        os.makedirs(folder, exist_ok=True)
        path = f"{folder}/rollout-2026-10-01T06-00-00-{ident}.jsonl"
        cwd, title = f"/code/project{number % 400}", f"conversation {number} about the tests of a module"
        tokens = {"input_tokens": 1000 + number, "cached_input_tokens": 500, "output_tokens": 90,
                  "reasoning_output_tokens": 10, "total_tokens": 1090 + number}
        info = {"total_token_usage": tokens, "last_token_usage": tokens, "model_context_window": 272_000}
        with open(path, "w") as file:
            file.write(line("session_meta", {"id": ident, "timestamp": "2026-10-01T06:00:00.000Z", "cwd": cwd, "source": "cli"}))
            file.write(line("event_msg", {"type": "user_message", "message": title}))
            file.write(line("turn_context", {"cwd": cwd, "approval_policy": "never", "model": "gpt-5.1-codex"}))
            file.write(line("event_msg", {"type": "token_count", "info": info, "rate_limits": None}))
        updated = 1_790_000_000_000 + number * 60_000
        database.execute("INSERT INTO threads VALUES(?,?,?,?,'cli','openai',?,?,'{}','never',?,0,?,?,?,'paginated',NULL)",
                         (ident, path, updated // 1000, updated // 1000, cwd, title, number, updated, updated, title))
    database.commit()


def write_archives(manager, count):
    """Writes copies of the only archive, of which each has a time of its own."""
    backups = f"{manager}/backups"
    name = next(name for name in os.listdir(backups) if name.endswith(".tar.gz"))
    with open(f"{backups}/{name}", "rb") as file:
        archive = file.read()
    with open(f"{backups}/{name[:-7]}.metadata.json") as file:
        sidecar = json.load(file)
    for number in range(count):
        time = START - datetime.timedelta(hours=3 * number)
        base = f"{backups}/{time:%Y-%m-%d-%H%M%S}-me@example.com-codex"
        with open(f"{base}.tar.gz", "wb") as file:
            file.write(archive)
        with open(f"{base}.metadata.json", "w") as file:
            json.dump(sidecar | {"created_at": time.isoformat()}, file)


def run(binary, home, manager, command):
    return run_program(binary, "--codex-home", home, "--manager-home", manager, *command.split())


def run_program(*args):
    """Returns the processor time in seconds, the memory in MB and the wall time in seconds."""
    start = time.perf_counter()
    child = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) not in (0, 5, 6):
        sys.exit(f"{args}: status {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, wall


def measure(*what, before=lambda: None):
    """Returns the figures of the better of two runs."""
    figures = []
    for _ in range(2):
        before()
        figures.append(run(*what))
    return min(figures)


def compare_with_listing(binary, home, manager, rounds):
    """Prints the times of a `find` without a match and of `find -printf`, which run in turn."""
    listing = ["find", f"{home}/sessions", "-printf", "%p %s %T@\\n"]
    pairs = [(run(binary, home, manager, COMMANDS[0]), run_program(*listing)) for _ in range(rounds)]
    memory = max(memory for (_, memory, _), _ in pairs)
    print(f"{os.path.basename(binary)}, `{COMMANDS[0]}`, {os.path.basename(home)} conversations, {rounds} rounds, {memory:.0f} MB")
    for name, figure in [("CPU", 0), ("wall", 2)]:
        ours, theirs = ([figures[figure] * 1000 for figures in column] for column in zip(*pairs))
        ratios = [a / b for a, b in zip(ours, theirs)]
        print(f"{name}: {spread(ours, 0)} ms; find -printf {spread(theirs, 0)} ms: {spread(ratios, 2)} x its time")


def spread(values, digits):
    """Formats the median, the least and the greatest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def show(binary, command, sizes, figures):
    (small, *_), (large, memory, _) = figures
    ratio = f"{large / small:.1f} ×" if small > 0.02 else "–"
    print(f"| {os.path.basename(binary)} | `{command}` | {sizes} | {small:.2f} s | {large:.2f} s | {ratio} | {memory:.0f} MB |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", action="append", required=True)
    parser.add_argument("--conversations", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    print("| binary | work | number | time | time, more | ratio | memory, more |\n| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="codex-manager-bench-") as folder:
        sizes = [args.conversations, 4 * args.conversations]
        for size in sizes:
            write_home(f"{folder}/{size}", size)
        for number, binary in enumerate(args.binary):
            figures = [run(binary, f"{folder}/{size}", f"{folder}/manager{number}-{size}", COMMANDS[0]) for size in sizes]
            show(binary, f"{COMMANDS[0]}, the first index", f"{sizes[0]:,}, {sizes[1]:,}", figures)
        for command in COMMANDS:
            for number, binary in enumerate(args.binary):
                figures = [measure(binary, f"{folder}/{size}", f"{folder}/manager{number}-{size}", command) for size in sizes]
                show(binary, command, f"{sizes[0]:,}, {sizes[1]:,}", figures)
        write_home(f"{folder}/few", 3)
        archives = [args.conversations // 100, args.conversations // 10]
        for number, binary in enumerate(args.binary):
            figures, lost = [], []
            for count in archives:
                manager = f"{folder}/archives{number}-{count}"
                measure(binary, f"{folder}/few", manager, "backup --no-status --mode auth")
                write_archives(manager, count)
                measure(binary, f"{folder}/few", manager, "list-backups")
                prune = binary, f"{folder}/few", manager, "prune --keep-last 3 --dry-run"
                figures.append(measure(*prune))
                index = pathlib.Path(manager, "inventory.json")
                lost.append(measure(*prune, before=lambda: index.unlink(missing_ok=True)))
            show(binary, "prune --dry-run", f"{archives[0]:,}, {archives[1]:,}", figures)
            show(binary, "prune --dry-run, without inventory.json", f"{archives[0]:,}, {archives[1]:,}", lost)
        for number, binary in enumerate(args.binary):
            compare_with_listing(binary, f"{folder}/{sizes[0]}", f"{folder}/manager{number}-{sizes[0]}", args.rounds)


main()
