"""Writes a Codex home with conversations: most of their bytes are outputs of tools and images, as in real ones.

Calls run in parallel, so an output follows one of the last calls. Of 50 conversations, one is a fork of Codex 0.55 with a
copy of the one before it, five have sums without the last request, and five have a folder of Windows.
"""

import argparse
import base64
import json
import os
import random
import sqlite3

# Of the bytes of a home: outputs of tools, images, encrypted reasoning, messages, calls, figures.
SHARES = [("output", 45), ("image", 25), ("reasoning", 10), ("message", 10), ("call", 6), ("tokens", 4)]
PARALLEL_CALLS = 6
FORK, SUMS_ALONE, WINDOWS = 49, 7, 3
SIZES = {"output": (200, 24_000), "image": (80_000, 600_000), "reasoning": (500, 4_000),
         "message": (60, 3_000), "call": (40, 1_500), "tokens": (650, 750)}
COLUMNS = """id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL, created_at INTEGER NOT NULL,
 updated_at INTEGER NOT NULL, source TEXT NOT NULL, model_provider TEXT NOT NULL, cwd TEXT NOT NULL,
 title TEXT NOT NULL, sandbox_policy TEXT NOT NULL, approval_mode TEXT NOT NULL,
 tokens_used INTEGER NOT NULL DEFAULT 0, archived INTEGER NOT NULL DEFAULT 0, git_branch TEXT,
 first_user_message TEXT NOT NULL DEFAULT '', model TEXT, created_at_ms INTEGER, updated_at_ms INTEGER,
 thread_source TEXT, history_mode TEXT NOT NULL DEFAULT 'legacy', name TEXT, creator_user_id TEXT,
 creator_account_id TEXT"""
INDEXES = """
CREATE INDEX idx_threads_archived ON threads(archived);
CREATE INDEX idx_threads_archived_cwd_updated_at_ms ON threads(archived, cwd, updated_at_ms DESC, id DESC);
CREATE INDEX idx_threads_created_at_ms ON threads(created_at_ms DESC, id DESC);
CREATE INDEX idx_threads_source ON threads(source);
CREATE INDEX idx_threads_updated_at_ms ON threads(updated_at_ms DESC, id DESC);
CREATE TABLE thread_spawn_edges(parent_thread_id TEXT NOT NULL, child_thread_id TEXT NOT NULL PRIMARY KEY,
 status TEXT NOT NULL);
"""


class Source:
    """Random text and noise, cut from blocks that are generated once."""

    def __init__(self, rng):
        self.rng = rng
        self.has_last = True
        self.open_calls = []
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        words = ["".join(rng.choices(letters, k=rng.randint(2, 11))) for _ in range(120_000)]
        weights = [1 / (rank + 3) for rank in range(len(words))]
        chosen = rng.choices(words, weights, k=4_000_000)
        marks = rng.choices([" ", " ", " ", " ", "_", ".", "/", "\\n", ": "], k=len(chosen))
        self.text = "".join(word + mark for word, mark in zip(chosen, marks)).encode()
        self.noise = base64.b64encode(rng.randbytes(24_000_000))

    def cut(self, block, size):
        at = self.rng.randrange(len(block) - size)
        return block[at:at + size].strip(b"\\")

    def tokens(self, second, totals):
        """Returns a token count, and adds it to the totals of the conversation."""
        names = ["input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens"]
        sent, answered = self.rng.randint(5_000, 90_000), self.rng.randint(20, 3_000)
        last = [sent, sent * 3 // 4, answered, answered // 3, sent + answered]
        for place, number in enumerate(last):
            totals[place] += number
        info = {"total_token_usage": dict(zip(names, totals)), "model_context_window": 272_000}
        if self.has_last:
            info["last_token_usage"] = dict(zip(names, last))
        window = {"used_percent": second // 40 % 100, "window_minutes": 10_080, "resets_at": 1_792_900_000}
        limits = {"limit_id": "codex", "primary": window, "secondary": None, "credits": None, "plan_type": None}
        return json.dumps({"type": "token_count", "info": info, "rate_limits": limits}, separators=(",", ":")).encode()

    def line(self, kind, second, totals):
        low, high = SIZES[kind]
        size = min(high, int(low * (high / low) ** self.rng.random()))
        head = b'{"timestamp":"2026-11-20T%02d:%02d:%02d.000Z","type":"' % (second // 3600 % 24, second // 60 % 60, second % 60)
        if kind == "output":
            body = b'response_item","payload":{"type":"function_call_output","call_id":"c%d","output":"%b"}}\n'
            call = self.open_calls.pop(self.rng.randrange(len(self.open_calls))) if self.open_calls else second
            return head + body % (call, self.cut(self.text, size))
        if kind == "image":
            body = (b'response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"%b"},'
                    b'{"type":"input_image","image_url":"data:image/png;base64,%b"}]}}\n')
            return head + body % (self.cut(self.text, 40), self.cut(self.noise, size))
        if kind == "reasoning":
            body = b'response_item","payload":{"type":"reasoning","summary":[],"encrypted_content":"%b"}}\n'
            return head + body % self.cut(self.noise, size)
        if kind == "message":
            body = b'response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"%b"}]}}\n'
            return head + body % self.cut(self.text, size)
        if kind == "call":
            self.open_calls = [*self.open_calls[1 - PARALLEL_CALLS:], second]
            body = b'response_item","payload":{"type":"function_call","name":"exec_command","call_id":"c%d","arguments":"{\\"cmd\\":\\"%b\\"}"}}\n'
            return head + body % (second, self.cut(self.text, size).replace(b"\\n", b" "))
        return head + b'event_msg","payload":%b}\n' % self.tokens(second, totals)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("home")
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    source = Source(rng)
    kinds = [kind for kind, _ in SHARES]
    # A share of the bytes becomes a share of the lines.
    weights = [share * 3 / (sum(SIZES[kind]) / 2) for kind, share in SHARES]
    os.makedirs(args.home)
    database = sqlite3.connect(os.path.join(args.home, "state_5.sqlite"))
    database.executescript(f"CREATE TABLE threads({COLUMNS});{INDEXES}")
    previous = None
    per_conversation = args.mb * 1_000_000 // args.conversations
    for number in range(args.conversations):
        ident = f"01a1{number >> 16:04x}-{number & 0xffff:04x}-7ef3-b0ee-5caab8d3b455"
        day = 1 + number % 28
        folder = os.path.join(args.home, f"sessions/2026/10/{day:02}")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"rollout-2026-10-{day:02}T06-00-00-{ident}.jsonl")
        cwd = recorded = f"/code/project{number % 400}"
        if number % 10 == WINDOWS:
            cwd, recorded = f"\\\\?\\C:\\code\\project{number % 400}", f"c:\\code\\project{number % 400}"
        source.has_last = number % 10 != SUMS_ALONE
        source.open_calls = []
        title = f"conversation{number} " + source.cut(source.text, 60).decode().replace("\\n", " ")
        with open(path, "wb") as file:
            meta = {"id": ident, "timestamp": "2026-10-01T06:00:00.000Z", "cwd": recorded, "source": "cli"}
            line = {"timestamp": "2026-10-01T06:00:00.000Z", "type": "session_meta", "payload": meta}
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            written = 0
            if number % 50 == FORK and previous:
                # Each line begins with `{"timestamp":"`, 24 characters of time, and a quote.
                with open(previous, "rb") as original:
                    for line in original.readlines(per_conversation // 4):
                        written += file.write(b'{"timestamp":"2026-10-01T06:00:00.500Z' + line[38:])
            question = {"type": "user_message", "message": title}
            line = {"timestamp": "2026-10-01T06:00:01.000Z", "type": "event_msg", "payload": question}
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            context = {"cwd": recorded, "approval_policy": "on-request", "model": "gpt-5.1-codex", "effort": "medium"}
            line = {"timestamp": "2026-10-01T06:00:01.000Z", "type": "turn_context", "payload": context}
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            second, totals = 2, [0] * 5
            while written < per_conversation:
                written += file.write(source.line(rng.choices(kinds, weights)[0], second, totals))
                second += 1
        previous = path
        updated = 1_790_000_000_000 + number * 60_000
        database.execute(
            "INSERT INTO threads VALUES(?,?,?,?,'cli','openai',?,?,'{}','on-request',?,?,'main',?,'gpt-6',?,?,'user',"
            "'paginated',NULL,'user-a','acct-a')",
            (ident, path, updated // 1000, updated // 1000, cwd, title, number, int(number % 20 == 0), title * 3,
             updated, updated))
    database.commit()


main()
