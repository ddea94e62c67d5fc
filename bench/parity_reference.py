"""Writes the reference of `qwen3ctl parity` with transformers on CPU: tokens and the logits of a model in float32.

parity_reference.py HF_DIR [OUT], OUT being HF_DIR/parity.safetensors by default. Run it in the environment that
`make bench` builds.
"""

import pathlib
import sys

import safetensors.torch
import torch
import transformers

SEQUENCES, LENGTH = 2, 64


def main():
    folder = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "parity.safetensors"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ids = torch.randint(model.config.vocab_size, (SEQUENCES, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
    about = {"transformers": transformers.__version__, "torch": torch.__version__}
    safetensors.torch.save_file({"ids": ids, "logits": logits.contiguous()}, out, about)
    print(f"{out}: logits {list(logits.shape)}")


if __name__ == "__main__":
    main()
