"""A job through the whole service: coordinator, two worker daemons, ranks. One JSON line; progress goes to stderr.

usage: service_bench.py BIN_FOLDER [qwen3ctl submit options, e.g. --set training.steps=3]

wall_seconds: from submit to the end of the client, export and last checkpoint included. first_step_seconds: from
submit to the client's line about step 1. version_seconds: the fastest of ten `qwen3ctl --version`.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parent.parent


def cold_start(qwen3ctl):
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        subprocess.run([qwen3ctl, "--version"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def run_job(qwen3ctl, options, environment):
    command = [qwen3ctl, "submit", REPO / "configs/debugmodel.toml", *options, "--watch", "--output", "json"]
    begin = time.perf_counter()
    first_step = None
    with subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        for line in job.stderr:
            sys.stderr.write(line)
            if first_step is None and re.match(r"step +1/", line):
                first_step = time.perf_counter() - begin
        output = job.stdout.read()
    if job.returncode != 0:
        raise SystemExit(f"service_bench: qwen3ctl submit ended with {job.returncode}, expected 0")
    wall = time.perf_counter() - begin
    result = json.loads(output.splitlines()[-1])
    return {
        "first_step_seconds": first_step, "wall_seconds": wall, "validation_loss": result["validation_loss"],
        "steps": result["steps"], "tokens_per_second": result["tokens_per_second"],
    }  # fmt: skip


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    qwen3ctl = str(pathlib.Path(sys.argv[1]).resolve() / "qwen3ctl")
    row = {"version_seconds": cold_start(qwen3ctl)}
    with tempfile.TemporaryDirectory(prefix="qwen3-service-bench.") as folder:
        try:
            subprocess.run([qwen3ctl, "local", "up", "--dir", folder, "--workers", "2", "--slots", "1"], check=True,
                           stdout=sys.stderr)  # fmt: skip
            address = json.loads(pathlib.Path(folder, "local.json").read_text())["address"]
            row |= run_job(qwen3ctl, sys.argv[2:], {**os.environ, "QWEN3_ADDRESS": address})
        finally:
            subprocess.run([qwen3ctl, "local", "down", "--dir", folder], stdout=sys.stderr, check=False)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
