// From tensors to the loops of row_kernels.h, for the operations of this folder.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <initializer_list>

#include "kernels/cpu/row_kernels.h"

namespace qwen3::kernels::cpu {

// The loops for these tensors, if all are on the CPU and of one dtype, float32 or bfloat16. Null: use ATen.
const RowKernels* row_kernels_for(std::initializer_list<at::Tensor> tensors);

// A pointer `offset` elements into a contiguous tensor.
const void* at_element(const at::Tensor& tensor, int64_t offset);
void* at_mutable_element(const at::Tensor& tensor, int64_t offset);

// Runs body(first, rows) over all rows in parallel, in pieces that are worth a thread.
void for_rows(int64_t rows, int64_t dim, const std::function<void(int64_t first, int64_t rows)>& body);

// The same in blocks of 64 rows, each with zeros [dim] to which it adds its part of a sum over all rows. The blocks'
// sums are added in order, in float64, and rounded to `like`'s dtype: the result does not depend on the threads.
at::Tensor sum_over_rows(int64_t rows, const at::Tensor& like,
                         const std::function<void(int64_t first, int64_t rows, float* sums)>& body);

}  // namespace qwen3::kernels::cpu
