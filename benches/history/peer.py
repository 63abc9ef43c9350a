"""Rebuilds session_index.jsonl and history.jsonl as a simple script would: parses every line.

usage: peer.py HOME; writes HOME/peer-index.jsonl and HOME/peer-history.jsonl
"""

import json
import os
import sqlite3
import sys
from datetime import datetime, timezone


def instant(text):
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None


home = sys.argv[1]
titles, updated = {}, {}
for ident, title, at in sqlite3.connect(f"{home}/state_5.sqlite").execute("SELECT id, title, updated_at FROM threads"):
    titles[ident] = title
    updated[ident] = datetime.fromtimestamp(at, timezone.utc)
history, bad = set(), 0
for folder, _, names in os.walk(f"{home}/sessions"):
    for name in names:
        if not (name.startswith("rollout-") and name.endswith(".jsonl")):
            continue
        ident = last = None
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    bad += 1
                    continue
                stamp = instant(record.get("timestamp") or "")
                if stamp is not None:
                    last = stamp
                payload = record.get("payload") or {}
                kind = record.get("type")
                if kind == "session_meta" and ident is None:
                    ident = payload.get("id")
                elif kind == "event_msg" and payload.get("type") == "user_message":
                    history.add((int(last.timestamp()), ident, payload["message"].rstrip("\r\n")))
        if ident in updated and last is not None:
            updated[ident] = max(updated[ident], last)
with open(f"{home}/peer-index.jsonl", "w") as file:
    for ident in sorted(titles, key=lambda ident: (updated[ident], ident), reverse=True):
        entry = {"id": ident, "thread_name": titles[ident], "updated_at": updated[ident].isoformat()}
        file.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")
with open(f"{home}/peer-history.jsonl", "w") as file:
    for ts, ident, text in sorted(history):
        entry = {"session_id": ident, "ts": ts, "text": text}
        file.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")
