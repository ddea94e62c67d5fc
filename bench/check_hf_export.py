#!/usr/bin/env python3
"""Loads an exported Hugging Face folder with transformers and says what it thinks of it.

Usage: check_hf_export.py FOLDER [--greedy FILE] [--reference TOKENIZER_JSON --text FILE]

Prints one JSON object: keys that are missing, unexpected or of another shape, the number of parameters, whether the
logits of a short input are finite; with --greedy (what our model computed with the same weights, from `export_case`) how
many of the tokens that transformers generates are others, and the largest difference of logits; with a reference, in
how many lines of FILE the exported tokenizer encodes or decodes differently. Exit 1 if anything is wrong. Needs torch
and transformers; no network.
"""
import argparse
import json
import pathlib
import sys


def check_model(folder):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    ids = torch.arange(16).unsqueeze(0) % config.vocab_size
    with torch.no_grad():
        logits = model(ids).logits
    tied = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    return {
        "class": type(model).__name__,
        "dtype": str(model.dtype),
        "parameters": sum(p.numel() for p in model.parameters()),
        "missing_keys": sorted(info["missing_keys"]),
        "unexpected_keys": sorted(info["unexpected_keys"]),
        "mismatched_keys": sorted(str(key) for key in info["mismatched_keys"]),
        "tied_as_configured": tied == config.tie_word_embeddings,
        "finite_logits": bool(torch.isfinite(logits).all()),
    }


def check_greedy(folder, greedy):
    import safetensors
    import torch
    from transformers import AutoModelForCausalLM

    with safetensors.safe_open(greedy, "pt") as file:
        prompt, ids, logits = int(file.metadata()["prompt"]), file.get_tensor("ids"), file.get_tensor("logits")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        theirs = model(ids).logits
        tokens = model.generate(ids[:, :prompt], attention_mask=torch.ones_like(ids[:, :prompt]), do_sample=False,
                                max_new_tokens=ids.shape[1] - prompt)
    same_length = tokens.shape == ids.shape
    return {"tokens": ids[:, prompt:].numel(),
            "other_tokens": int((tokens != ids).sum()) if same_length else ids[:, prompt:].numel(),
            "ours_are_greedy": bool((logits[:, prompt - 1:-1].argmax(-1) == ids[:, prompt:]).all()),
            "largest_logit_difference": float((theirs - logits).abs().max())}


def check_tokenizer(folder, reference, text):
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    exported = AutoTokenizer.from_pretrained(folder)
    lines = text.read_text(encoding="utf-8").splitlines(keepends=True)
    wanted_from = Tokenizer.from_file(str(reference))
    differences = 0
    for line in lines:
        wanted = wanted_from.encode(line, add_special_tokens=False).ids
        got = exported.encode(line, add_special_tokens=False)
        same_text = exported.decode(got, skip_special_tokens=False, clean_up_tokenization_spaces=False) == \
            wanted_from.decode(wanted, skip_special_tokens=False)
        differences += got != wanted or not same_text
    return {"class": type(exported).__name__, "vocabulary": len(exported), "lines": len(lines),
            "differences": differences}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--greedy", type=pathlib.Path, help="what export_case wrote")
    parser.add_argument("--reference", type=pathlib.Path, help="tokenizer.json to compare the exported one with")
    parser.add_argument("--text", type=pathlib.Path, help="UTF-8 text, compared line by line")
    arguments = parser.parse_args()
    if (arguments.reference is None) != (arguments.text is None):
        parser.error("--reference and --text go together")

    report = {"folder": str(arguments.folder), "model": check_model(arguments.folder)}
    model = report["model"]
    good = model["tied_as_configured"] and model["finite_logits"] and not (
        model["missing_keys"] or model["unexpected_keys"] or model["mismatched_keys"])
    if arguments.greedy is not None:
        greedy = report["greedy"] = check_greedy(arguments.folder, arguments.greedy)
        good = good and greedy["other_tokens"] == 0 and greedy["ours_are_greedy"] and \
            greedy["largest_logit_difference"] <= 1e-4
    if arguments.reference is not None:
        report["tokenizer"] = check_tokenizer(arguments.folder, arguments.reference, arguments.text)
        good = good and report["tokenizer"]["differences"] == 0
    report["ok"] = good
    print(json.dumps(report))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
