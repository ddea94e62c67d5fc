// Broken and hostile Hugging Face folders: each is refused with one error that names the tensor or the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "checkpoint/hf/folder.h"
#include "checkpoint/hf/reader.h"
#include "spec/hf_config.h"
#include "tests/checkpoint/hf_scene.h"
#include "tests/checkpoint/scene.h"

namespace qwen3::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::hf_scene;
using testing::HfLayout;
using testing::HfScene;
using testing::TemporaryFolder;
using testing::tiny_dense;
using testing::tiny_moe;

constexpr const char* kWq = "model.layers.0.self_attn.q_proj.weight";
constexpr const char* kUp = "model.layers.1.mlp.experts.4.up_proj.weight";
constexpr const char* kSecond = "model-00002-of-00003.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

struct Broken {
  const char* what;
  std::function<void(HfScene&)> change;            // before it is written
  std::function<void(const std::string&)> damage;  // of the folder
  const char* complaint;
  bool dense = false;
};

void append(const std::string& path, const std::string& bytes) {
  testing::write_bytes(path, testing::read_bytes(path) + bytes);
}
void cut(const std::string& path, size_t bytes) {
  std::string text = testing::read_bytes(path);
  text.resize(text.size() - bytes);
  testing::write_bytes(path, text);
}
void header_length(const std::string& path, uint64_t length) {
  std::string bytes = testing::read_bytes(path);
  bytes.replace(0, 8, reinterpret_cast<const char*>(&length), 8);
  testing::write_bytes(path, bytes);
}
void name_file(HfScene& scene, const std::string& file) { scene.index["weight_map"][kWq] = file; }

std::vector<Broken> broken_folders() {
  const auto nothing = [](HfScene&) {};
  const auto intact = [](const std::string&) {};
  return {
      {"a tensor is missing", [](HfScene& s) { s.remove(kWq), s.index["weight_map"].erase(kWq); }, intact,
       "tensor \"model.layers.0.self_attn.q_proj.weight\" is missing"},
      {"an expert is missing", [](HfScene& s) { s.remove(kUp), s.index["weight_map"].erase(kUp); }, intact,
       "tensor \"model.layers.1.mlp.experts.4.up_proj.weight\" is missing"},
      {"an unexpected tensor", [](HfScene& s) { s.tensor(kWq).name = "model.layers.0.self_attn.q_proj.bias"; }, intact,
       "q_proj.bias\" is in model-"},
      {"a layer too many",
       [](HfScene& s) {
         s.with_index = false;
         for (auto& t : s.tensors) t.file = "model.safetensors";
         s.tensors.push_back({"model.layers.2.input_layernorm.weight",
                              Dtype::kBfloat16,
                              {8},
                              std::string(16, 'x'),
                              "model.safetensors"});
       },
       intact, "tensor \"model.layers.2.input_layernorm.weight\" is unexpected"},
      {"an expert too many",
       [](HfScene& s) {
         auto extra = s.tensor(kUp);
         extra.name = "model.layers.1.mlp.experts.5.up_proj.weight";
         s.index["weight_map"][extra.name] = extra.file;
         s.tensors.push_back(extra);
       },
       intact, "tensor \"model.layers.1.mlp.experts.5.up_proj.weight\" is unexpected"},
      {"a number with a leading zero",
       [](HfScene& s) {
         s.with_index = false;
         for (auto& t : s.tensors) t.file = "model.safetensors";
         s.tensor(kUp).name = "model.layers.01.mlp.experts.4.up_proj.weight";
       },
       intact, "tensor \"model.layers.01.mlp.experts.4.up_proj.weight\" is unexpected"},
      {"a wrong shape",
       [](HfScene& s) {
         s.tensor(kWq).shape = {8, 12};
       },
       intact, "tensor \"model.layers.0.self_attn.q_proj.weight\" is BF16 [8,12], want [12,8] of F32, BF16 or F16"},
      {"a wrong number of dims", [](HfScene& s) { s.tensor(kWq).shape = {96}; }, intact, "is BF16 [96], want [12,8]"},
      {"integers", [](HfScene& s) { s.tensor(kWq).dtype = Dtype::kInt16; }, intact,
       "is I16 [12,8], want [12,8] of F32"},
      {"float64",
       [](HfScene& s) { s.tensor(kWq).dtype = Dtype::kFloat64, s.tensor(kWq).bytes = std::string(96 * 8, '\0'); },
       intact, "is F64 [12,8], want [12,8] of F32"},
      {"fused and expert by expert",
       [](HfScene& s) {
         s.with_index = false;
         for (auto& t : s.tensors) t.file = "model.safetensors";
         s.tensors.push_back({"model.layers.0.mlp.experts.down_proj",
                              Dtype::kBfloat16,
                              {5, 8, 6},
                              std::string(480, 'x'),
                              "model.safetensors"});
       },
       intact, "\"model.layers.0.mlp.experts.down_proj\" is there twice"},
      {"a shard is missing", nothing, [](const std::string& f) { std::filesystem::remove(f + "/" + kSecond); },
       "file model-00002-of-00003.safetensors is missing; model.safetensors.index.json names it"},
      {"a shard is cut", nothing, [](const std::string& f) { cut(f + "/" + kSecond, 1); },
       "model-00002-of-00003.safetensors: tensor \""},
      {"a shard is empty", nothing, [](const std::string& f) { testing::write_bytes(f + "/" + kSecond, ""); },
       "model-00002-of-00003.safetensors: has 0 bytes, not even a header length"},
      {"a shard has a tail", nothing, [](const std::string& f) { append(f + "/" + kSecond, "x"); }, "1 trailing bytes"},
      {"a header of u64::MAX bytes", nothing,
       [](const std::string& f) { header_length(f + "/" + kSecond, UINT64_MAX); },
       "model-00002-of-00003.safetensors: header length 18446744073709551615"},
      {"a header of 99 MB of zeros", nothing,
       [](const std::string& f) {
         header_length(f + "/" + kSecond, 99'999'999);
         ASSERT_EQ(::truncate((f + "/" + kSecond).c_str(), off_t{8} << 30), 0);
       },
       "model-00002-of-00003.safetensors: header byte"},
      {"a shard is a folder", nothing,
       [](const std::string& f) {
         std::filesystem::remove(f + "/" + kSecond);
         std::filesystem::create_directory(f + "/" + kSecond);
       },
       "model-00002-of-00003.safetensors: not a regular file"},
      {"a link out of the folder", nothing,
       [](const std::string& f) {
         std::filesystem::rename(f + "/" + kSecond, f + "-elsewhere");
         std::filesystem::create_symlink(f + "-elsewhere", f + "/" + kSecond);
       },
       "model-00002-of-00003.safetensors: is a symbolic link to "},
      {"a link to nothing", nothing,
       [](const std::string& f) {
         std::filesystem::remove(f + "/" + kSecond);
         std::filesystem::create_symlink("nowhere", f + "/" + kSecond);
       },
       "model-00002-of-00003.safetensors: is a symbolic link to nothing"},
      {"config.json links out", nothing,
       [](const std::string& f) {
         std::filesystem::remove(f + "/config.json");
         std::filesystem::create_symlink("/etc/passwd", f + "/config.json");
       },
       "config.json: is a symbolic link to /etc/passwd, outside of the folder"},
      {"the index goes up", [](HfScene& s) { name_file(s, "../x.safetensors"); }, intact,
       "file \"../x.safetensors\" is not in the folder"},
      {"the index goes to the root", [](HfScene& s) { name_file(s, "/etc/x.safetensors"); }, intact,
       "file \"/etc/x.safetensors\" is not in the folder"},
      {"the index goes down", [](HfScene& s) { name_file(s, "a/x.safetensors"); }, intact, "is not in the folder"},
      {"the index has a zero byte", [](HfScene& s) { name_file(s, std::string("a\0.safetensors", 14)); }, intact,
       "file \"a\\000.safetensors\" is not in the folder"},
      {"the index names a pickle", [](HfScene& s) { name_file(s, "pytorch_model.bin"); }, intact,
       "file \"pytorch_model.bin\" is no .safetensors; nothing else is read"},
      {"the index names another shard",
       [](HfScene& s) {
         name_file(s, s.tensor(kWq).file == std::string(kSecond) ? "model-00001-of-00003.safetensors" : kSecond);
       },
       intact, "tensor \"model.layers.0.self_attn.q_proj.weight\" is in model-"},
      {"the index lacks a tensor", [](HfScene& s) { s.index["weight_map"].erase(kWq); }, intact,
       ", but model.safetensors.index.json does not name it"},
      {"the index promises a tensor", [](HfScene& s) { s.index["weight_map"]["ghost"] = kSecond; }, intact,
       "tensor \"ghost\" is not in model-00002-of-00003.safetensors, but model.safetensors.index.json says so"},
      {"the index has a tensor twice", nothing,
       [](const std::string& f) {
         testing::write_bytes(f + "/" + kIndex, R"({"weight_map":{"a":"x.safetensors","a":"x.safetensors"}})");
       },
       "model.safetensors.index.json: index byte 54: tensor \"a\": named twice"},
      {"the index is no JSON", nothing, [](const std::string& f) { testing::write_bytes(f + "/" + kIndex, "hello"); },
       "model.safetensors.index.json: index byte 0: not valid JSON for an index: got 'h', want '{'"},
      {"the index is cut", nothing, [](const std::string& f) { cut(f + "/" + kIndex, 200); },
       "model.safetensors.index.json: index byte"},
      {"the index has no map", [](HfScene& s) { s.index.erase("weight_map"); }, intact, "weight_map is missing"},
      {"the index is empty", [](HfScene& s) { s.index["weight_map"] = nlohmann::json::object(); }, intact,
       "weight_map names no tensor"},
      {"the index is deep", nothing,
       [](const std::string& f) {
         testing::write_bytes(f + "/" + kIndex, "{\"metadata\":" + std::string(1'000'000, '['));
       },
       "index byte 65549: a value of over 65536 bytes"},
      {"an index and a file it does not name", nothing,
       [](const std::string& f) { testing::write_bytes(f + "/model.safetensors", "stale"); },
       "holds model.safetensors and model.safetensors.index.json, which does not name it"},
      {"pickles only", nothing,
       [](const std::string& f) {
         for (const std::string& name : testing::names_in(f)) {
           if (name != "config.json") std::filesystem::remove(f + "/" + name);
         }
         testing::write_bytes(f + "/pytorch_model.bin", "\x80\x02");
       },
       "holds only pickled weights (pytorch_model.bin), which can run code and are never read"},
      {"no weights", nothing,
       [](const std::string& f) {
         for (const std::string& name : testing::names_in(f)) {
           if (name != "config.json") std::filesystem::remove(f + "/" + name);
         }
       },
       "holds no weights: want model.safetensors or model.safetensors.index.json"},
      {"no config", nothing, [](const std::string& f) { std::filesystem::remove(f + "/config.json"); },
       "config.json: cannot open"},
      {"config of another model", [](HfScene& s) { s.config["model_type"] = "llama"; }, intact,
       "config.json: model_type is \"llama\""},
      {"config is huge", nothing, [](const std::string& f) { append(f + "/config.json", std::string(100'000, ' ')); },
       "config.json: has 100"},
      {"config with other sizes", [](HfScene& s) { s.config["vocab_size"] = 301; }, intact,
       "tensor \"model.embed_tokens.weight\" is BF16 [300,8], want [301,8]"},
      {"untied without a head", [](HfScene& s) { s.config["tie_word_embeddings"] = false; }, intact,
       "tensor \"lm_head.weight\" is missing", /*dense=*/true},
      {"tied with a head of another shape",
       [](HfScene& s) {
         s.with_index = false;
         for (auto& t : s.tensors) t.file = "model.safetensors";
         s.tensors.push_back(
             {"lm_head.weight", Dtype::kBfloat16, {8, 300}, std::string(4800, 'x'), "model.safetensors"});
       },
       intact, "tensor \"lm_head.weight\" is BF16 [8,300], want [300,8]", /*dense=*/true},
  };
}

TEST(BrokenHfFolder, EachIsRefusedWithOneErrorThatNamesTheTensorOrFile) {
  const std::vector<Broken> cases = broken_folders();
  EXPECT_GE(cases.size(), 30U);
  for (const Broken& broken : cases) {
    SCOPED_TRACE(broken.what);
    const TemporaryFolder folder;
    HfScene scene = hf_scene(broken.dense ? tiny_dense(true) : tiny_moe());
    scene.cut_into_files(3);
    broken.change(scene);
    const std::string path = folder.file("model");
    scene.write(path);
    broken.damage(path);
    const absl::Status status = HfReader::open(path).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsNotFound(status)) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(path), HasSubstr(broken.complaint)));
  }
}

TEST(BrokenHfFolder, AllProblemsAreInOneError) {
  const TemporaryFolder folder;
  HfScene scene = hf_scene(tiny_dense(true));
  scene.remove("model.norm.weight");
  scene.tensor(kWq).shape = {8, 12};
  scene.tensor("model.layers.1.mlp.up_proj.weight").dtype = Dtype::kInt16;
  scene.tensors.push_back({"visual.weight", Dtype::kFloat32, {1}, "1234", "model.safetensors"});
  scene.write(folder.path());
  EXPECT_THAT(std::string(HfReader::open(folder.path()).status().message()),
              AllOf(HasSubstr(": 4 problems:"), HasSubstr("\"model.norm.weight\" is missing"), HasSubstr("BF16 [8,12]"),
                    HasSubstr("I16 [20,8]"), HasSubstr("\"visual.weight\" is unexpected")));
}

// Changes, doubles and cuts bytes of `text`.
std::string mutated(std::string text, std::mt19937& random) {
  const size_t changes = 1 + random() % 4;
  for (size_t i = 0; i < changes && !text.empty(); ++i) {
    const size_t at = random() % text.size();
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.insert(at, 1, "{}[]\",:0919\\\0"[random() % 13]);
        break;
      case 2:
        text.erase(at, 1 + random() % 8);
        break;
      case 3:
        text.insert(at, text.substr(at, random() % 40));
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

TEST(BrokenHfFolder, NoChangedTextOfConfigOrIndexBreaksTheReader) {
  // Refused, or read as something whose tensors lie inside their files; sanitizers see the rest.
  const TemporaryFolder folder;
  HfScene scene = hf_scene(tiny_moe());
  scene.cut_into_files(3);
  scene.write(folder.path());
  std::mt19937 random(20261124);
  for (const std::string name : {"config.json", kIndex}) {
    const std::string good = testing::read_bytes(folder.file(name));
    for (int i = 0; i < 400; ++i) {
      testing::write_bytes(folder.file(name), mutated(good, random));
      const auto reader = HfReader::open(folder.path());
      if (!reader.ok()) continue;
      for (const SourceTensor& tensor : (*reader)->tensors()) {
        std::vector<std::byte> values(static_cast<size_t>(testing::count_of(tensor.shape) * 4));
        ASSERT_TRUE((*reader)->read_rows(tensor.name, 0, tensor.shape[0], values, Dtype::kFloat32).ok());
      }
    }
    testing::write_bytes(folder.file(name), good);
  }
}

}  // namespace
}  // namespace qwen3::checkpoint
