"""Small Qwen3 models as Hugging Face folders, and what transformers computes with them in float32 on the CPU.

For each case writes tests/golden/hf/CASE/model (config.json and weights), README.md, and transformers.safetensors:
inputs, logits, summed loss, the gradient of every parameter under this project's names, and of five AdamW steps the
loss, gradient norm and learning rate. float64_reference.py adds float64.safetensors. hf/router_bf16.safetensors holds
which experts transformers' router chooses in bfloat16. Run by `make goldens`.
"""

import json
import pathlib
import shutil

import safetensors.torch
import torch
import transformers
from parameter_names import by_our_name
from transformers.models.qwen3_moe import modeling_qwen3_moe

OUT = pathlib.Path(__file__).parent / "hf"
LENGTH = 24
# Of the five steps; the test sets the same in our trainer. Warm-up 2, then stable, then linear decay over the last 2.
LR, LR_FACTORS = 1e-2, (0.5, 1.0, 1.0, 1.0, 0.5)
ADAMW = dict(betas=(0.9, 0.95), eps=1e-8)
WEIGHT_DECAY, MAX_NORM = 0.1, 1.0
MADE_BY = f"transformers {transformers.__version__}, torch {torch.__version__}, float32, CPU; remake: make goldens"

DENSE, MOE = transformers.Qwen3Config, transformers.Qwen3MoeConfig
# `starts`: where later documents of each sequence begin. `first`: position of each sequence's first token.
CASES = {
    "dense_tied": dict(
        about="dense, tied, grouped queries 3:1, head_dim 16 is not 24 / 3; plain sequences; stored in float32",
        config=DENSE, stored=torch.float32, starts=[[], []],
        sizes=dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=16,
                   intermediate_size=40, vocab_size=103, rope_theta=1e6, tie_word_embeddings=True)),
    "dense_untied_sharded": dict(
        about="dense, untied, grouped queries 2:1, packed documents; stored in bfloat16, in several files with an index",
        config=DENSE, stored=torch.bfloat16, starts=[[5, 6, 17], []], max_shard_size=16_000,
        sizes=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3, head_dim=8,
                   intermediate_size=56, vocab_size=97, rope_theta=1e4, tie_word_embeddings=False)),
    "dense_yarn": dict(
        about="dense, tied, one kv head per head, YaRN, one sequence at positions past the original context; float16",
        config=DENSE, stored=torch.float16, starts=[[11], []], first=[0, 40_000],
        sizes=dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
                   intermediate_size=40, vocab_size=101, rope_theta=1e6, tie_word_embeddings=True,
                   max_position_embeddings=131_072,
                   rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32_768))),
    "moe_renormalised": dict(
        about="8 experts, 2 per token, norm_topk_prob, untied, packed documents; stored in bfloat16",
        config=MOE, stored=torch.bfloat16, starts=[[9], [13, 20]],
        sizes=dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                   intermediate_size=64, moe_intermediate_size=12, num_experts=8, num_experts_per_tok=2,
                   norm_topk_prob=True, vocab_size=101, rope_theta=1e6, tie_word_embeddings=False)),
    "moe_raw": dict(
        about="16 experts, 4 per token, norm_topk_prob false, tied; stored in float32",
        config=MOE, stored=torch.float32, starts=[[], [8]], seed=1,  # a seed for which every expert has tokens
        sizes=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=12,
                   intermediate_size=64, moe_intermediate_size=8, num_experts=16, num_experts_per_tok=4,
                   norm_topk_prob=False, vocab_size=107, rope_theta=1e6, tie_word_embeddings=True)),
}  # fmt: skip


def make_inputs(vocab, starts, first):
    ids = torch.randint(vocab, (2, LENGTH))
    labels = ids.roll(-1, 1)
    labels[:, -1] = -100
    labels[1, 3:8] = -100
    positions = torch.tensor(first)[:, None] + torch.arange(LENGTH)
    document = torch.zeros(2, LENGTH, dtype=torch.long)
    for row, row_starts in enumerate(starts):
        for start in row_starts:
            positions[row, start:] = torch.arange(LENGTH - start)
            document[row, start:] += 1
            labels[row, start - 1] = -100
    allowed = (document[:, :, None] == document[:, None, :]).tril()[:, None]
    return ids, labels, positions, allowed


class Case:
    """A model in float32 with its one batch."""

    def __init__(self, model, ids, labels, positions, allowed):
        self.model, self.ids, self.labels, self.positions, self.allowed = model, ids, labels, positions, allowed
        self.closest = float("inf")  # of all routing decisions: least relative distance to another choice
        for name, module in model.named_modules():
            if name.endswith("mlp.gate"):
                module.register_forward_hook(self.check_routing)

    def logits(self):
        return self.model(input_ids=self.ids, position_ids=self.positions, attention_mask=self.allowed,
                          use_cache=False).logits  # fmt: skip

    def check_routing(self, _module, _input, logits):
        """The values are only a reference if rounding cannot change a choice and every expert has a gradient."""
        k, experts = self.model.config.num_experts_per_tok, self.model.config.num_experts
        probability, chosen = logits.detach().softmax(-1).sort(-1, descending=True)
        self.closest = min(self.closest, (1 - probability[:, k] / probability[:, k - 1]).min().item())
        busy = chosen[:, :k].unique().numel()
        assert busy == experts and self.closest > 1e-4, (
            f"another seed is needed: {busy} of {experts} experts have tokens, two are only {self.closest:.1e} apart")

    def summed_loss(self, logits):
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.labels.flatten(), ignore_index=-100,
                                                 reduction="sum")  # fmt: skip

    def gradients(self):
        parameters = dict(self.model.named_parameters())
        grouped = by_our_name(parameters)
        return {
            ours: torch.stack([parameters[n].grad for n in names]) if ".experts." in ours else parameters[names[0]].grad
            for ours, names in grouped.items()
        }

    def train(self):
        """Five steps over the same batch -> loss (mean over valid tokens), norm before clipping, lr: each [5]."""
        groups = [
            {"params": [p for n, p in self.model.named_parameters() if ("norm" in n) == norm], "weight_decay": decay}
            for norm, decay in ((False, WEIGHT_DECAY), (True, 0.0))
        ]
        optimizer = torch.optim.AdamW(groups, **ADAMW)
        losses, norms, rates = [], [], [LR * factor for factor in LR_FACTORS]
        for rate in rates:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss = self.summed_loss(self.logits()) / self.labels.ne(-100).sum()
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM).item())
            losses.append(loss.item())
            optimizer.step()
        assert max(norms) > MAX_NORM, f"nothing is clipped: {norms}"
        return [torch.tensor(values, dtype=torch.float64) for values in (losses, norms, rates)]


def random_model(case, folder):
    """Writes random weights as transformers does and gives what it loads from there, in float32."""
    sizes = {"max_position_embeddings": 64, **case["sizes"]}
    config = case["config"](**sizes, rms_norm_eps=1e-6, attention_bias=False, router_aux_loss_coef=0.0,
                            bos_token_id=None, eos_token_id=None, attn_implementation="sdpa")  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.uniform_(0.5, 1.5) if "norm" in name else parameter.normal_(0, 0.2)
    model.to(case["stored"]).save_pretrained(folder, max_shard_size=case.get("max_shard_size", "1GB"))
    (folder / "generation_config.json").unlink()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def readme(name, about):
    return (
        f"# {name}\n{about[0].upper()}{about[1:]}.\n\n"
        "- `model/`: random weights, written by transformers.\n"
        "- `transformers.safetensors`: inputs and what transformers computes in float32 (made by"
        " `tests/golden/make_hf_goldens.py`).\n"
        "- `float64.safetensors`: the same model in float64, by `tests/golden/float64_reference.py`.\n\n"
        f"Versions: {MADE_BY}. Remake: `make goldens`.\n"
    )


def make_case(name, case):
    torch.manual_seed(20261124 + case.get("seed", 0))
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model = random_model(case, folder / "model")
    inputs = make_inputs(case["sizes"]["vocab_size"], case["starts"], case.get("first", [0, 0]))
    run = Case(model, *inputs)
    logits = run.logits()
    loss = run.summed_loss(logits)
    loss.backward()
    tensors = {"ids": run.ids, "labels": run.labels, "positions": run.positions}
    tensors |= {"logits": logits.detach(), "loss": loss.detach()}
    tensors |= {f"gradient.{ours}": gradient.clone() for ours, gradient in run.gradients().items()}
    tensors |= dict(zip(("step.loss", "step.norm", "step.lr"), run.train()))
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "transformers.safetensors",
                                {"made_by": f"make_hf_goldens.py, {MADE_BY}"})  # fmt: skip
    (folder / "README.md").write_text(readme(name, case["about"]))
    routing = f", closest routing decision {run.closest:.0e}" if "moe" in name else ""
    print(f"{name}: loss {loss.item():.4f}, of five steps {[round(x, 4) for x in tensors['step.loss'].tolist()]}{routing}")


def make_fused(source, name):
    """The layout of transformers 5, which 4.57 cannot write: a layer's experts as two stacks, gate above up, and the
    rotary settings as one object."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    config = json.loads((OUT / source / "model/config.json").read_text())
    config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), "rope_type": "default"}
    config["dtype"] = config.pop("dtype", None) or config.pop("torch_dtype")
    assert config.pop("rope_scaling") is None
    config["transformers_version"] = "5.0.0"
    (folder / "model/config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    plain = safetensors.torch.load_file(OUT / source / "model/model.safetensors")
    fused = {n: w for n, w in plain.items() if ".mlp.experts." not in n}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.mlp.experts."
        experts = [
            {m: plain[f"{prefix}{e}.{m}_proj.weight"] for m in ("gate", "up", "down")}
            for e in range(config["num_experts"])
        ]
        fused[f"{prefix}gate_up_proj"] = torch.stack([torch.cat((e["gate"], e["up"])) for e in experts])
        fused[f"{prefix}down_proj"] = torch.stack([e["down"] for e in experts])
    safetensors.torch.save_file(fused, folder / "model/model.safetensors", {"format": "pt"})
    (folder / "README.md").write_text(
        f"# {name}\nThe weights of `../{source}` in the fused layout of transformers 5 (`experts.gate_up_proj`,"
        " `experts.down_proj`), by `make_fused` in\n`tests/golden/make_hf_goldens.py`. What it must compute is in"
        f" `../{source}`. Remake: `make goldens`.\n"
    )


def make_router():
    """How transformers' MoE layer routes in bfloat16, for tokens whose result does not hang on how a bfloat16 GEMM adds:
    no logit lies near the middle of two bfloat16 numbers, and no two logits tie at the edge of the choice (torch.topk
    says nothing of ties). Rounding keeps the order of logits, so what it changes is the experts' weights."""
    torch.manual_seed(20261124)
    experts, k, dim = 16, 4, 32
    config = MOE(hidden_size=dim, moe_intermediate_size=8, num_experts=experts, num_experts_per_tok=k,
                 norm_topk_prob=True)  # fmt: skip
    block = modeling_qwen3_moe.Qwen3MoeSparseMoeBlock(config).to(torch.bfloat16)
    with torch.no_grad():
        block.gate.weight.normal_(0, 1)
        x = torch.randn(1, 2048, dim).to(torch.bfloat16)
        logits = block(x)[1]
    # The layer returns its logits only; these are the lines of its forward that follow.
    weights, chosen = torch.topk(torch.nn.functional.softmax(logits, dim=1, dtype=torch.float), k, dim=-1)
    weights = (weights / weights.sum(dim=-1, keepdim=True)).to(torch.bfloat16)

    exact = x[0].double() @ block.gate.weight.double().T
    spacing = 2.0 ** (exact.abs().log2().floor() - 7)  # bfloat16 keeps 8 bits
    off_middle = ((exact / spacing).frac().abs() - 0.5).abs().amin(1) > 1e-2
    ordered = logits.sort(-1, descending=True).values
    clear = ordered[:, k - 1] != ordered[:, k]
    kept = (off_middle & clear).nonzero()[:64, 0]
    tensors = {
        "x": x[0, kept].float(),
        "gate": block.gate.weight.detach().float(),
        "weights": torch.zeros(len(kept), experts).scatter_(1, chosen[kept], weights[kept].float()),  # 0: not chosen
    }
    safetensors.torch.save_file({n: t.contiguous() for n, t in tensors.items()}, OUT / "router_bf16.safetensors",
                                {"made_by": f"make_hf_goldens.py, {MADE_BY.replace('float32', 'bfloat16')}"})  # fmt: skip
    print(f"router_bf16: {len(kept)} tokens")


def main():
    torch.set_num_threads(1)  # so that sums do not depend on the machine's cores
    for name, case in CASES.items():
        make_case(name, case)
    make_fused("moe_renormalised", "moe_fused")
    make_router()


if __name__ == "__main__":
    main()
