// The Hugging Face export. That transformers loads it without a missing or unexpected key is bench/check_hf_export.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "checkpoint/float_conversion.h"
#include "checkpoint/hf/export.h"
#include "tests/checkpoint/hf_scene.h"
#include "tests/checkpoint/scene.h"
#include "tokenizer/tokenizer.h"

namespace qwen3::checkpoint {
namespace {

using testing::bytes_of;
using testing::count_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ramp;
using testing::TemporaryFolder;
using testing::tiny_dense;

// Values of the i-th tensor: 1/3 apart, so that 16 bits need rounding.
std::vector<float> values_of(size_t index, const std::vector<int64_t>& shape) {
  std::vector<float> values = ramp(count_of(shape), static_cast<float>(1000 * index));
  for (float& value : values) value /= 3.0F;
  return values;
}

// Commits a checkpoint of these tensors, as one rank or cut over two.
void commit(const std::string& folder, const std::vector<HfTensor>& tensors, int ranks = 1) {
  std::filesystem::create_directories(folder);
  std::vector<Manifest> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::string file = absl::StrCat("rank-", rank, ".safetensors");
    Manifest part;
    std::vector<std::vector<float>> data;
    std::vector<TensorLayout> layouts;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const std::string name = "model." + tensors[i].parameter;
      const int64_t rows = tensors[i].shape[0], columns = count_of(tensors[i].shape) / rows;
      const int64_t begin = rows * rank / ranks, end = rows * (rank + 1) / ranks;
      const std::vector<float> all = values_of(i, tensors[i].shape);
      data.emplace_back(all.begin() + begin * columns, all.begin() + end * columns);
      std::vector<int64_t> shape = tensors[i].shape;
      shape[0] = end - begin;
      std::vector<int64_t> first(shape.size(), 0);
      first[0] = begin;
      layouts.push_back({name, Dtype::kFloat32, shape});
      part.tensors[name] = {Dtype::kFloat32,
                            tensors[i].shape,
                            {{file, name, {first, shape}}},
                            digest_slice(bytes_of(data.back()), 4, begin * columns)};
    }
    std::vector<TensorBytes> bytes;
    for (size_t i = 0; i < tensors.size(); ++i) {
      bytes.push_back({layouts[i].name, layouts[i].dtype, layouts[i].shape, bytes_of(data[i])});
    }
    const auto written = write_safetensors(absl::StrCat(folder, "/", file), bytes);
    ASSERT_TRUE(written.ok()) << written.status();
    part.files[file] = *written;
    parts.push_back(part);
  }
  ASSERT_TRUE(write_manifest(folder, merge(parts).value()).ok());
}

// 256 bytes and three merges; with the 26 added tokens 285 ids.
std::string small_tiktoken() {
  std::string lines;
  int rank = 0;
  const auto add = [&](absl::string_view token) {
    absl::StrAppend(&lines, absl::Base64Escape(token), " ", rank++, "\n");
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const char* token : {"he", "ll", "hell"}) add(token);
  return lines;
}

absl::Status export_tiny(const TemporaryFolder& folder, bool tied, const HfExport& options) {
  const auto reader = Reader::open(folder.file("checkpoint"));
  if (!reader.ok()) return reader.status();
  return export_hf(*reader, tiny_dense(tied), options, folder.file("hf"));
}

TEST(HfNames, AreThoseOfTransformers) {
  EXPECT_EQ(hf_name("tok_embeddings.weight"), "model.embed_tokens.weight");
  EXPECT_EQ(hf_name("norm.weight"), "model.norm.weight");
  EXPECT_EQ(hf_name("lm_head.weight"), "lm_head.weight");
  EXPECT_EQ(hf_name("layers.0.attention_norm.weight"), "model.layers.0.input_layernorm.weight");
  EXPECT_EQ(hf_name("layers.3.attention.wq.weight"), "model.layers.3.self_attn.q_proj.weight");
  EXPECT_EQ(hf_name("layers.3.attention.wk.weight"), "model.layers.3.self_attn.k_proj.weight");
  EXPECT_EQ(hf_name("layers.3.attention.wv.weight"), "model.layers.3.self_attn.v_proj.weight");
  EXPECT_EQ(hf_name("layers.3.attention.wo.weight"), "model.layers.3.self_attn.o_proj.weight");
  EXPECT_EQ(hf_name("layers.27.attention.q_norm.weight"), "model.layers.27.self_attn.q_norm.weight");
  EXPECT_EQ(hf_name("layers.27.attention.k_norm.weight"), "model.layers.27.self_attn.k_norm.weight");
  EXPECT_EQ(hf_name("layers.10.ffn_norm.weight"), "model.layers.10.post_attention_layernorm.weight");
  EXPECT_EQ(hf_name("layers.10.feed_forward.w1.weight"), "model.layers.10.mlp.gate_proj.weight");
  EXPECT_EQ(hf_name("layers.10.feed_forward.w2.weight"), "model.layers.10.mlp.down_proj.weight");
  EXPECT_EQ(hf_name("layers.10.feed_forward.w3.weight"), "model.layers.10.mlp.up_proj.weight");
  for (const char* unknown : {"", "layers", "layers.", "layers.x.ffn_norm.weight", "layers.01.ffn_norm.weight",
                              "layers.1", "layers.1.ffn_norm", "layers..ffn_norm.weight", "model.norm.weight"}) {
    EXPECT_EQ(hf_name(unknown), "") << unknown;
  }
}

TEST(HfNames, EveryDenseFlavorHasAllItsParametersOnce) {
  for (const spec::ModelShape& model : spec::flavors()) {
    if (model.experts > 0) continue;
    int64_t parameters = 0;
    std::set<std::string> names;
    for (const HfTensor& tensor : hf_tensors(model)) {
      parameters += count_of(tensor.shape);
      EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
      EXPECT_NE(tensor.name, "") << tensor.parameter;
    }
    EXPECT_EQ(parameters, spec::parameter_count(model)) << model.flavor;
    EXPECT_EQ(names.contains("lm_head.weight"), !model.tied) << model.flavor;
  }
}

TEST(FloatConversion, HandWorkedValuesRoundToNearestEven) {
  const auto bf16 = [](uint32_t bits) { return bfloat16_bits(std::bit_cast<float>(bits)); };
  EXPECT_EQ(bf16(0x3f800000), 0x3f80);  // 1
  EXPECT_EQ(bf16(0x3f808000), 0x3f80);  // a tie: down to even
  EXPECT_EQ(bf16(0x3f818000), 0x3f82);  // a tie: up to even
  EXPECT_EQ(bf16(0x3f808001), 0x3f81);  // just above a tie
  EXPECT_EQ(bf16(0x3fffffff), 0x4000);  // the carry reaches the exponent
  EXPECT_EQ(bf16(0xbf808001), 0xbf81);
  EXPECT_EQ(bf16(0x80000000), 0x8000);  // -0
  EXPECT_EQ(bf16(0x00000001), 0x0000);  // smallest denormal
  EXPECT_EQ(bf16(0x00018000), 0x0002);  // denormals tie to even too
  EXPECT_EQ(bf16(0x7f7fffff), 0x7f80);  // the largest float becomes infinite
  EXPECT_EQ(bf16(0x7f800000), 0x7f80);  // inf
  EXPECT_EQ(bf16(0xff800000), 0xff80);
  EXPECT_EQ(bf16(0x7f800001), 0x7fc0);  // a NaN whose upper half alone is infinity
  EXPECT_EQ(bf16(0xffffffff), 0xffff);  // a NaN that must not carry over to 0

  EXPECT_EQ(float16_bits(1.0F), 0x3c00);
  EXPECT_EQ(float16_bits(-2.0F), 0xc000);
  EXPECT_EQ(float16_bits(65504.0F), 0x7bff);  // largest
  EXPECT_EQ(float16_bits(65519.9F), 0x7bff);
  EXPECT_EQ(float16_bits(65520.0F), 0x7c00);    // a tie with 65536: to even, infinite
  EXPECT_EQ(float16_bits(0x1p-14F), 0x0400);    // smallest normal
  EXPECT_EQ(float16_bits(0x1p-24F), 0x0001);    // smallest denormal
  EXPECT_EQ(float16_bits(0x1p-25F), 0x0000);    // a tie with 0
  EXPECT_EQ(float16_bits(0x1.8p-24F), 0x0002);  // a tie: up to even
  EXPECT_EQ(float16_bits(-0x1.1p-25F), 0x8001);
  EXPECT_EQ(float16_bits(0x1.ffep-15F), 0x0400);  // a denormal that rounds to a normal
}

TEST(FloatConversion, Float16IsTheCompilersEverywhere) {
  for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 1009) {  // prime: all exponents, all kinds of mantissa
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    const uint16_t wanted = std::bit_cast<uint16_t>(static_cast<_Float16>(value));
    const uint16_t got = float16_bits(value);
    if (value != value) {
      ASSERT_TRUE((got & 0x7c00) == 0x7c00 && (got & 0x3ff) != 0) << std::hex << bits;
    } else {
      ASSERT_EQ(got, wanted) << std::hex << bits;
    }
  }
}

TEST(FloatConversion, Bfloat16IsTheNearestOfItsNeighbours) {
  for (uint64_t bits = 0; bits < 0x7f7f0000; bits += 1009) {
    const double value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    const auto at = [](uint64_t upper) -> double { return std::bit_cast<float>(static_cast<uint32_t>(upper << 16)); };
    const uint64_t below = bits >> 16;
    const double down = value - at(below), up = at(below + 1) - value;  // exact in double
    const uint64_t wanted = down < up ? below : up < down ? below + 1 : below + (below & 1);
    ASSERT_EQ(bfloat16_bits(static_cast<float>(value)), wanted) << std::hex << bits;
  }
}

TEST(HfExport, ATiedModelHasItsWeightsUnderHfsNamesAndNoHead) {
  const TemporaryFolder folder;
  const auto tensors = hf_tensors(tiny_dense(/*tied=*/true));
  commit(folder.file("checkpoint"), tensors, /*ranks=*/2);
  ASSERT_TRUE(export_tiny(folder, true, {}).ok()) << export_tiny(folder, true, {});
  EXPECT_THAT(testing::names_in(folder.file("hf")),
              ElementsAre("config.json", "generation_config.json", "model.safetensors"));

  const std::string path = folder.file("hf/model.safetensors");
  const auto header = read_safetensors_header(path);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_EQ(header->tensors.size(), 2 + 2 * 11U);
  EXPECT_FALSE(header->tensors.contains("lm_head.weight"));
  for (size_t i = 0; i < tensors.size(); ++i) {
    SCOPED_TRACE(tensors[i].name);
    EXPECT_EQ(header->tensors.at(tensors[i].name).shape, tensors[i].shape);
    const std::vector<float> wanted = values_of(i, tensors[i].shape);
    std::vector<float> got(wanted.size());
    const auto into = std::as_writable_bytes(std::span(got));
    ASSERT_TRUE(read_tensor_bytes(path, *header, tensors[i].name, 0, into).ok());
    EXPECT_EQ(got, wanted);
  }
}

TEST(HfExport, AnUntiedModelHasAHead) {
  const TemporaryFolder folder;
  commit(folder.file("checkpoint"), hf_tensors(tiny_dense(/*tied=*/false)));
  ASSERT_TRUE(export_tiny(folder, false, {}).ok());
  EXPECT_THAT(read_safetensors_header(folder.file("hf/model.safetensors"))->tensors.at("lm_head.weight").shape,
              ElementsAre(300, 8));
  EXPECT_EQ(nlohmann::json::parse(testing::read_bytes(folder.file("hf/config.json")))["tie_word_embeddings"], false);
}

TEST(HfExport, SixteenBitWeightsAreTheRoundedOnes) {
  const TemporaryFolder folder;
  const auto tensors = hf_tensors(tiny_dense(true));
  commit(folder.file("checkpoint"), tensors);
  for (const std::string dtype : {"bfloat16", "float16"}) {
    ASSERT_TRUE(export_tiny(folder, true, {.dtype = dtype}).ok());
    EXPECT_EQ(nlohmann::json::parse(testing::read_bytes(folder.file("hf/config.json")))["torch_dtype"], dtype);
    const std::string path = folder.file("hf/model.safetensors");
    const auto header = read_safetensors_header(path);
    const std::vector<float> values = values_of(0, tensors[0].shape);
    std::vector<uint16_t> got(values.size());
    const auto into = std::as_writable_bytes(std::span(got));
    ASSERT_TRUE(read_tensor_bytes(path, *header, tensors[0].name, 0, into).ok());
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(got[i], dtype == "bfloat16" ? bfloat16_bits(values[i]) : float16_bits(values[i]));
    }
  }
}

TEST(HfExport, LargeWeightsAreCutIntoFilesWithAnIndex) {
  const TemporaryFolder folder;
  const auto tensors = hf_tensors(tiny_dense(false));
  commit(folder.file("checkpoint"), tensors);
  ASSERT_TRUE(export_tiny(folder, false, {.max_file_bytes = 4000}).ok());
  const auto index = nlohmann::json::parse(testing::read_bytes(folder.file("hf/model.safetensors.index.json")));
  EXPECT_EQ(index["weight_map"].size(), tensors.size());
  EXPECT_EQ(index["metadata"]["total_size"], 4 * spec::parameter_count(tiny_dense(false)));

  std::set<std::string> files;
  for (const HfTensor& tensor : tensors) {
    const std::string file = index["weight_map"][tensor.name];
    files.insert(file);
    EXPECT_TRUE(read_safetensors_header(folder.file("hf/" + file))->tensors.contains(tensor.name)) << tensor.name;
  }
  size_t stored = 0;
  for (const std::string& file : files) {
    const auto header = read_safetensors_header(folder.file("hf/" + file));
    stored += header->tensors.size();
    // The embedding and the head are larger than a file may be, so each is alone.
    EXPECT_TRUE(header->tensors.size() == 1 ||
                static_cast<int64_t>(std::filesystem::file_size(folder.file("hf/" + file))) - header->data_offset <=
                    4000);
  }
  EXPECT_EQ(stored, tensors.size());
  EXPECT_GT(files.size(), 3U);
  EXPECT_EQ(*files.begin(), absl::StrFormat("model-00001-of-%05d.safetensors", files.size()));
}

TEST(HfExport, TheConfigHasEveryFieldOfTheModel) {
  const TemporaryFolder folder;
  commit(folder.file("checkpoint"), hf_tensors(tiny_dense(true)));
  ASSERT_TRUE(export_tiny(folder, true, {}).ok());
  const auto wanted = nlohmann::json::parse(R"({
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": null,
    "eos_token_id": null, "head_dim": 4, "hidden_act": "silu", "hidden_size": 8, "initializer_range": 0.02,
    "intermediate_size": 20, "max_position_embeddings": 64, "max_window_layers": 2, "model_type": "qwen3",
    "num_attention_heads": 3, "num_hidden_layers": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-06,
    "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": true,
    "torch_dtype": "float32", "use_cache": true, "use_sliding_window": false, "vocab_size": 300})");
  EXPECT_EQ(nlohmann::json::parse(testing::read_bytes(folder.file("hf/config.json"))), wanted);
}

TEST(HfExport, ATiktokenFileBecomesATokenizerJsonThatEncodesAlike) {
  const TemporaryFolder folder;
  commit(folder.file("checkpoint"), hf_tensors(tiny_dense(true)));
  testing::write_bytes(folder.file("small.tiktoken"), small_tiktoken());
  ASSERT_TRUE(export_tiny(folder, true, {.tokenizer = folder.file("small.tiktoken")}).ok());

  const auto ours = tokenizer::Tokenizer::load(folder.file("small.tiktoken"));
  const auto exported = tokenizer::Tokenizer::load(folder.file("hf/tokenizer.json"));
  ASSERT_TRUE(exported.ok()) << exported.status();
  const std::string text = "hello \xc3\xa9<|im_end|> shell\n";
  EXPECT_EQ(exported->encode(text).value(), ours->encode(text).value());

  const auto config = nlohmann::json::parse(testing::read_bytes(folder.file("hf/config.json")));
  EXPECT_EQ(config["bos_token_id"], 259);  // "<|endoftext|>", after 256 bytes and 3 merges
  EXPECT_EQ(config["eos_token_id"], 261);  // "<|im_end|>"
  const auto tokenizer_config = nlohmann::json::parse(testing::read_bytes(folder.file("hf/tokenizer_config.json")));
  EXPECT_EQ(tokenizer_config["eos_token"], "<|im_end|>");
  EXPECT_EQ(tokenizer_config["added_tokens_decoder"]["259"]["content"], "<|endoftext|>");

  // An exported tokenizer is a source itself: both files are copied.
  testing::write_bytes(folder.file("hf/tokenizer_config.json"), "{\"mine\": 1}");
  std::filesystem::rename(folder.file("hf"), folder.file("source"));
  ASSERT_TRUE(export_tiny(folder, true, {.tokenizer = folder.file("source/tokenizer.json")}).ok());
  for (const char* name : {"/tokenizer.json", "/tokenizer_config.json"}) {
    EXPECT_EQ(testing::read_bytes(folder.file("hf") + name), testing::read_bytes(folder.file("source") + name));
  }
}

TEST(HfExport, WithoutATokenizerTheFullVocabularyHasQwen3sIds) {
  const TemporaryFolder folder;
  spec::ModelShape model = tiny_dense(true);
  model.vocab = 151936;
  commit(folder.file("checkpoint"), hf_tensors(model));
  ASSERT_TRUE(export_hf(Reader::open(folder.file("checkpoint")).value(), model, {}, folder.file("hf")).ok());
  const auto config = nlohmann::json::parse(testing::read_bytes(folder.file("hf/config.json")));
  EXPECT_EQ(config["bos_token_id"], 151643);
  EXPECT_EQ(config["eos_token_id"], 151645);
}

TEST(HfExport, AnEarlierExportIsReplacedAndAnythingElseIsKept) {
  const TemporaryFolder folder;
  commit(folder.file("checkpoint"), hf_tensors(tiny_dense(true)));
  std::filesystem::create_directories(folder.file("hf"));
  testing::write_bytes(folder.file("hf/thesis.txt"), "years of work");
  EXPECT_TRUE(absl::IsAlreadyExists(export_tiny(folder, true, {})));
  EXPECT_THAT(testing::names_in(folder.file("hf")), ElementsAre("thesis.txt"));

  std::filesystem::remove_all(folder.file("hf"));
  ASSERT_TRUE(export_tiny(folder, true, {}).ok());
  testing::write_bytes(folder.file("hf/stale"), "of the earlier export");
  ASSERT_TRUE(export_tiny(folder, true, {.dtype = "bfloat16"}).ok());
  EXPECT_THAT(testing::names_in(folder.file("hf")),
              ElementsAre("config.json", "generation_config.json", "model.safetensors"));
  EXPECT_THAT(testing::names_in(folder.path()), ElementsAre("checkpoint", "hf"));
}

TEST(HfExport, WhatCannotBeExportedIsNamedAndLeavesNothing) {
  const TemporaryFolder folder;
  commit(folder.file("checkpoint"), hf_tensors(tiny_dense(true)));
  testing::write_bytes(folder.file("small.tiktoken"), small_tiktoken());
  const auto reader = Reader::open(folder.file("checkpoint"));
  const auto message = [&](const spec::ModelShape& model, const HfExport& options) {
    return std::string(export_hf(*reader, model, options, folder.file("hf")).message());
  };
  spec::ModelShape model = tiny_dense(true);
  EXPECT_THAT(message(model, {.dtype = "int8"}), HasSubstr("dtype is \"int8\", want float32, bfloat16 or float16"));
  EXPECT_THAT(message(tiny_dense(false), {}), HasSubstr("tensor \"model.lm_head.weight\" is missing"));
  model.layers = 1;
  EXPECT_THAT(message(model, {}), HasSubstr("\"model.layers.1.attention.k_norm.weight\" is no parameter of the model"));
  model = tiny_dense(true);
  model.ffn_hidden = 24;
  EXPECT_THAT(message(model, {}), HasSubstr("feed_forward.w1.weight\" is [20,8], the model wants [24,8]"));
  model = tiny_dense(true);
  model.experts = 4;
  EXPECT_THAT(message(model, {}), HasSubstr("tensor \"model.layers.0.moe.router.gate.weight\" is missing"));
  EXPECT_THAT(message(tiny_dense(true), {.tokenizer = folder.file("none.tiktoken")}), HasSubstr("none.tiktoken"));

  TemporaryFolder small;
  model = tiny_dense(true);
  model.vocab = 284;
  commit(small.file("checkpoint"), hf_tensors(model));
  const absl::Status status = export_hf(Reader::open(small.file("checkpoint")).value(), model,
                                        {.tokenizer = folder.file("small.tiktoken")}, folder.file("hf"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 285 ids, but the model has a vocabulary of 284"));
  EXPECT_THAT(testing::names_in(folder.path()), ElementsAre("checkpoint", "small.tiktoken"));
}

}  // namespace
}  // namespace qwen3::checkpoint
