#!/usr/bin/env python3
"""Prints the lines of code of each room of src, without tests, comments and blank lines. Usage: benches/lines.py [FOLDER]"""

import sys
from collections import Counter
from pathlib import Path

TEST_ATTRIBUTES = ("#[cfg(test)]", "#[cfg(all(test")


def end_of_item(lines, start):
    """Returns the number of the line behind the item that begins in `lines[start]`. rustfmt aligns its last brace."""
    first = lines[start]
    if first.rstrip().endswith(";"):
        return start + 1
    indent = first[: len(first) - len(first.lstrip())]
    ends = {indent + brace for brace in ("}", "},", "};")}
    for number in range(start, len(lines)):
        if lines[number].rstrip() in ends:
            return number + 1
    return len(lines)


def lines_of_code(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    count = number = 0
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        if line.startswith(TEST_ATTRIBUTES):
            while number < len(lines) and lines[number].strip().startswith("#["):
                number += 1
            if number < len(lines):
                number = end_of_item(lines, number)
        elif line and not line.startswith("//"):
            count += 1
    return count


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "src"
    rooms = Counter()
    for path in root.rglob("*.rs"):
        inside = path.relative_to(root)
        if inside.parts[0] in ("base", "core"):
            inside = inside.relative_to(inside.parts[0])
        if path.name != "tests.rs" and "tests" not in inside.parts:
            rooms[inside.parts[0]] += lines_of_code(path)
    print("lines of code")
    for room, count in rooms.most_common():
        print(f"{count:7} {room}")
    print(f"{rooms.total():7} in all")


main()
