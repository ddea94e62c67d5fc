"""Reference values of the model, computed by Hugging Face transformers' Qwen3ForCausalLM.

Writes tests/golden/model_*.safetensors: inputs, weights under this project's names, and for float32 and float64 the
logits, the summed loss and the gradient of every parameter. Run by `make goldens`.

transformers does RMSNorm and the rotary angles in float32 whatever the model's dtype; for float64 both are replaced
here by the same formulas in float64, so that only rounding is left. float32 is transformers as it is.
"""

import pathlib
import sys

import safetensors.torch
import torch
import transformers
from transformers.models.qwen3 import modeling_qwen3

OUT = pathlib.Path(__file__).parent
SUFFIXES = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "self_attn.q_norm": "attention.q_norm",
    "self_attn.k_norm": "attention.k_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
}
# dim, layers, heads, kv_heads, head_dim, ffn_hidden, vocab, rope_theta, tied; document starts inside each sequence.
CASES = {
    "tied": (dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                  intermediate_size=40, vocab_size=61, rope_theta=1e6, tie_word_embeddings=True), [[], []]),
    "untied_packed": (dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3,
                           head_dim=8, intermediate_size=56, vocab_size=97, rope_theta=1e4,
                           tie_word_embeddings=False), [[5, 6, 17], []]),
}  # fmt: skip


def our_name(name):
    name = name.removeprefix("model.")
    if name == "embed_tokens.weight":
        return "tok_embeddings.weight"
    for theirs, ours in SUFFIXES.items():
        if name.endswith(f"{theirs}.weight"):
            return name.replace(theirs, ours)
    return name  # norm.weight, lm_head.weight


class Rotary64(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
        self.frequencies = 1.0 / config.rope_theta**exponents

    def forward(self, x, position_ids):
        angles = position_ids[..., None].double() * self.frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def norm64(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def run(model, dtype, ids, labels, positions, allowed):
    model = model.to(dtype)
    if dtype == torch.float64:
        model.model.rotary_emb = Rotary64(model.config)
        modeling_qwen3.Qwen3RMSNorm.forward = norm64
    model.zero_grad()
    logits = model(input_ids=ids, position_ids=positions, attention_mask=allowed, use_cache=False).logits
    assert logits.dtype == dtype
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    loss.backward()
    results = {"logits": logits.detach(), "loss": loss.detach()}
    results |= {f"gradient.{our_name(n)}": p.grad.clone() for n, p in model.named_parameters()}
    return results


def main():
    original_norm = modeling_qwen3.Qwen3RMSNorm.forward
    for case, (sizes, starts) in CASES.items():
        torch.manual_seed(20261124)
        config = transformers.Qwen3Config(**sizes, rms_norm_eps=1e-6, max_position_embeddings=64, attention_bias=False,
                                          attn_implementation="sdpa")  # fmt: skip
        modeling_qwen3.Qwen3RMSNorm.forward = original_norm
        model = transformers.Qwen3ForCausalLM(config).train()
        for name, parameter in model.named_parameters():
            with torch.no_grad():
                parameter.uniform_(0.5, 1.5) if "norm" in name else parameter.normal_(0, 0.2)
        ids = torch.randint(sizes["vocab_size"], (2, 24))
        labels = ids.roll(-1, 1)
        labels[:, -1] = -100
        labels[1, 3:8] = -100
        positions = torch.arange(24).repeat(2, 1)
        document = torch.zeros(2, 24, dtype=torch.long)
        for row, row_starts in enumerate(starts):
            for start in row_starts:
                positions[row, start:] = torch.arange(24 - start)
                document[row, start:] += 1
        allowed = (document[:, :, None] == document[:, None, :]).tril()[:, None]
        tensors = {"ids": ids, "labels": labels, "positions": positions}
        tensors |= {f"weight.{our_name(n)}": p.detach().clone() for n, p in model.named_parameters()}
        for dtype in (torch.float32, torch.float64):
            results = run(model, dtype, ids, labels, positions, allowed)
            tensors |= {f"{str(dtype).removeprefix('torch.')}.{name}": value for name, value in results.items()}
        metadata = {
            "made_by": f"transformers {transformers.__version__} Qwen3ForCausalLM (sdpa), torch {torch.__version__},"
            " CPU; remake: make goldens (tests/golden/make_model_goldens.py)",
            **{key: str(value) for key, value in sizes.items()},
        }
        path = OUT / f"model_{case}.safetensors"
        safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
        print(f"{path.name}: {path.stat().st_size} bytes, loss {results['loss'].item():.6f}")


if __name__ == "__main__":
    sys.exit(main())
