"""Hugging Face's name of a Qwen3 parameter -> this project's name, and which expert's matrix it is. Written apart from
the C++ mapping, so that a mistake in either shows: the goldens hold these names."""

SUFFIXES = {
    "input_layernorm.weight": "attention_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attention.wq.weight",
    "self_attn.k_proj.weight": "attention.wk.weight",
    "self_attn.v_proj.weight": "attention.wv.weight",
    "self_attn.o_proj.weight": "attention.wo.weight",
    "self_attn.q_norm.weight": "attention.q_norm.weight",
    "self_attn.k_norm.weight": "attention.k_norm.weight",
    "mlp.gate_proj.weight": "feed_forward.w1.weight",
    "mlp.down_proj.weight": "feed_forward.w2.weight",
    "mlp.up_proj.weight": "feed_forward.w3.weight",
    "mlp.gate.weight": "moe.router.gate.weight",
}
EXPERT = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
OTHERS = {
    "model.embed_tokens.weight": "tok_embeddings.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "lm_head.weight",
}


def our_name(name):
    """-> (name, None), or for one expert's matrix (name of the stack, expert)."""
    if name in OTHERS:
        return OTHERS[name], None
    _, layers, layer, suffix = name.split(".", 3)  # model.layers.N.SUFFIX
    if suffix.startswith("mlp.experts."):
        expert, matrix, _ = suffix.removeprefix("mlp.experts.").split(".")
        return f"{layers}.{layer}.moe.experts.{EXPERT[matrix]}", int(expert)
    return f"{layers}.{layer}.{SUFFIXES[suffix]}", None


def by_our_name(hf_names):
    """-> {our name: its Hugging Face tensors in order}; more than one are stacked along a new first dim."""
    groups = {}
    for name in hf_names:
        ours, expert = our_name(name)
        groups.setdefault(ours, []).append((expert or 0, name))
    return {ours: [name for _, name in sorted(parts)] for ours, parts in groups.items()}
