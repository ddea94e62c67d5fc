#!/usr/bin/env python3
"""Who may include whom: the table of docs/architecture.md, checked on every #include of the tree.

Prints one line for each include that breaks a rule, "FILE:LINE: ...", and exits 1 if there is any.
Usage: include_directions.py SOURCE_DIR | include_directions.py --self-test
"""
import pathlib
import re
import sys
import unittest

# Folder -> folders whose headers its files may include, besides its own. The longest matching folder holds.
# Folders that are not named here (tests, bench) are free.
MAY_INCLUDE = {
    "proto": [],
    "spec": [],
    "spec/config": ["spec", "qwen3"],
    "tokenizer": [],
    "checkpoint": ["spec", "tokenizer"],
    "kernels": [],
    "model": ["spec", "kernels"],
    "parallel": ["spec", "model", "kernels"],
    "coordinator": ["spec", "spec/config", "checkpoint", "proto", "qwen3"],
    "worker/channel": ["qwen3"],
    "worker/daemon": ["spec", "spec/config", "proto", "qwen3", "worker/channel"],
    "worker/rank": ["spec", "spec/config", "tokenizer", "checkpoint", "kernels", "model", "parallel", "qwen3",
                    "worker/channel", "worker/rank/data", "worker/rank/metrics"],
    "worker/rank/data": ["spec", "tokenizer", "checkpoint"],
    "worker/rank/metrics": ["spec"],
    "client": ["spec", "spec/config", "checkpoint", "tokenizer", "proto", "qwen3"],
}

# Libraries that only some folders may know: include prefix -> folders (their subfolders are meant too).
LIBRARIES = {
    "torch/csrc/distributed": ["parallel"],  # c10d: parallel/ is its only caller
    "gloo": ["parallel"],
    "nccl": ["parallel"],
    "ATen": ["kernels", "model", "parallel", "worker/rank"],
    "c10": ["kernels", "model", "parallel", "worker/rank"],
    "torch": ["kernels", "model", "parallel", "worker/rank"],
    "grpcpp": ["proto", "coordinator", "worker/daemon", "client"],
    "google/protobuf": ["proto", "spec/config", "coordinator", "worker", "client"],
    "sqlite3": ["coordinator"],
    "prometheus": ["coordinator"],
    "curl": ["client/download"],
}

FREE = ("tests", "bench")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def longest_match(path, folders):
    """The longest of `folders` that `path` lies in, or None."""
    inside = [f for f in folders if path == f or path.startswith(f + "/")]
    return max(inside, key=len, default=None)


def home(path):
    """Folder of the table that a file or a header belongs to; headers of generated protos belong to "qwen3"."""
    return longest_match(path, list(MAY_INCLUDE) + ["qwen3"])


def complaint(path, header):
    """Why `path` must not include `header`, or None if it may. Both are relative to the source folder."""
    folder = home(path)
    if folder is None:
        return None if path.startswith(FREE) else f"lies in no folder of the table in {pathlib.Path(__file__).name}"
    target = home(header.removesuffix(".h"))
    if target is not None:
        if target == folder or target in MAY_INCLUDE[folder]:
            return None
        allowed = ", ".join(MAY_INCLUDE[folder]) or "nothing of the tree"
        return f"{folder} must not include {header}; it may include {allowed}"
    library = longest_match(header.removesuffix(".h"), LIBRARIES)
    if library is None or longest_match(path, LIBRARIES[library]):
        return None
    return f"{folder} must not include {header}; {library} is for {', '.join(LIBRARIES[library])}"


def check_tree(root):
    """All complaints about the tree, as lines of text, and the number of files that were read."""
    complaints, files = [], 0
    for folder in sorted({f.split("/")[0] for f in MAY_INCLUDE}):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".h", ".cc", ".cu", ".cuh"):
                continue
            files += 1
            path = file.relative_to(root).as_posix()
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                found = INCLUDE.match(line)
                why = found and complaint(path, found[2])
                if why:
                    complaints.append(f"{path}:{number}: {why}")
    return complaints, files


class IncludeDirections(unittest.TestCase):
    def test_a_folder_may_include_itself_and_what_the_table_lists(self):
        self.assertIsNone(complaint("spec/mesh.cc", "spec/mesh.h"))
        self.assertIsNone(complaint("parallel/fsdp/unit.cc", "model/parameter.h"))
        self.assertIsNone(complaint("coordinator/store.cc", "qwen3/v1/job.pb.h"))

    def test_the_model_knows_no_ranks_and_no_wire(self):
        self.assertIn("model must not", complaint("model/block.cc", "parallel/mesh.h"))
        self.assertIn("model must not", complaint("model/block.cc", "qwen3/v1/job.pb.h"))
        self.assertIn("model must not", complaint("model/block.cc", "torch/csrc/distributed/c10d/Work.hpp"))

    def test_the_plain_specification_knows_no_proto_but_its_config_folder_does(self):
        self.assertIn("spec must not", complaint("spec/rules.cc", "qwen3/v1/job_spec.pb.h"))
        self.assertIn("spec must not", complaint("spec/rules.cc", "spec/config/toml.h"))
        self.assertIsNone(complaint("spec/config/toml.cc", "qwen3/v1/job_spec.pb.h"))

    def test_the_control_plane_knows_no_tensors(self):
        for file in ("coordinator/server.cc", "worker/daemon/session.cc", "client/client.cc", "checkpoint/hf/export.cc"):
            self.assertIn("must not include", complaint(file, "ATen/ATen.h"))

    def test_the_rank_knows_no_grpc(self):
        self.assertIn("must not include", complaint("worker/rank/main.cc", "grpcpp/grpcpp.h"))
        self.assertIsNone(complaint("worker/daemon/session.cc", "grpcpp/grpcpp.h"))

    def test_tests_may_include_everything(self):
        self.assertIsNone(complaint("tests/parallel/fsdp_test.cc", "coordinator/store.h"))

    def test_a_file_outside_the_table_is_a_complaint(self):
        self.assertIn("lies in no folder", complaint("worker/stray.cc", "spec/mesh.h"))


def main():
    if sys.argv[1:] == ["--self-test"]:
        unittest.main(argv=sys.argv[:1])
    complaints, files = check_tree(pathlib.Path(sys.argv[1]))
    print("\n".join(complaints) if complaints else f"{files} files, every include goes the right way")
    return 1 if complaints or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
