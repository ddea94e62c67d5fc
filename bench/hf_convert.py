"""What a Python user does today to get float32 weights: safetensors load, cast, save. The peer of convert_bench.

usage: hf_convert.py HF_FOLDER OUTPUT_FILE
"""

import json
import pathlib
import resource
import sys
import time

import safetensors
import safetensors.torch
import torch


def main():
    folder, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    start = time.perf_counter()
    tensors, size = {}, 0
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in safetensors.torch.load_file(path).items():
            size += tensor.numel() * tensor.element_size()
            tensors[name] = tensor.to(torch.float32)
    safetensors.torch.save_file(tensors, output)
    seconds = time.perf_counter() - start
    output.unlink()
    print(json.dumps({"peer": f"safetensors {safetensors.__version__}, torch {torch.__version__}",
                      "to_native_mb_per_second": size / 1e6 / seconds,
                      "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))  # fmt: skip


if __name__ == "__main__":
    main()
