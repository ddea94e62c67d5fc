"""Hugging Face `tokenizers` on the text that data_bench encodes: one JSON line for each of its rows with a peer.

usage: hf_tokenizer.py TOKENIZER_JSON TEXT_FOLDER
"""

import json
import pathlib
import sys
import time

import tokenizers


def seconds(work):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, folder = sys.argv[1:]
    tokenizer = tokenizers.Tokenizer.from_file(source)
    text = "".join(path.read_bytes().decode() for path in sorted(pathlib.Path(folder).iterdir()))
    megabytes = len(text.encode()) / 1e6
    # One long text is its slowest case: it is given lines of a play, as its users would do.
    lines = text.splitlines(keepends=True)
    pieces = ["".join(lines[i : i + 100]) for i in range(0, len(lines), 100)]
    peer = f"tokenizers {tokenizers.__version__}"

    def one_by_one():
        for piece in pieces:
            tokenizer.encode(piece)

    rows = {
        "tokenizer load": ("s", seconds(lambda: tokenizers.Tokenizer.from_file(source))),
        "tokenizer 1 thread MB/s": ("MB/s", megabytes / seconds(one_by_one)),
        "tokenizer MB/s": ("MB/s", megabytes / seconds(lambda: tokenizer.encode_batch_fast(pieces))),
    }
    for name, (unit, value) in rows.items():
        print(json.dumps({"name": name, "unit": unit, "peer": value, "peer_name": peer}))


if __name__ == "__main__":
    main()
