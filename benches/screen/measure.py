"""Prints the processor time of the search screen: until its first frame, and of keys until the next frame.

The time of a key is that of the thread that draws. Contents are searched by another one, which keys do not wait for.
"""

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios

HERE = os.path.dirname(os.path.abspath(__file__))
# Each frame begins by hiding the cursor, and ends by showing it.
FRAME_END = b"\x1b[?25h"
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

    def press(self, key):
        """Presses a key and returns the time of the thread that draws, until the next frame."""
        before = self.milliseconds([self.pid])
        os.write(self.terminal, key)
        self.wait_for_frame()
        spent = self.milliseconds([self.pid]) - before
        self.wait_until_idle()
        return spent

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
            keys += [screen.press(letter.encode()) for letter in QUERY]
            screen.leave()
        print(f"{args.conversations:,} conversations, processor time\n\n| | median | longest |\n| --- | --- | --- |")
        for name, figures in [("first frame", frames), ("a key until the next frame", keys)]:
            print(f"| {name} | {statistics.median(figures):.1f} ms | {max(figures):.1f} ms |")


main()
