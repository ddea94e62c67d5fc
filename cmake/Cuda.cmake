# With QWEN3_CUDA=ON: the CUDA compiler and torch::cuda, which links the wheel's CUDA libraries beside torch::torch.
# Target `cuda` builds all that differs from a CPU build. Links without a GPU; running needs one.
enable_language(CUDA)
find_path(NCCL_INCLUDE_DIR nccl.h HINTS /usr/local/cuda/include REQUIRED)

add_library(torch::cuda INTERFACE IMPORTED GLOBAL)
target_link_libraries(torch::cuda INTERFACE torch::torch
  "${torch_root}/lib/libtorch_cuda.so" "${torch_root}/lib/libc10_cuda.so")
target_include_directories(torch::cuda SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} "${NCCL_INCLUDE_DIR}")
target_compile_definitions(torch::cuda INTERFACE USE_C10D_NCCL)

add_custom_target(cuda)
