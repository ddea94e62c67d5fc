"""The table of `make bench`: which way a ratio runs, and what a missing measurement leaves. Standard library only."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

REPO = pathlib.Path(__file__).resolve().parents[2]


def table(files):
    """bench.json by row name, and what was printed, of a folder with these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in files.items():
            pathlib.Path(folder, name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        target = pathlib.Path(folder, "bench.json")
        printed = subprocess.run([sys.executable, REPO / "bench/table.py", folder, target], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout  # fmt: skip
        return {row["name"]: row for row in json.loads(target.read_text())}, printed


OURS = {"tokens_per_second": 1500.0, "step_cpu_seconds": [9.0, 4.0, 7.0], "peak_rss_bytes": 2 << 30}
PEER = {
    "peer": "transformers X", "tokens_per_second": 1000.0, "step_cpu_seconds": [8.0, 6.0], "peak_rss_bytes": 3 << 30,
}  # fmt: skip


class Table(unittest.TestCase):
    def test_a_ratio_above_one_means_that_ours_is_better_whichever_way_the_unit_runs(self):
        rows, _ = table({"debugmodel-bf16.ours": [OURS], "debugmodel-bf16.peer": [PEER]})
        self.assertEqual(rows["debugmodel bf16 tokens/s"]["ratio"], 1.5)
        self.assertEqual(rows["debugmodel bf16 peak memory"]["ratio"], 1.5)
        self.assertEqual(rows["debugmodel bf16 peak memory"]["ours"], 2048)  # MiB
        self.assertEqual(rows["debugmodel bf16 tokens/s"]["peer_name"], "transformers X")

    def test_cpu_time_is_that_of_the_least_disturbed_step(self):
        rows, _ = table({"debugmodel-bf16.ours": [OURS], "debugmodel-bf16.peer": [PEER]})
        self.assertEqual(rows["debugmodel bf16 CPU time"]["ours"], 4.0)
        self.assertEqual(rows["debugmodel bf16 CPU time"]["ratio"], 1.5)

    def test_without_a_peer_its_cells_and_the_ratio_are_null(self):
        rows, printed = table({"debugmodel-bf16.ours": [OURS]})
        row = rows["debugmodel bf16 tokens/s"]
        self.assertEqual((row["ours"], row["peer"], row["peer_name"], row["ratio"]), (1500.0, None, None, None))
        self.assertIn("debugmodel bf16 tokens/s", printed)

    def test_lines_of_data_bench_are_found_by_their_name(self):
        ours = [{"name": "tokenizer load", "unit": "s", "ours": 0.1}, {"name": "dataset tokens/s", "ours": 5e6}]
        peer = [{"name": "tokenizer load", "unit": "s", "peer": 0.4, "peer_name": "tokenizers Y"}]
        rows, _ = table({"data.ours": ours, "data.peer": peer})
        self.assertAlmostEqual(rows["tokenizer load"]["ratio"], 4.0)
        self.assertEqual(rows["tokenizer load"]["peer_name"], "tokenizers Y")
        self.assertIsNone(rows["dataset"]["ratio"])


if __name__ == "__main__":
    unittest.main()
