"""The quickstart job with Hugging Face transformers: same text, tokenizer, model, batch and schedule. The peer of
service_bench.py with the whole quickstart. One JSON line: wall_seconds, validation_loss, tokens_per_second, steps.

400 steps of 1,024 tokens (4 x 256), lr 2e-3, 20 warm-up steps, linear decay over the last 30 %, fused AdamW
(0.9, 0.95), weight decay 0.1, clip 1.0; float32 parameters under bfloat16 autocast. The wall time begins after the
imports and ends after the validation of the last step and the export.

usage: hf_quickstart.py TIKTOKEN TEXT_FOLDER QWEN3CTL [STEPS]
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
import transformers

BATCH, LENGTH = 4, 256
WARM_UP, DECAY_SHARE, PEAK_LR, HELD_OUT, VALIDATE_EVERY = 20, 0.3, 2e-3, 0.02, 100


def tokenize(tiktoken, folder, qwen3ctl):
    """All plays in order of their names, an end-of-text after each, as one tensor. Ids do not depend on who makes
    them (tests/tokenizer), so the product's own client does."""
    plays = [path.read_text(encoding="utf-8") for path in sorted(pathlib.Path(folder).iterdir())]
    lines = "".join(json.dumps(play) + "\n" for play in [*plays, "<|endoftext|>"])
    command = [qwen3ctl, "tokenize", "--tokenizer", tiktoken]
    output = subprocess.run(command, input=lines, text=True, check=True, stdout=subprocess.PIPE).stdout
    *plays, end = (json.loads(line) for line in output.splitlines())
    return torch.tensor([token for play in plays for token in play + end])


def lr_factor(step, steps):
    decay = round(steps * DECAY_SHARE)
    if step <= WARM_UP:
        return step / WARM_UP
    return min(1.0, (steps - step + 1) / decay)


def validation_loss(model, sequences):
    total = count = 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for batch in sequences.split(BATCH):
            labels = batch.clone()
            total += model(input_ids=batch, labels=labels).loss.item() * batch.shape[0]
            count += batch.shape[0]
    return total / count


def main():
    if len(sys.argv) not in (4, 5):
        raise SystemExit(__doc__)
    tiktoken, folder, qwen3ctl = sys.argv[1:4]
    steps = int(sys.argv[4]) if len(sys.argv) == 5 else 400
    torch.set_num_threads(2)
    torch.manual_seed(0)
    begin = time.perf_counter()
    ids = tokenize(tiktoken, folder, qwen3ctl)
    sequences = ids[: len(ids) // LENGTH * LENGTH].view(-1, LENGTH)
    held_out = round(len(sequences) * HELD_OUT)
    train, validation = sequences[:-held_out], sequences[-held_out:]
    order = torch.randperm(len(train))
    config = transformers.Qwen3Config(
        hidden_size=256, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
        intermediate_size=3072, vocab_size=2048, tie_word_embeddings=True, rope_theta=1e6, attn_implementation="sdpa",
        use_cache=False)  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    for step in range(1, steps + 1):
        first = (step - 1) * BATCH
        batch = train[order[torch.arange(first, first + BATCH) % len(order)]]
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * lr_factor(step, steps)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % VALIDATE_EVERY == 0 or step == steps:
            held_out_loss = validation_loss(model, validation)
            print(f"step {step}: loss {loss.item():.4f}, validation {held_out_loss:.4f}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as export:
        model.save_pretrained(export)
    wall = time.perf_counter() - begin
    print(json.dumps({
        "peer": f"transformers {transformers.__version__} eager, torch {torch.__version__}", "steps": steps,
        "wall_seconds": wall, "validation_loss": held_out_loss,
        "tokens_per_second": steps * BATCH * LENGTH / wall,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
