"""The table of `make bench`: joins what run.sh measured, ours beside the peer's, prints it and writes bench.json.

usage: table.py MEASURED_FOLDER BENCH_JSON

The folder holds ROW.ours and ROW.peer, the JSON lines that the programs printed; what is missing leaves its cell
empty. `ratio` > 1 means that ours is better, whichever way the unit runs.
"""

import json
import pathlib
import sys
from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    name: str
    unit: str
    source: str  # the stem of the files
    value: str  # key in the JSON line; for the lines of data_bench their "name"
    aim: str
    scale: float = 1.0  # the value is multiplied by it
    lower_is_better: bool = False


def step_rows(title, source):
    return [
        Row(f"{title} tokens/s", "tokens/s", source, "tokens_per_second", "no slower"),
        Row(f"{title} CPU time", "s/step", source, "step_cpu_seconds", "no more", lower_is_better=True),
        Row(f"{title} peak memory", "MiB RSS", source, "peak_rss_bytes", "no more", 1 / MIB, True),
    ]


ROWS = [
    *step_rows("debugmodel fp32", "debugmodel-fp32"),
    *step_rows("debugmodel bf16", "debugmodel-bf16"),
    *step_rows("debugmodel V=151936 fp32", "debugmodel-vocab-fp32"),
    *step_rows("debugmodel V=151936 bf16", "debugmodel-vocab-bf16"),
    *step_rows("0.6B bf16 1x512", "0.6B-bf16"),
    Row("debugmodel bf16, FSDP 2 beside 1 process", "tokens/s", "debugmodel-fsdp2", "tokens_per_second", ">= 0.95"),
    Row("debugmodel bf16, TP 2 beside 1 process", "tokens/s", "debugmodel-tp2", "tokens_per_second", ">= 0.90"),
    Row("debugmodel_moe bf16, EP 2 beside 1 process", "tokens/s", "debugmodel_moe-ep2", "tokens_per_second", ">= 1.18"),
    Row("tokenizer 1 thread", "MB/s", "data", "tokenizer 1 thread MB/s", "no slower"),
    Row("tokenizer all threads", "MB/s", "data", "tokenizer MB/s", "no slower"),
    Row("tokenizer load", "s", "data", "tokenizer load", "no slower", lower_is_better=True),
    Row("dataset", "tokens/s", "data", "dataset tokens/s", "far above training"),
    Row("convert 0.6B to native", "MB/s", "convert", "to_native_mb_per_second", ">= 500"),
    Row("convert 0.6B to HF", "MB/s", "convert", "to_hf_mb_per_second", ">= 500"),
    Row("convert 0.6B peak memory", "MiB RSS", "convert", "peak_rss_bytes", "< 1536", 1 / MIB, True),
    Row("first step after submit", "s", "service", "first_step_seconds", "seconds", lower_is_better=True),
    Row("qwen3ctl --version", "ms", "service", "version_seconds", "< 50", 1000, True),
    Row("quickstart wall time", "s", "quickstart", "wall_seconds", "shorter", lower_is_better=True),
    Row("quickstart validation loss", "nats", "quickstart", "validation_loss", "< 4.8", lower_is_better=True),
]


def read(path):
    """Key -> value of all JSON lines of a file; {} when there is none. data_bench's lines are keyed by their name."""
    found = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            if not line.startswith("{"):
                continue
            record = json.loads(line)
            if "name" in record:
                found[record["name"]] = record["ours"] if "ours" in record else record["peer"]
                found["peer"] = record.get("peer_name", "")
            else:
                found |= record
    return found


def value_of(found, row):
    value = found.get(row.value)
    if isinstance(value, list):  # of each step: the fastest is the least disturbed
        value = min(value)
    return None if value is None else value * row.scale


def join(folder):
    joined = []
    for row in ROWS:
        ours, peer = read(folder / f"{row.source}.ours"), read(folder / f"{row.source}.peer")
        mine, theirs = value_of(ours, row), value_of(peer, row)
        ratio = None
        if mine and theirs:
            ratio = theirs / mine if row.lower_is_better else mine / theirs
        joined.append({"name": row.name, "unit": row.unit, "ours": mine, "peer": theirs,
                       "peer_name": peer.get("peer") if theirs is not None else None, "ratio": ratio})  # fmt: skip
    return joined


def cell(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def print_table(joined):
    lines = [("row", "unit", "ours", "peer", "ratio", "aim")]
    for row, values in zip(ROWS, joined):
        ratio = "-" if values["ratio"] is None else f"{values['ratio']:.2f}"
        lines.append((row.name, row.unit, cell(values["ours"]), cell(values["peer"]), ratio, row.aim))
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    for line in lines:
        print("  ".join(text.ljust(w) if i in (0, 1, 5) else text.rjust(w)
                        for i, (text, w) in enumerate(zip(line, widths))).rstrip())  # fmt: skip
    print("ratio > 1: ours is better. Peers: " + ", ".join(sorted({v["peer_name"] for v in joined if v["peer_name"]})))


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    joined = join(pathlib.Path(sys.argv[1]))
    pathlib.Path(sys.argv[2]).write_text(json.dumps(joined, indent=1) + "\n")
    print_table(joined)


if __name__ == "__main__":
    main()
