# Every tests/<layer>/*_test.cpp is one program and one ctest test, linked with its layer and those below. Other .cpp
# files beside the tests, or in tests/support, are helpers: a library from which a test takes what it names.
set(EVLUA_TEST_LINKS_core evlua_backends)  # for tests that run a scheduler
set(EVLUA_TEST_LINKS_backends evlua_backends ${SECCOMP_LIBRARY})
set(EVLUA_TEST_LINKS_net evlua_net evlua_fs evlua_backends)
set(EVLUA_TEST_LINKS_fs evlua_net evlua_fs evlua_backends)
set(EVLUA_TEST_LINKS_lua evlua_tools)
set(EVLUA_TEST_LINKS_sim evlua_tools)
set(EVLUA_TEST_LINKS_tools evlua_tools ${SECCOMP_LIBRARY})

# Sanitizers make a test several times slower.
if(EVLUA_SANITIZE)
  set(EVLUA_TEST_TIMEOUT 600)
else()
  set(EVLUA_TEST_TIMEOUT 180)
endif()

# A leak, a race or undefined behaviour fails the test and shows where.
set(EVLUA_TEST_ENV
    "ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=0:strict_string_checks=1"
    "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1"
    "TSAN_OPTIONS=second_deadlock_stack=1:history_size=4:suppressions=${CMAKE_SOURCE_DIR}/tests/support/tsan.supp"
    "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/lsan.supp:print_suppressions=0")

# evlua_add_test(name label timeout environment... COMMAND...)
function(evlua_add_test name label)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "DIRECTORY" "ENVIRONMENT;COMMAND")
  if(NOT arg_DIRECTORY)
    set(arg_DIRECTORY ${CMAKE_BINARY_DIR})
  endif()
  add_test(NAME ${name} COMMAND ${arg_COMMAND} WORKING_DIRECTORY ${arg_DIRECTORY})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT ${EVLUA_TEST_TIMEOUT} LABELS ${label} SKIP_RETURN_CODE 77
    ENVIRONMENT "${EVLUA_TEST_ENV};${arg_ENVIRONMENT}")
endfunction()

# A library of helpers, or an empty one.
function(evlua_test_helpers name)
  if(NOT ARGN)
    add_library(${name} INTERFACE)
    return()
  endif()
  add_library(${name} STATIC ${ARGN})
  evlua_own(${name})
  target_include_directories(${name} SYSTEM PUBLIC ${DOCTEST_INCLUDE} ${LUA_INCLUDE} ${LLHTTP_INCLUDE})
endfunction()

add_library(evlua_test_main STATIC ${CMAKE_SOURCE_DIR}/tests/support/main.cpp)
target_include_directories(evlua_test_main SYSTEM PUBLIC ${DOCTEST_INCLUDE})

file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/*.cpp)
list(REMOVE_ITEM helpers ${CMAKE_SOURCE_DIR}/tests/support/main.cpp ${CMAKE_SOURCE_DIR}/tests/support/fuzz_replay.cpp)
evlua_test_helpers(evlua_test_support ${helpers})

set(layers core backends net fs lua tools sim)
if(EVLUA_SANITIZE STREQUAL "thread")
  list(REMOVE_ITEM layers sim) # one thread
endif()
foreach(layer ${layers})
  file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${layer}/*.cpp)
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${layer}/*_test.cpp)
  if(tests)
    list(REMOVE_ITEM helpers ${tests})
  endif()
  evlua_test_helpers(evlua_test_${layer} ${helpers})
  foreach(test ${tests})
    get_filename_component(name ${test} NAME_WE)
    set(target ${layer}_${name})
    add_executable(${target} ${test})
    evlua_own(${target})
    target_link_libraries(${target} PRIVATE
      evlua_test_${layer} evlua_test_support evlua_test_main ${EVLUA_TEST_LINKS_${layer}})
    set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    evlua_add_test(${layer}/${name} ${layer} COMMAND ${target})
  endforeach()
endforeach()
