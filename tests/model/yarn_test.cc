// YaRN against transformers' _compute_yarn_parameters: tests/golden/yarn.safetensors.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/rope.h"
#include "spec/hf_config.h"
#include "tests/golden/golden.h"

namespace qwen3::model {
namespace {

TEST(Yarn, CosAndSinAreTransformersToTheBit) {
  const golden::Golden golden("yarn.safetensors");
  const at::Tensor positions = at::tensor(at::ArrayRef<int64_t>({0, 1, 37, 40'000})).unsqueeze(0);
  for (const char* name : {"qwen3", "small_head", "own_betas", "own_attention", "mscale", "no_original", "step"}) {
    SCOPED_TRACE(name);
    const auto model = spec::parse_hf_config(golden.text(name));
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_TRUE(model->yarn.has_value());
    const Rotary rotary = make_rotary(positions, model->head_dim, model->rope_theta, at::kFloat, model->yarn);

    const at::Tensor angles = positions.to(at::kFloat).unsqueeze(-1) * golden.tensor(std::string(name) + ".inv_freq");
    const double attention = golden.tensor(std::string(name) + ".attention_factor").item<double>();
    EXPECT_TRUE(at::equal(rotary.cos, angles.cos() * attention));
    EXPECT_TRUE(at::equal(rotary.sin, angles.sin() * attention));
  }
}

TEST(Yarn, AFactorOfOneChangesNothing) {
  const at::Tensor positions = at::arange(64, at::kLong).unsqueeze(0);
  const Rotary plain = make_rotary(positions, 32, 1e6, at::kDouble);
  const Rotary stretched =
      make_rotary(positions, 32, 1e6, at::kDouble, spec::Yarn{.factor = 1, .original_max_position = 4096});
  EXPECT_TRUE(at::allclose(plain.cos, stretched.cos, 0, 1e-14));  // the blend of two equal numbers rounds
  EXPECT_TRUE(at::allclose(plain.sin, stretched.sin, 0, 1e-14));
}

}  // namespace
}  // namespace qwen3::model
