# Compiler and linker flags, and the sanitizers.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

# Frame pointers cost little and make every profile readable. Tail calls keep symmetric transfer off the stack at every
# optimisation level.
add_compile_options(-fno-omit-frame-pointer -foptimize-sibling-calls)
add_compile_definitions(_GNU_SOURCE)

set(EVLUA_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
if(EVLUA_WERROR)
  list(APPEND EVLUA_WARNINGS -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(APPEND EVLUA_WARNINGS -Wno-gnu-zero-variadic-macro-arguments)
endif()

set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")

if(EVLUA_SANITIZE STREQUAL "address")
  set(sanitizer -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND sanitizer --param asan-stack=0)  # otherwise symmetric transfer is no tail call
  endif()
elseif(EVLUA_SANITIZE STREQUAL "thread")
  set(sanitizer -fsanitize=thread)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND sanitizer --param tsan-instrument-func-entry-exit=0)  # likewise
  endif()
elseif(EVLUA_SANITIZE STREQUAL "fuzz")
  set(sanitizer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
elseif(NOT EVLUA_SANITIZE STREQUAL "")
  message(FATAL_ERROR "EVLUA_SANITIZE is address, thread, fuzz or empty, not \"${EVLUA_SANITIZE}\"")
endif()
if(sanitizer)
  add_compile_options(${sanitizer})
  add_link_options(${sanitizer})
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  include(CheckIPOSupported)
  check_ipo_supported(RESULT EVLUA_HAS_IPO OUTPUT ignored LANGUAGES CXX)
endif()
