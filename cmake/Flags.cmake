# Compiler and linker flags, and the sanitizers.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

# The programs export their symbols for C modules, which need those of Lua and no others.
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

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

# EVLUA_CHECK is on in every build; NDEBUG only leaves out EVLUA_DCHECK.
foreach(language C CXX)
  set(CMAKE_${language}_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
  set(CMAKE_${language}_FLAGS_DEBUG "-Og -g")
  if(EVLUA_SANITIZE)
    set(CMAKE_${language}_FLAGS_DEBUG "-O1 -g1")
  endif()
endforeach()

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
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "EVLUA_SANITIZE=fuzz needs clang++ (the preset fuzz uses it)")
  endif()
  set(sanitizer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
elseif(NOT EVLUA_SANITIZE STREQUAL "")
  message(FATAL_ERROR "EVLUA_SANITIZE is address, thread, fuzz or empty, not \"${EVLUA_SANITIZE}\"")
endif()
if(EVLUA_SANITIZE MATCHES "address|fuzz" AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # That check's data before a function breaks coroutines: "Cannot represent a difference across sections".
  list(APPEND sanitizer -fno-sanitize=function)
endif()
if(sanitizer)
  add_compile_options(${sanitizer})
  add_link_options(${sanitizer})
endif()

# What makes an overrun, in our code or Lua's, end the program instead of being of use to somebody. Debian's compilers
# make position-independent programs by themselves (tests/package looks). Not -fcf-protection: the linker drops its mark
# as soon as one object has none, and BoringSSL's assembly has none.
if(NOT EVLUA_SANITIZE)
  add_compile_options(-fstack-protector-strong -fstack-clash-protection $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2>)
  add_link_options(-Wl,-z,relro,-z,now)
endif()

# Objects hold machine code beside the intermediate code, so that only the programs pay for the long link.
if(EVLUA_LTO)
  if(EVLUA_SANITIZE OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    message(FATAL_ERROR "EVLUA_LTO needs g++ and no sanitizer")
  endif()
  set(EVLUA_LTO_COMPILE -flto -ffat-lto-objects)
  set(EVLUA_LTO_LINK -flto=auto)
endif()
