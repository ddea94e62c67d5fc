# LibTorch as one imported target, torch::torch, from the pinned wheel in the dependency cache or from QWEN3_TORCH_DIR
# (a folder with include/ and lib/). Only ATen, c10, caffe2 and torch are visible: the wheel's own protobuf and fmt
# headers clash with Debian's (setup/install.sh does not unpack them; a user's LibTorch is linked folder by folder).
set(QWEN3_TORCH_DIR "$ENV{QWEN3_TORCH_DIR}" CACHE PATH "LibTorch 2.11 folder (include/, lib/); empty: the pinned wheel")
if(QWEN3_TORCH_DIR)
  set(torch_root "${QWEN3_TORCH_DIR}")
else()
  set(torch_root "${QWEN3_DEPS}/torch-2.11.0/torch")
endif()
if(NOT EXISTS "${torch_root}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch not found at ${torch_root}: run setup/install.sh, or pass -DQWEN3_TORCH_DIR=DIR")
endif()

set(torch_include "${CMAKE_BINARY_DIR}/torch_include")
file(MAKE_DIRECTORY "${torch_include}")
foreach(part ATen c10 caffe2 torch)
  file(CREATE_LINK "${torch_root}/include/${part}" "${torch_include}/${part}" SYMBOLIC)
endforeach()

# libtorch_cpu of the CUDA wheel loads the CUDA runtime and CUPTI even where there is no GPU. A LibTorch of the user's
# own finds its companions itself.
set(torch_library_folders "${torch_root}/lib")
if(NOT QWEN3_TORCH_DIR)
  list(APPEND torch_library_folders
    "${QWEN3_DEPS}/cuda-runtime-13.0.96/nvidia/cu13/lib"
    "${QWEN3_DEPS}/cuda-cupti-13.0.85/nvidia/cu13/lib")
endif()
list(JOIN torch_library_folders ":" qwen3_torch_library_path)  # as LD_LIBRARY_PATH, for a relocated qwen3-rank

add_library(torch::torch INTERFACE IMPORTED GLOBAL)
target_include_directories(torch::torch SYSTEM INTERFACE
  "${torch_include}" "${torch_include}/torch/csrc/api/include")
target_compile_definitions(torch::torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
target_link_libraries(torch::torch INTERFACE "${torch_root}/lib/libtorch_cpu.so" "${torch_root}/lib/libc10.so")
# An rpath of the old kind: it also holds for the libraries that LibTorch loads.
target_link_options(torch::torch INTERFACE "LINKER:--allow-shlib-undefined" "LINKER:--disable-new-dtags")
foreach(folder IN LISTS torch_library_folders)
  target_link_options(torch::torch INTERFACE "LINKER:-rpath,${folder}")
endforeach()
