"""Writes a Codex home with generated conversations in the format of Codex 0.169.

A conversation has instructions (20 kB) and turns: the user's message, the model's reasoning in base64,
parallel tool calls with outputs of 1-20 kB, and token counts.
"""

import base64
import json
import os
import random
import sqlite3
import uuid

WORDS = "the function returns error value result file path test module import session token build".split()


def write(home, mb, conversations, seed):
    rng = random.Random(seed)
    phrases = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(5, 25))) for _ in range(300)]
    noise = base64.b64encode(rng.randbytes(65536)).decode()
    size = int(mb * 1e6 / conversations)
    rows = []
    for number in range(conversations):
        ident = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        day = 1 + number % 28
        folder = f"{home}/sessions/2026/10/{day:02}"
        os.makedirs(folder, exist_ok=True)
        path = f"{folder}/rollout-2026-10-{day:02}T08-00-00-{ident}.jsonl"
        rows.append((ident, path, 1790000000 + number, 1790000000 + number, rng.choice(phrases)))
        with open(path, "w") as file:
            written = second = ordinal = 0

            def line(kind, payload):
                nonlocal written, ordinal
                stamp = f"2026-10-{day:02}T{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{ordinal % 1000:03}Z"
                text = json.dumps(
                    {"timestamp": stamp, "ordinal": ordinal, "type": kind, "payload": payload},
                    separators=(",", ":"),
                )
                file.write(text + "\n")
                written += len(text) + 1
                ordinal += 1

            line("session_meta", {"id": ident, "timestamp": f"2026-10-{day:02}T08:00:00Z", "cwd": "/proj/project",
                                  "source": "cli", "base_instructions": {"text": "\n".join(phrases[:200])}})
            while written < size:
                second = (second + 1) % 40000
                said = rng.choice(phrases)
                line("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]})
                line("event_msg", {"type": "user_message", "message": said})
                calls = [f"call_{ordinal}_{place}" for place in range(rng.randint(3, 12))]
                for call in calls:
                    command = json.dumps({"cmd": rng.choice(phrases)})
                    line("response_item", {"type": "function_call", "name": "exec_command", "call_id": call, "arguments": command})
                # The calls run in parallel, so their outputs come in any order.
                rng.shuffle(calls)
                for call in calls:
                    at = rng.randrange(60000)
                    line("response_item", {"type": "reasoning", "summary": [], "encrypted_content": noise[at:at + rng.choice((900, 1800, 3600))]})
                    output = "\n".join(rng.choice(phrases) for _ in range(rng.randint(8, 160)))
                    line("response_item", {"type": "function_call_output", "call_id": call, "output": output})
                    line("event_msg", {"type": "token_count", "info": {"total_token_usage": {"input_tokens": rng.randint(1, 10**6), "output_tokens": 5, "total_tokens": 9}}})
    database = sqlite3.connect(f"{home}/state_5.sqlite")
    database.execute("CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, title TEXT NOT NULL)")
    database.executemany("INSERT INTO threads VALUES(?,?,?,?,?)", rows)
    database.commit()
    database.close()
