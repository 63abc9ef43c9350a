"""Writes a Codex home with conversations in which images repeat: generate.py HOME MB CONVERSATIONS SEED

A conversation has turns with tool outputs and, now and then, an image in base64. At each compaction
Codex writes the history again, with all images.
"""

import base64
import json
import os
import random
import sys
import uuid

WORDS = "the function returns error value result file path test module import session token build".split()
COMPACTION_BYTES = 4_000_000


def write(home, mb, conversations, seed):
    rng = random.Random(seed)
    phrases = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(5, 25))) for _ in range(2000)]
    # The sizes follow a Pareto distribution: a few conversations are large, as users report.
    weights = [rng.paretovariate(1.2) for _ in range(conversations)]
    for number, weight in enumerate(weights):
        size = max(200_000, int(mb * 1e6 * weight / sum(weights)))
        ident = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        day = 1 + number % 28
        folder = f"{home}/sessions/2026/08/{day:02}"
        os.makedirs(folder, exist_ok=True)
        path = f"{folder}/rollout-2026-08-{day:02}T08-00-00-{ident}.jsonl"
        with open(path, "wb") as file:
            conversation(file, size, ident, phrases, rng)
        os.utime(path, (1785000000 + number, 1785000000 + number))


def conversation(file, size, ident, phrases, rng):
    written = ordinal = since = 0
    history = []

    def line(kind, payload, is_history=False):
        nonlocal written, ordinal, since
        text = json.dumps(payload)
        head = f'{{"timestamp":"2026-08-01T08:00:{ordinal % 60:02}.{ordinal % 1000:03}Z","ordinal":{ordinal},"type":"{kind}","payload":'
        data = (head + text + "}\n").encode()
        file.write(data)
        written += len(data)
        since += len(data)
        ordinal += 1
        if is_history:
            history.append(text)

    line("session_meta", {"id": ident, "cwd": f"/proj/{rng.randrange(20)}", "source": "cli"})
    while written < size:
        line("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": rng.choice(phrases)}]}, True)
        if rng.random() < 0.1:
            image = base64.b64encode(rng.randbytes(rng.randint(100_000, 1_200_000))).decode()
            url = f"data:image/png;base64,{image}"
            line("response_item", {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}, True)
        for _ in range(rng.randint(3, 12)):
            noise = base64.b64encode(rng.randbytes(rng.choice((900, 1800)))).decode()
            line("response_item", {"type": "reasoning", "summary": [], "encrypted_content": noise})
            output = "\n".join(rng.choice(phrases) for _ in range(rng.randint(8, 160)))
            line("response_item", {"type": "function_call_output", "call_id": f"call_{rng.getrandbits(64):x}", "output": output})
        if since > COMPACTION_BYTES:
            # A compaction keeps the newest part of the history.
            del history[:-400]
            text = f'{{"message":"","replacement_history":[{",".join(history)}]}}'
            data = f'{{"timestamp":"2026-08-01T08:00:00.000Z","ordinal":{ordinal},"type":"compacted","payload":{text}}}\n'.encode()
            file.write(data)
            written += len(data)
            ordinal += 1
            since = 0


if __name__ == "__main__":
    write(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
