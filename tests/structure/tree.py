#!/usr/bin/env python3
"""Habits of the tree that people forget: no dumping grounds, no leftover marks, no orphan sources, no silent giants.

Prints one line for each breach and exits 1 if there is any. Usage: tree.py SOURCE_DIR
"""
import pathlib
import re
import subprocess
import sys

CODE = {".h", ".cc", ".cu", ".cuh", ".proto"}
DUMPING_GROUNDS = re.compile(r"(^|/)(common|utils?|helpers?|misc)(/|\.|_|$)")
MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
LINE_LIMIT = 120
FILE_LIMIT = 400  # lines; a longer file says at its top why


def tracked(root):
    """Files under version control; outside git (an unpacked archive) everything but what was built."""
    try:
        listed = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], check=True,
                                capture_output=True, text=True).stdout.split("\n")
        return [p for p in listed if p and (root / p).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return [p.relative_to(root).as_posix() for p in root.rglob("*")
                if p.is_file() and not p.relative_to(root).parts[0].startswith(("build", ".git"))]


def says_why_it_is_long(lines):
    """Whether the comment at the file's top holds a sentence with "lines" or "long" in it."""
    head = [line for line in lines[:15] if line.startswith("//")]
    return re.search(r"\b(long|longer|lines)\b", " ".join(head), re.IGNORECASE) is not None


def breaches(root):
    files = tracked(root)
    cmake = "\n".join((root / f).read_text() for f in files if f.endswith("CMakeLists.txt"))
    for path in files:
        file = root / path
        if DUMPING_GROUNDS.search(path):
            yield f"{path}: name it for what it holds; no common, util, helpers or misc"
        if file.suffix not in CODE:
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        if len(lines) > FILE_LIMIT and not says_why_it_is_long(lines):
            yield f"{path}: {len(lines)} lines; over {FILE_LIMIT} the top comment must say why it is long"
        for number, line in enumerate(lines, 1):
            if MARKS.search(line):
                yield f"{path}:{number}: leftover mark: {line.strip()}"
            if len(line) > LINE_LIMIT:
                yield f"{path}:{number}: {len(line)} columns, at most {LINE_LIMIT}"
        if file.suffix in (".cc", ".cu") and file.name not in cmake:
            yield f"{path}: no CMakeLists.txt names it"
        if file.suffix == ".h" and "#pragma once" not in lines:
            yield f"{path}: no #pragma once"


def main():
    found = list(breaches(pathlib.Path(sys.argv[1]).resolve()))
    print("\n".join(found) if found else "the tree keeps its habits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
