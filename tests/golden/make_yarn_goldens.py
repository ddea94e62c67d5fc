"""YaRN's rotary frequencies as transformers' _compute_yarn_parameters computes them, in float32.

Writes tests/golden/yarn.safetensors: for each case `CASE.inv_freq` [E/2] and `CASE.attention_factor` [1], and the
settings as text in the file's metadata. Run by `make goldens`.
"""

import json
import pathlib

import safetensors.torch
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

# head_dim, rope_theta, max_position_embeddings, rope_scaling without its type.
CASES = {
    "qwen3": (128, 1e6, 131072, dict(factor=4.0, original_max_position_embeddings=32768)),
    "small_head": (16, 1e4, 4096, dict(factor=8.0, original_max_position_embeddings=512)),
    "own_betas": (64, 5e6, 262144, dict(factor=2.5, original_max_position_embeddings=40960, beta_fast=48.0,
                                        beta_slow=2.0)),
    "own_attention": (128, 1e7, 65536, dict(factor=2.0, original_max_position_embeddings=32768, attention_factor=1.25)),
    "mscale": (128, 1e6, 131072, dict(factor=4.0, original_max_position_embeddings=32768, mscale=0.7,
                                      mscale_all_dim=1.3)),
    "no_original": (32, 1e6, 2048, dict(factor=4.0)),
    "step": (8, 1e6, 4096, dict(factor=4.0, original_max_position_embeddings=4)),  # no ramp: low == high
}  # fmt: skip


def in_order(data):
    """safetensors writes metadata in a random order; here by name, so that the same values are the same bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def main():
    tensors, metadata = {}, {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}; remake: make goldens"}
    for case, (head_dim, theta, length, scaling) in CASES.items():
        sizes = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                     num_key_value_heads=1, vocab_size=32, head_dim=head_dim, rope_theta=theta,
                     max_position_embeddings=length, rope_scaling=dict(rope_type="yarn", **scaling))  # fmt: skip
        config = transformers.Qwen3Config(**sizes)
        inv_freq, attention = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
        tensors[f"{case}.inv_freq"] = inv_freq.float().contiguous()
        tensors[f"{case}.attention_factor"] = torch.tensor([attention], dtype=torch.float64)
        metadata[case] = json.dumps(dict(model_type="qwen3", **sizes))
    path = pathlib.Path(__file__).parent / "yarn.safetensors"
    path.write_bytes(in_order(safetensors.torch.save(tensors, metadata)))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
