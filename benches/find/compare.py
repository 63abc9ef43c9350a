"""Measures whole processes in alternation, on a generated home that is removed at the end."""

import argparse
import glob
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# The number of calls of `mcp` after which its memory is measured.
MANY_CALLS = 10_000

# Programs with their own search index: the folder of the index below HOME, and the arguments of a search. A search
# updates the index, so the first one creates it.
PEERS = {
    # pip install agent-chat-reader
    "agent-chat-reader": (".cache/agent-chat-reader", ["--limit", "20", "--find"]),
}


def run(command, codes=(0,), env=None):
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    elapsed = time.monotonic() - started
    if os.waitstatus_to_exitcode(status) not in codes:
        sys.exit(f"{command}: status {status}")
    return elapsed, usage.ru_maxrss / 1000, output


def measure(command, rounds, before=None, env=None):
    """Returns the times in ms and the largest memory in MB."""
    figures = []
    for number in range(rounds):
        if before:
            before(number)
        figures.append(run(command, (0, 1), env)[:2])
    return [figure[0] * 1000 for figure in figures], max(figure[1] for figure in figures)


def spread(values):
    """Formats the median, and the least and the greatest of several figures."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def words(home):
    """Returns a frequent and a rare word of the texts."""
    with open(glob.glob(f"{home}/sessions/*/*/*/*.jsonl")[0]) as file:
        line = next(line for line in file if '"output_text"' in line)
    text = json.loads(line)["payload"]["content"][0]["text"].replace("_", " ").replace(".", " ").replace("/", " ")
    counts = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return max(counts, key=lambda word: (counts[word], len(word) > 2)), "conversation7"


def files_below(folder):
    return [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]


def compare_peer(program, folder, size, frequent, rare, rounds):
    """Measures another program with a search index. The program reads the home at ~/.codex."""
    name = os.path.basename(program)
    if name not in PEERS:
        sys.exit(f"--peer {name}: not one of {', '.join(PEERS)}")
    index, search = PEERS[name]
    env = {**os.environ, "HOME": folder}
    env.pop("CODEX_HOME", None)
    seconds, memory, _ = run([program, *search, rare], (0, 1), env)
    bytes_of_index = sum(os.path.getsize(path) for path in files_below(f"{folder}/{index}"))
    print(f"{name}, first index: {seconds:.1f} s, {size / 1e6 / seconds:.0f} MB/s, memory {memory:.0f} MB, "
          f"index {bytes_of_index / 1e6:.0f} MB")
    for kind, word in [("rare", rare), ("frequent", frequent)]:
        times, memory = measure([program, *search, word], rounds, env=env)
        found = len(run([program, *search, word], (0, 1), env)[2].splitlines())
        print(f"{name}, a {kind} word: {spread(times)} ms, {memory:.0f} MB, {found} lines")


def compare_server(ours, frequent, rare, rounds):
    """Measures `mcp`: its start up to the first answer, and calls of its tools."""

    def ask(server, method, params):
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        started = time.monotonic()
        server.stdin.write(json.dumps(message) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        return (time.monotonic() - started) * 1000, answer["result"]

    def call(name, **arguments):
        elapsed, result = ask(server, "tools/call", {"name": name, "arguments": arguments})
        text = result["content"][0]["text"]
        if result["isError"]:
            sys.exit(f"mcp, {name}: {text}")
        return elapsed, text

    starts = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        server = subprocess.Popen([*ours, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ask(server, "initialize", {"protocolVersion": "2025-06-18"})
        elapsed = (time.monotonic() - started) * 1000
        server.stdin.close()
        server.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        starts.append((elapsed, used * 1000))
    print(f"mcp, start: {format_times(starts)}")
    server = subprocess.Popen([*ours, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    first, found = call("search_conversations", query=rare, scope="all")
    opened = json.loads(found.split("open_conversation ")[1].splitlines()[0])
    calls = [
        ("search_conversations", {"query": rare, "scope": "all"}),
        ("search_conversations", {"query": frequent, "scope": "all"}),
        ("search_conversations", {"query": f"{frequent} {rare}", "scope": "all"}),
        ("open_conversation", opened),
        ("list_conversations", {"scope": "all"}),
    ]
    for name, arguments in calls:
        times = []
        for _ in range(rounds):
            before = processor_time(server.pid)
            elapsed, _ = call(name, **arguments)
            times.append((elapsed, processor_time(server.pid) - before))
        print(f"mcp, {name} {json.dumps(arguments)}: {format_times(times)}")
    for number in range(MANY_CALLS):
        name, arguments = calls[number % len(calls)]
        call(name, **arguments)
    server.stdin.close()
    _, _, usage = os.wait4(server.pid, 0)
    print(f"mcp, first call, with the update of the index: {first:.1f} ms")
    print(f"mcp, peak memory after {MANY_CALLS} calls: {usage.ru_maxrss / 1000:.0f} MB")


def processor_time(pid):
    """Returns the processor time of a process with its threads, also of those that have ended, in milliseconds."""
    # The clock that clock_getcpuclockid(3) returns, which Python does not have.
    return time.clock_gettime(~pid << 3 | 2) * 1e3


def format_times(pairs):
    elapsed, used = (statistics.median(times) for times in zip(*pairs))
    return f"{elapsed:.1f} ms, {used:.1f} ms of processor time"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--index-rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", action="append", default=[],
                        help=f"a program with an index to compare search with: {', '.join(PEERS)}")
    parser.add_argument("--ccusage", help="the program to compare usage with")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="find-bench-") as folder:
        home, manager = f"{folder}/.codex", f"{folder}/manager"
        free = shutil.disk_usage(folder).free
        if free < given.mb * 2_000_000:
            sys.exit("not enough space")
        subprocess.run([sys.executable, f"{HERE}/generate.py", home, "--mb", str(given.mb), "--conversations",
                        str(given.conversations), "--seed", str(given.seed)], check=True)
        ours = [given.binary, "--codex-home", home, "--manager-home", manager]
        size = sum(os.path.getsize(path) for path in glob.glob(f"{home}/sessions/*/*/*/*.jsonl"))
        print(f"{size / 1e6:.0f} MB in {given.conversations} conversations, seed {given.seed}, {given.rounds} rounds")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        firsts = []
        for _ in range(given.index_rounds):
            shutil.rmtree(manager, ignore_errors=True)
            firsts.append(run([*ours, "sessions", "index", "--rebuild"])[:2])
        seconds, memory = zip(*firsts)
        index = sum(os.path.getsize(path) for path in glob.glob(f"{manager}/index/*"))
        print(f"first index: {spread(seconds)} s, {spread([size / 1e6 / time for time in seconds])} MB/s, "
              f"memory {spread(memory)} MB, index {index / 1e6:.0f} MB")
        paths = sorted(glob.glob(f"{home}/sessions/*/*/*/*.jsonl"))
        frequent, rare = words(home)

        def new_turn(number):
            with open(paths[number], "a") as file:
                payload = {"type": "user_message", "message": f"one more turn, number {number}"}
                file.write(json.dumps({"timestamp": "2026-11-20T06:00:00Z", "type": "event_msg", "payload": payload}) + "\n")
            database = sqlite3.connect(f"{home}/state_5.sqlite")
            database.execute("UPDATE threads SET updated_at_ms = ? WHERE rollout_path = ?",
                             (int(time.time() * 1000) + number, paths[number]))
            database.commit()
            database.close()

        find = [*ours, "find", "--limit", "20"]
        rg = shutil.which("rg")
        works = [
            ("find, a rare word", [*find, rare], None, rare),
            ("find, a frequent word", [*find, frequent], None, frequent),
            # The beginning of a word of its own in each conversation.
            ("find, a beginning of words", [*find, "conversatio"], None, None),
            ("find, two words", [*find, frequent, rare], None, None),
            ("find after a new turn", [*find, rare], new_turn, None),
            ("sessions --limit 30", [*ours, "sessions", "--limit", "30"], None, None),
            ("sessions --project --limit 30",
             [*ours, "sessions", "--project", "/code/project7", "--limit", "30"], None, None),
            ("sessions --json", [*ours, "--json", "sessions"], None, None),
            ("usage daily", [*ours, "usage", "daily"], None, None),
            ("usage sessions", [*ours, "usage", "sessions"], None, None),
            ("usage after a new turn", [*ours, "usage", "daily"], new_turn, None),
        ]
        run([*find, rare], (0, 5))
        for name, command, before, word in works:
            mine, memory = measure(command, given.rounds, before)
            line = f"{name}: {spread(mine)} ms, {memory:.0f} MB"
            if word and rg:
                peer, peer_memory = measure([rg, "--files-with-matches", "--word-regexp", "--ignore-case", word,
                                             f"{home}/sessions"], max(1, given.rounds // 2))
                ratio = statistics.median(peer) / statistics.median(mine)
                line += f"; rg {spread(peer)} ms, {peer_memory:.0f} MB: {ratio:.0f} x faster"
            print(line)
        compare_server(ours, frequent, rare, given.rounds)
        for peer in given.peer:
            compare_peer(os.path.abspath(peer), folder, size, frequent, rare, given.rounds)
        if given.ccusage:
            os.environ["CODEX_HOME"] = home
            for report in ["daily", "session"]:
                elapsed, memory, _ = run([given.ccusage, "codex", report, "--offline"])
                print(f"ccusage codex {report}: {elapsed * 1000:.0f} ms, {memory:.0f} MB")
        if not rg:
            print("ripgrep is not installed: no rows", file=sys.stderr)


main()
