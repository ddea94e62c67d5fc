"""One training step of Hugging Face transformers' Qwen3 on the CPU, the peer of `make bench`.

Step = zero_grad, forward, loss, backward, clip 1.0, fused AdamW. bf16: float32 parameters under autocast. Random ids.
Prints one JSON line: tokens_per_second (of the median step), step_seconds and step_cpu_seconds (all after the warm-up),
peak_rss_bytes.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import transformers

SIZES = {  # hidden, layers, heads, kv heads, ffn, vocab
    "debugmodel": (256, 8, 16, 8, 3072, 2048),
    "0.6B": (1024, 28, 16, 8, 3072, 151936),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flavor", choices=SIZES, default="debugmodel")
    parser.add_argument("--vocab", type=int, help="default: the flavor's")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4, help="measured")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before those")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    hidden, layers, heads, kv_heads, ffn, vocab = SIZES[args.flavor]
    vocab = args.vocab or vocab
    config = transformers.Qwen3Config(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        head_dim=128, intermediate_size=ffn, vocab_size=vocab, tie_word_embeddings=True, rope_theta=1e6,
        attn_implementation="sdpa", use_cache=False)  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    ids = torch.randint(vocab, (args.batch, args.seq_len))
    seconds, cpu_seconds = [], []
    for _ in range(args.warm_up + args.steps):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bfloat16"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
    measured = seconds[args.warm_up :]
    print(json.dumps({
        "peer": f"transformers {transformers.__version__} eager, torch {torch.__version__}",
        "flavor": args.flavor, "vocab": vocab, "precision": args.precision, "batch": args.batch,
        "seq_len": args.seq_len, "threads": args.threads, "loss": loss.item(),
        "tokens_per_second": args.batch * args.seq_len / statistics.median(measured),
        "step_seconds": measured,
        "step_cpu_seconds": cpu_seconds[args.warm_up :],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
