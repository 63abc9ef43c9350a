#!/usr/bin/env python3
"""What many machines in one vault cost. Prints the figures of docs/fleet.md.

usage: python3 benches/fleet.py [--machines 50] [--conversations 50000] [--blobs 100000] PROGRAM

Each machine publishes a snapshot whose manifest lists the same CONVERSATIONS, as after all machines have synced, and 20 of its
own. Only those 20 are stored: the program looks at the lists, and fetches what this machine lacks. A second repository
with BLOBS small files shows how the memory of restic grows. Needs restic; 3 GB of disk.
"""
import argparse, hashlib, json, os, random, shutil, subprocess, tempfile, time

OWN = 20
parser = argparse.ArgumentParser()
parser.add_argument("--machines", type=int, default=50)
parser.add_argument("--conversations", type=int, default=50_000)
parser.add_argument("--blobs", type=int, default=100_000)
parser.add_argument("program")
args = parser.parse_args()
root = tempfile.mkdtemp(prefix="fleet-")
codex, manager, tree = (os.path.join(root, name) for name in ["codex", "manager", "tree"])
env = {
    "PATH": os.environ["PATH"], "HOME": root, "RESTIC_PASSWORD": "bench",
    "CODEX_HOME": codex, "CODEX_MANAGER_HOME": manager, "RESTIC_REPOSITORY": os.path.join(root, "vault"),
}
dice = random.Random(1)


def measure(*words, cwd=root, **more):
    """Runs a command; returns its seconds, the largest memory in MB of it or a child, and its output."""
    # By a small process: the memory of this one would count for its children.
    words = ["/usr/bin/time", "-q", "-f", "%M", *words]
    begun = time.monotonic()
    done = subprocess.run(words, env=env | more, cwd=cwd, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{words} failed: {done.stderr.decode()}")
    return time.monotonic() - begun, int(done.stderr.split()[-1]) / 1024, done.stdout


def show(name, result):
    print(f"| {name} | {result[0]:.2f} s | {result[1]:.0f} MB |", flush=True)


def size(folder):
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder) for name in names)


def conversation(number):
    day = f"2026/{1 + number // 28 % 12:02}/{1 + number % 28:02}"
    identity = f"01a1f78b-{number >> 12 & 0xffff:04x}-7{number & 0xfff:03x}-b0ee-{dice.randrange(1 << 48):012x}"
    return f"sessions/{day}/rollout-2026-11-20T06-00-00-{identity}.jsonl", identity


def rollout(identity, words):
    at = "2026-11-20T06:00:0"
    lines = [
        {"timestamp": at + "0.000Z", "type": "session_meta", "payload": {"id": identity, "timestamp": at + "0.000Z", "cwd": "/code", "source": "cli"}},
        {"timestamp": at + "1.000Z", "type": "event_msg", "payload": {"type": "user_message", "message": words}},
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def entry(path, text, mtime, replica):
    digest = hashlib.sha256(text.encode()).hexdigest()
    version = {"size": len(text), "mtime_ns": mtime * 10**9, "digest": digest}
    return json.dumps({"file": [path, version, [replica, 1]]}, separators=(",", ":")) + "\n"


def write(folder, path, text, mtime):
    path = os.path.join(folder, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.utime(path, ns=(mtime * 10**9, mtime * 10**9))


def publish(machine, number, shared):
    """Makes a snapshot of a machine: the shared list, and some conversations of its own."""
    replica = f"{machine:016x}"
    shutil.rmtree(tree, ignore_errors=True)
    lines = list(shared)
    for one in range(OWN):
        path, identity = conversation(1_000_000 + machine * 1000 + number * 100 + one)
        text = rollout(identity, " ".join(dice.choice(words) for _ in range(400)))
        write(os.path.join(tree, "home"), path, text, 1_790_000_000 + one)
        lines.append(entry(path, text, 1_790_000_000 + one, replica))
    head = {"schema": 1, "replica": replica, "machine": f"machine-{machine}", "number": number, "seen": {}}
    body = json.dumps(head, separators=(",", ":")) + "\n" + "".join(sorted(lines))
    end = json.dumps({"end": hashlib.sha256(body.encode()).hexdigest()}, separators=(",", ":")) + "\n"
    write(tree, "manifest.jsonl", body + end, 1_790_000_000)
    tags = ["codex-manager-sync", "layout=1", f"replica={replica}", f"machine=machine-{machine}", f"number={number}"]
    tags = [word for tag in tags for word in ("--tag", tag)]
    return measure("restic", "backup", "--json", "--host", f"machine-{machine}", *tags, ".", cwd=tree)


words = [f"word{number}" for number in range(20_000)]
measure("restic", "init")
os.makedirs(manager)
with open(os.path.join(manager, "config.toml"), "w") as file:
    file.write(f'[vault]\nrepository = "{env["RESTIC_REPOSITORY"]}"\n')
shared = []
for number in range(args.conversations):
    path, identity = conversation(number)
    text = rollout(identity, "short")
    write(codex, path, text, 1_780_000_000 + number)
    shared.append(entry(path, text, 1_780_000_000 + number, "0" * 16))
print(f"| {args.machines} machines, {args.conversations} conversations | time | memory |\n| --- | --- | --- |")
published = [publish(machine, 1, shared) for machine in range(args.machines)]
show("publish, the last machine", published[-1])
show("`restic snapshots --tag codex-manager-sync`", measure("restic", "snapshots", "--json", "--no-lock", "--tag", "codex-manager-sync"))
show("`restic dump` of a manifest", measure("restic", "dump", "--no-lock", "latest", "/manifest.jsonl"))
look = [args.program, "sessions", "--machines", "--json"]
first = measure(*look)
rows = sum(1 for row in json.loads(first[2])["sessions"] if row["machine"])
assert rows == OWN * args.machines, rows
show("`sessions --machines`, first", first)
show("`sessions --machines`, nothing new", measure(*look))
show("`sessions`", measure(*look[:2], "--json"))
publish(0, 2, shared)
show("`sessions --machines`, one machine published", measure(*look))
find = [args.program, "find", "--machines", "--json", "word7"]
show("`find --machines`, first", measure(*find))
show("`find --machines`, nothing new", measure(*find))
show("`restic forget` of a snapshot", measure("restic", "forget", "--tag", "replica=" + "0" * 16, "--keep-last", "1"))
show("`restic prune`", measure("restic", "prune"))
print(f"\nrepository {size(env['RESTIC_REPOSITORY']) / 1e6:.0f} MB, its index {size(env['RESTIC_REPOSITORY'] + '/index') / 1e6:.1f} MB")
manifest = os.path.getsize(os.path.join(tree, "manifest.jsonl"))
print(f"a manifest {manifest / 1e6:.1f} MB; fetched {size(os.path.join(manager, 'sync/machines')) / 1e6:.1f} MB, indexes {size(os.path.join(manager, 'index')) / 1e6:.0f} MB")
env["RESTIC_REPOSITORY"] = os.path.join(root, "blobs")
measure("restic", "init")
shutil.rmtree(tree)
for number in range(args.blobs):
    folder = os.path.join(tree, f"{number // 1000}")
    if number % 1000 == 0:
        os.makedirs(folder)
    with open(os.path.join(folder, str(number)), "w") as file:
        file.write(f"{number}")
sizes = []
for part in (tree + "/0", tree):
    measure("restic", "backup", "--host", "h", ".", cwd=part)
    sizes.append(measure("restic", "dump", "--no-lock", "latest", "/0/1" if part == tree else "/1"))
index = size(env["RESTIC_REPOSITORY"] + "/index")
per_blob = (sizes[1][1] - sizes[0][1]) * 1024**2 / (args.blobs - 1000)
print(f"memory of restic: {sizes[0][1]:.0f} MB with 1,000 blobs, {sizes[1][1]:.0f} MB with {args.blobs:,}: {per_blob:.0f} bytes for each; index {index / args.blobs:.0f} bytes for each")
shutil.rmtree(root)
