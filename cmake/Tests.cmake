# One CTest entry per test program. A label says what it needs, and in which order `make test` runs it: `pure` tests two
# at a time, the others one after the other, so that ranks and services have the machine to themselves.
# The tests of the structure of the tree are labelled `lint` as well: `make lint` runs just those.
set(qwen3_test_labels pure numeric ranks e2e faults)

# qwen3_test_properties(NAME LABEL pure|numeric|ranks|e2e|faults [TIMEOUT SECONDS]): TIMEOUT only catches a hang.
function(qwen3_test_properties name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "" ${ARGN})
  list(FIND qwen3_test_labels "${arg_LABEL}" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "test ${name}: label '${arg_LABEL}', expected one of: ${qwen3_test_labels}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  math(EXPR cost "1000 - 100 * ${place}")  # ctest -j starts expensive tests first
  set_tests_properties(${name} PROPERTIES
    LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT} COST ${cost} ENVIRONMENT "OMP_NUM_THREADS=1")
  if(NOT arg_LABEL STREQUAL "pure")
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()

# qwen3_test(NAME LABEL ... SOURCES ... LINK ... [TIMEOUT SECONDS]): one GoogleTest binary.
function(qwen3_test name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  target_link_libraries(${name} PRIVATE qwen3::warnings GTest::gtest GTest::gmock GTest::gtest_main ${arg_LINK})
  target_compile_definitions(${name} PRIVATE
    QWEN3_SOURCE_DIR="${PROJECT_SOURCE_DIR}" QWEN3_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  add_test(NAME ${name} COMMAND ${name})
  qwen3_test_properties(${name} LABEL ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
endfunction()

# qwen3_script_test(NAME LABEL ... COMMAND ... [TIMEOUT SECONDS] [LINT]): a script; exit status 0 passes.
function(qwen3_script_test name)
  cmake_parse_arguments(arg "LINT" "LABEL;TIMEOUT" "COMMAND" ${ARGN})
  add_test(NAME ${name} COMMAND ${arg_COMMAND} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  qwen3_test_properties(${name} LABEL ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
  if(arg_LINT)
    set_property(TEST ${name} APPEND PROPERTY LABELS lint)
  endif()
endfunction()
