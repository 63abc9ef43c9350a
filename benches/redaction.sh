#!/usr/bin/env bash
# Measures what redaction costs an export of one conversation with 20 MB of text, beside ripgrep with the same forms,
# and beside detect-secrets, if it can be installed: benches/redaction.sh [MB]. CODEX_MANAGER names another binary.
set -euo pipefail
mb=${1:-20}
cd "$(dirname "$0")/.."
manager=${CODEX_MANAGER:-$PWD/target/dist/codex-manager}
[ -n "${CODEX_MANAGER:-}" ] || cargo build --profile dist --quiet
peer=target/tools/detect-secrets-1.5.0
[ -x "$peer/bin/detect-secrets" ] ||
  { python3 -m venv "$peer" && "$peer/bin/pip" -q install detect-secrets==1.5.0; } || rm -rf "$peer"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CODEX_HOME=$work/home CODEX_MANAGER_HOME=$work/manager

# The sources of this program, with a key in every 20 KB, as a file and as a conversation.
python3 - "$work" "$mb" <<'END'
import glob, json, os, random, sys
work, size = sys.argv[1], int(sys.argv[2]) * 1_000_000
rng = random.Random(1)
texts = [open(path).read() for path in sorted(glob.glob("src/**/*.rs", recursive=True)) + ["Cargo.lock"]]
folder = f"{work}/home/sessions/2026/10/01"
os.makedirs(folder)
ident = "01a10000-0000-7ef3-b0ee-5caab8d3b455"
head = {"timestamp": "2026-10-01T06:00:00.000Z"}
written, whole = 0, "".join(texts)
with open(f"{folder}/rollout-2026-10-01T06-00-00-{ident}.jsonl", "w") as rollout, open(f"{work}/text", "w") as file:
    meta = {"id": ident, "timestamp": head["timestamp"], "cwd": "/code", "source": "cli"}
    rollout.write(json.dumps({**head, "type": "session_meta", "payload": meta}) + "\n")
    while written < size:
        at = rng.randrange(len(whole) - 20_000)
        key = "".join(rng.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=36))
        text = whole[at:at + 20_000] + f"\nexport GITHUB_TOKEN=ghp_{key}\n"
        content = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        rollout.write(json.dumps({**head, "type": "response_item", "payload": content}) + "\n")
        file.write(text)
        written += len(text)
# The forms that do not depend on a name before them, for ripgrep.
with open(f"{work}/forms", "w") as forms:
    for line in open("src/base/codex/redaction/forms.txt"):
        columns = line.split()
        if len(columns) == 6 and line[0] != "#" and "@" not in columns[4] and columns[2] != "message":
            forms.write(columns[4] + "\n")
END

# Prints the median of three rounds with its processor time, and the peak memory.
measure() {
  local label=$1 seconds user system kb
  shift
  for _ in 1 2 3; do
    /usr/bin/time -f "%e %U %S %M" -o "$work/time" "$@" >/dev/null 2>&1 || true
    tail -n 1 "$work/time"
  done | sort -n | sed -n 2p >"$work/median"
  read -r seconds user system kb <"$work/median"
  echo "$label: $seconds s, CPU $user + $system s, $((kb / 1000)) MB of memory"
}

echo "$mb MB of text, load $(cut -d' ' -f1-3 /proc/loadavg)"
measure 'export --no-redact' "$manager" export 01a1 --no-redact
measure 'export' "$manager" export 01a1
keys=$(grep -c GITHUB_TOKEN=ghp_ "$work/text")
replaced=$("$manager" export 01a1 2>/dev/null | grep -c 'GITHUB_TOKEN=\[redacted\]') || true
echo "  $replaced of $keys keys replaced"
[ "$replaced" = "$keys" ]
measure "rg, $(wc -l <"$work/forms") forms" rg --no-unicode -c -f "$work/forms" "$work/text"
# It takes minutes for the whole text, and scans only files below its folder.
head -c $((mb * 100000)) "$work/text" >"$work/part"
[ ! -x "$peer/bin/detect-secrets" ] ||
  measure 'detect-secrets, a tenth of the text' env -C "$work" "$PWD/$peer/bin/detect-secrets" scan --all-files part
