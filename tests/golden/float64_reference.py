#!/usr/bin/env python3
"""Qwen3 in float64, written from the papers and from nothing else: numpy, no torch, no transformers, no autograd.

Usage: float64_reference.py CASE_FOLDER...

For each tests/golden/hf/CASE: reads the Hugging Face folder CASE/model and the inputs in CASE/transformers.safetensors
and writes CASE/float64.safetensors: the logits, the summed loss of the valid tokens, and of that loss the derivative
along one fixed direction per parameter (`slope.NAME`; direction i = cos(i) over the flat index). A slope is a complex
step, Im f(w + i h d) / h with h = 1e-30 (Squire & Trapp 1998, SIAM Review 40), so it is exact to rounding and shares
nothing with any backward pass.

RMSNorm arXiv:1910.07467, RoPE arXiv:2104.09864, YaRN arXiv:2309.00071, GQA arXiv:2305.13245, SwiGLU arXiv:2002.05202,
QK-norm and the experts' routing arXiv:2505.09388. x @ w.T is a Linear: weights are [out, in].
"""
import json
import math
import pathlib
import sys

import numpy as np
from parameter_names import by_our_name

NUMPY_DTYPE = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "BF16": np.uint16}


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin : 8 + size + end], NUMPY_DTYPE[entry["dtype"]])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F64", "shape": values.shape, "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(v.tobytes() for v in tensors.values()))


def read_model(folder):
    """-> config, {Hugging Face name: float64}."""
    config = json.loads((folder / "config.json").read_text())
    index = folder / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    weights = {}
    for file in files:
        weights |= {name: values.astype(np.float64) for name, values in read_safetensors(folder / file).items()}
    return config, weights


def softmax(x):
    powers = np.exp(x - x.real.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def swiglu(x, gate, up, down):
    g = x @ gate.T
    return (g / (1 + np.exp(-g)) * (x @ up.T)) @ down.T


def rotary(config, positions):
    """-> cos, sin of [B, S, 1, E/2]: pair i of position p is turned by p * theta^(-2i / E), or by YaRN's angle."""
    dims, theta = config["head_dim"], config["rope_theta"]
    pair = np.arange(dims // 2)
    frequency = theta ** (-2.0 * pair / dims)
    scale = 1.0
    if yarn := config.get("rope_scaling"):
        factor, original = yarn["factor"], yarn["original_max_position_embeddings"]

        def pair_that_turns(times):  # within the original context; section 3.2: fast pairs stay, slow ones are stretched
            return dims * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

        low = max(math.floor(pair_that_turns(yarn.get("beta_fast", 32))), 0)
        high = min(math.ceil(pair_that_turns(yarn.get("beta_slow", 1))), dims - 1)
        stretched = np.clip((pair - low) / max(high - low, 1e-3), 0, 1)
        frequency = frequency * (1 - stretched) + frequency / factor * stretched
        scale = yarn.get("attention_factor") or 0.1 * math.log(factor) + 1
    angle = positions[:, :, None, None] * frequency
    return np.cos(angle) * scale, np.sin(angle) * scale


def rotate(x, cos, sin):
    """Dims i and i + E/2 are a pair."""
    low, high = np.split(x, 2, axis=-1)
    return np.concatenate((low * cos - high * sin, high * cos + low * sin), axis=-1)


def attention(x, w, config, positions, angles):
    heads, kv_heads, dims = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    batch, length, _ = x.shape
    q = (x @ w["self_attn.q_proj.weight"].T).reshape(batch, length, heads, dims)
    k = (x @ w["self_attn.k_proj.weight"].T).reshape(batch, length, kv_heads, dims)
    v = (x @ w["self_attn.v_proj.weight"].T).reshape(batch, length, kv_heads, dims)
    q = rotate(rms_norm(q, w["self_attn.q_norm.weight"], config["rms_norm_eps"]), *angles)
    k = rotate(rms_norm(k, w["self_attn.k_norm.weight"], config["rms_norm_eps"]), *angles)
    out = np.empty(q.shape, np.result_type(q, k, v))
    for b in range(batch):
        starts = [s for s in range(length) if s == 0 or positions[b, s] == 0] + [length]
        for begin, end in zip(starts, starts[1:]):  # a document sees itself alone
            future = np.triu(np.full((end - begin, end - begin), -np.inf), 1)
            for h in range(heads):
                group = h * kv_heads // heads
                scores = q[b, begin:end, h] @ k[b, begin:end, group].T / math.sqrt(dims)
                out[b, begin:end, h] = softmax(scores + future) @ v[b, begin:end, group]
    return out.reshape(batch, length, heads * dims) @ w["self_attn.o_proj.weight"].T


def route(x, gate, config):
    """-> experts [T, k] by falling probability, ties to the lower number, and their weights [T, k]."""
    probability = softmax(x @ gate.T)
    chosen = np.argsort(-probability.real, axis=-1, kind="stable")[:, : config["num_experts_per_tok"]]
    weight = np.take_along_axis(probability, chosen, -1)
    return chosen, weight / weight.sum(-1, keepdims=True) if config["norm_topk_prob"] else weight


def mixture(x, w, config):
    tokens = x.reshape(-1, x.shape[-1])
    chosen, weight = route(tokens, w["mlp.gate.weight"], config)
    out = np.zeros(tokens.shape, np.result_type(tokens, *w.values()))
    for expert in range(config["num_experts"]):
        rows, slots = np.nonzero(chosen == expert)
        gate, up, down = (w[f"mlp.experts.{expert}.{m}_proj.weight"] for m in ("gate", "up", "down"))
        out[rows] += weight[rows, slots, None] * swiglu(tokens[rows], gate, up, down)
    return out.reshape(x.shape)


def forward(config, weights, ids, positions):
    """-> logits [B, S, V]. A complex weight is allowed: every step is analytic, choices look at the real part."""
    eps = config["rms_norm_eps"]
    angles = rotary(config, positions)
    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        w = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        x = x + attention(rms_norm(x, w["input_layernorm.weight"], eps), w, config, positions, angles)
        normed = rms_norm(x, w["post_attention_layernorm.weight"], eps)
        if "mlp.gate.weight" in w:
            x = x + mixture(normed, w, config)
        else:
            x = x + swiglu(normed, *(w[f"mlp.{m}_proj.weight"] for m in ("gate", "up", "down")))
    head = weights["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    return rms_norm(x, weights["model.norm.weight"], eps) @ head.T


def summed_loss(logits, labels):
    valid = labels != -100
    logits, labels = logits[valid], labels[valid]
    largest = logits.real.max(-1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(-1))
    return (log_sum - np.take_along_axis(logits, labels[:, None], -1)[:, 0]).sum()


def slope(config, weights, names, inputs):
    """Derivative of the summed loss along cos(0), cos(1), ... over the tensors `names`, one after the other."""
    step, first, moved = 1e-30, 0, dict(weights)
    for name in names:
        index = np.arange(first, first + weights[name].size).reshape(weights[name].shape)
        moved[name] = weights[name] + 1j * step * np.cos(index)
        first += weights[name].size
    return summed_loss(forward(config, moved, inputs["ids"], inputs["positions"]), inputs["labels"]).imag / step


def kl(theirs, ours):
    """Mean over positions of KL(theirs || ours), nats."""
    p, q = softmax(theirs.astype(np.float64)), softmax(ours.astype(np.float64))
    return (p * (np.log(p) - np.log(q))).sum(-1).mean()


def main():
    for case in map(pathlib.Path, sys.argv[1:]):
        config, weights = read_model(case / "model")
        inputs = read_safetensors(case / "transformers.safetensors")
        logits = forward(config, weights, inputs["ids"], inputs["positions"])
        results = {"logits": logits, "loss": np.asarray(summed_loss(logits, inputs["labels"]))}
        for ours, names in by_our_name(weights).items():
            results[f"slope.{ours}"] = np.asarray(slope(config, weights, names, inputs))
        made_by = "float64_reference.py (numpy); remake: make goldens"
        write_safetensors(case / "float64.safetensors", results, {"made_by": made_by})
        print(f"{case.name}: KL(transformers || float64) {kl(inputs['logits'], logits):.1e}, "
              f"largest |logit difference| {abs(inputs['logits'] - logits).max():.1e}")


if __name__ == "__main__":
    main()
