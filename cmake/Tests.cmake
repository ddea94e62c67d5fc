# qwen3_test(NAME LABEL pure|numeric|ranks|e2e|faults SOURCES ... LINK ...): one GoogleTest binary, one CTest entry.
# TIMEOUT (seconds) only catches a hang.
function(qwen3_test name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  target_link_libraries(${name} PRIVATE qwen3::warnings GTest::gtest GTest::gmock GTest::gtest_main ${arg_LINK})
  target_compile_definitions(${name} PRIVATE
    QWEN3_SOURCE_DIR="${PROJECT_SOURCE_DIR}" QWEN3_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "OMP_NUM_THREADS=1")
endfunction()
