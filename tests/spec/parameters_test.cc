#include "spec/parameters.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>

namespace qwen3::spec {
namespace {

TEST(Parameters, OfEveryFlavorAreAsManyAsItHas) {
  for (const ModelShape& model : flavors()) {
    int64_t elements = 0;
    for (const ParameterShape& parameter : parameters(model)) {
      elements += std::accumulate(parameter.shape.begin(), parameter.shape.end(), int64_t{1}, std::multiplies<>());
    }
    EXPECT_EQ(elements, parameter_count(model)) << model.flavor;
  }
}

TEST(Parameters, LieInTheirLayersFromTheEmbeddingToTheHead) {
  const std::vector<ParameterShape> list = parameters(*find_flavor("debugmodel_moe"));
  EXPECT_EQ(list.front().name, "tok_embeddings.weight");
  EXPECT_EQ(list.front().layer, 0);
  EXPECT_EQ(list[1].name, "layers.0.attention_norm.weight");
  EXPECT_EQ(list[1].layer, 1);
  EXPECT_EQ(list.back().name, "lm_head.weight");
  EXPECT_EQ(list.back().layer, 9);
  EXPECT_NE(parameters(*find_flavor("debugmodel")).back().name, "lm_head.weight");  // tied
}

}  // namespace
}  // namespace qwen3::spec
