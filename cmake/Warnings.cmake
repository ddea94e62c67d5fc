# Warnings for our own sources only; link qwen3::warnings PRIVATE.
add_library(qwen3_warnings INTERFACE)
add_library(qwen3::warnings ALIAS qwen3_warnings)
target_compile_options(qwen3_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers>)
target_include_directories(qwen3_warnings INTERFACE "${PROJECT_SOURCE_DIR}")  # includes are written from the root
