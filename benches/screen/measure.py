"""Prints the times of the search screen: until its first frame, and from a key to the frame that shows it.

The first frame is processor time. A key is wall time, while the entries of the keys before are still examined.
"""

import argparse
import fcntl
import os
import pty
import re
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# Each frame begins by hiding the cursor, and ends by showing it.
FRAME_END = b"\x1b[?25h"
# The column of the cursor, which is behind the filter.
CURSOR = re.compile(rb"\r\x1b\[(\d+)C\x1b\[\?25h")
# The time from one key to the next one.
PAUSE_SECONDS = 0.15
QUERY = "conversation1 tests"
ESCAPE = b"\x1b"


class Screen:
    """A running `resume` in a terminal of 80 columns and 24 lines."""

    def __init__(self, binary, home, manager):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(binary, [binary, "--codex-home", home, "--manager-home", manager, "resume"])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def wait_for_frame(self):
        seen = b""
        while FRAME_END not in seen:
            ready, _, _ = select.select([self.terminal], [], [], 60)
            if not ready:
                sys.exit("the screen shows nothing")
            seen += os.read(self.terminal, 1 << 16)

    def wait_until_idle(self):
        while select.select([self.terminal], [], [], 1.5)[0]:
            os.read(self.terminal, 1 << 16)

    def milliseconds(self, threads):
        """Returns the processor time of these threads."""
        times = [f"/proc/{self.pid}/task/{thread}/schedstat" for thread in threads]
        return sum(int(open(path).read().split()[0]) for path in times) / 1e6

    def all_threads(self):
        return os.listdir(f"/proc/{self.pid}/task")

    def read_for(self, seconds):
        ready, _, _ = select.select([self.terminal], [], [], max(seconds, 0))
        return os.read(self.terminal, 1 << 16) if ready else b""

    def press(self, key, column):
        """Presses a key; `column` is that of the cursor before. Returns the milliseconds until a frame has the cursor in
        another column, and this column."""
        began = time.monotonic()
        os.write(self.terminal, key)
        seen = b""
        while not (columns := CURSOR.findall(seen)) or columns[-1] == column:
            seen += self.read_for(60)
            if time.monotonic() > began + 60:
                sys.exit("the screen does not show a key")
        spent = (time.monotonic() - began) * 1000
        while (left := began + PAUSE_SECONDS - time.monotonic()) > 0:
            self.read_for(left)
        return spent, columns[-1]

    def leave(self):
        os.write(self.terminal, ESCAPE)
        try:
            self.wait_until_idle()
        except OSError:
            pass
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--conversations", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codex-manager-bench-") as folder:
        home, manager = f"{folder}/codex", f"{folder}/manager"
        megabytes = str(args.conversations // 200)
        generate = [f"{HERE}/../find/generate.py", home, "--mb", megabytes, "--conversations", str(args.conversations)]
        subprocess.run([sys.executable, *generate], check=True)
        index = [args.binary, "--codex-home", home, "--manager-home", manager, "find", "conversation7"]
        subprocess.run(index, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        frames, keys = [], []
        for _ in range(args.rounds):
            screen = Screen(args.binary, home, manager)
            screen.wait_for_frame()
            frames.append(screen.milliseconds(screen.all_threads()))
            screen.wait_until_idle()
            column = None
            for letter in QUERY:
                spent, column = screen.press(letter.encode(), column)
                keys.append(spent)
            screen.leave()
        print(f"{args.conversations:,} conversations\n\n| | median | longest |\n| --- | --- | --- |")
        for name, figures in [("first frame, processor time", frames), ("a key until the frame that shows it", keys)]:
            print(f"| {name} | {statistics.median(figures):.1f} ms | {max(figures):.1f} ms |")


main()
