# With QWEN3_CUDA=ON: the CUDA compiler and torch::cuda, which links the wheel's CUDA libraries beside torch::torch.
# Target `cuda` builds all that differs from a CPU build. Links without a GPU; running needs one.
enable_language(CUDA)
find_path(NCCL_INCLUDE_DIR nccl.h
  HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} "${QWEN3_DEPS}/nccl-2.28.9/nvidia/nccl/include" REQUIRED)
# ProcessGroupNCCL::Options holds an ncclConfig_t, whose layout is NCCL's of the version LibTorch was built with.
file(STRINGS "${NCCL_INCLUDE_DIR}/nccl.h" nccl_minor REGEX "#define NCCL_(MAJOR|MINOR) ")
if(NOT nccl_minor MATCHES "MAJOR +2.*MINOR +28")
  message(FATAL_ERROR "${NCCL_INCLUDE_DIR}/nccl.h is another NCCL than the 2.28 that LibTorch 2.11 was built with; "
    "pass -DNCCL_INCLUDE_DIR=DIR")
endif()

add_library(torch::cuda INTERFACE IMPORTED GLOBAL)
target_link_libraries(torch::cuda INTERFACE torch::torch
  "${torch_root}/lib/libtorch_cuda.so" "${torch_root}/lib/libc10_cuda.so")
target_include_directories(torch::cuda SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} "${NCCL_INCLUDE_DIR}")
target_compile_definitions(torch::cuda INTERFACE USE_C10D_NCCL)

add_custom_target(cuda)
add_dependencies(cuda qwen3-rank cuda_test)
