# What we stand on: Debian packages, each named when it is missing.
function(evlua_missing what package)
  message(FATAL_ERROR "${what} not found: install the Debian package ${package} (tools/dev setup does)")
endfunction()

# evlua_need_header(VARIABLE header package [folders])
function(evlua_need_header variable header package)
  find_path(${variable} ${header} PATHS ${ARGN} PATH_SUFFIXES ${ARGN})
  if(NOT ${variable})
    evlua_missing(${header} ${package})
  endif()
endfunction()

function(evlua_need_library variable name package)
  find_library(${variable} NAMES ${name})
  if(NOT ${variable})
    evlua_missing("library ${name}" ${package})
  endif()
endfunction()

find_package(Threads REQUIRED)

evlua_need_header(EXPECTED_INCLUDE tl/expected.hpp libexpected-dev)
evlua_need_header(CLI11_INCLUDE CLI/CLI.hpp libcli11-dev)
evlua_need_header(TOML_INCLUDE toml++/toml.h libtomlplusplus-dev)
evlua_need_header(URING_INCLUDE liburing.h liburing-dev)
evlua_need_library(URING_LIBRARY uring liburing-dev)
evlua_need_header(EV_INCLUDE ev.h libev-dev)
evlua_need_library(EV_LIBRARY ev libev-dev)
evlua_need_header(CARES_INCLUDE ares.h libc-ares-dev)
evlua_need_library(CARES_LIBRARY cares libc-ares-dev)
evlua_need_header(EDIT_INCLUDE histedit.h libedit-dev)
evlua_need_library(EDIT_LIBRARY edit libedit-dev)
evlua_need_header(XXHASH_INCLUDE xxhash.h libxxhash-dev)
evlua_need_header(LUA_INCLUDE lua.h liblua5.3-dev lua5.3)
evlua_need_header(SIMDJSON_INCLUDE simdjson.h libsimdjson-dev)
evlua_need_library(SIMDJSON_LIBRARY simdjson libsimdjson-dev)
evlua_need_header(LLHTTP_INCLUDE llhttp.h node-llhttp /usr/share/include/llhttp)
evlua_need_header(LLHTTP_SOURCES llhttp.c node-llhttp /usr/share/llhttp)

# What `tools/dev setup` makes of source packages: evlua_need_made(VARIABLE name)
function(evlua_need_made variable name)
  set(home $ENV{${variable}})
  if(NOT home AND DEFINED ENV{XDG_CACHE_HOME})
    set(home $ENV{XDG_CACHE_HOME}/evlua/${name})
  elseif(NOT home)
    set(home $ENV{HOME}/.cache/evlua/${name})
  endif()
  set(${variable} ${home} CACHE PATH "Where tools/dev setup has put ${name}")
endfunction()

# BoringSSL comes from no package that could stand beside an OpenSSL: tools/boringssl compiles Debian's source of it.
evlua_need_made(EVLUA_BORINGSSL boringssl)
if(NOT EXISTS ${EVLUA_BORINGSSL}/lib/libssl.a)
  message(FATAL_ERROR "BoringSSL not found in ${EVLUA_BORINGSSL}: tools/dev setup makes it")
endif()
foreach(library crypto ssl)
  add_library(boringssl_${library} STATIC IMPORTED)
  set_target_properties(boringssl_${library} PROPERTIES IMPORTED_LOCATION ${EVLUA_BORINGSSL}/lib/lib${library}.a)
endforeach()
add_library(evlua_boringssl INTERFACE)
target_include_directories(evlua_boringssl SYSTEM BEFORE INTERFACE ${EVLUA_BORINGSSL}/include)
target_link_libraries(evlua_boringssl INTERFACE boringssl_ssl boringssl_crypto Threads::Threads)
# A program that exports its symbols must not export these: a C module may bring an OpenSSL.
target_link_options(evlua_boringssl INTERFACE -Wl,--exclude-libs,libssl.a:libcrypto.a)

if(EVLUA_TESTS)
  evlua_need_header(DOCTEST_INCLUDE doctest/doctest.h doctest-dev)
  evlua_need_header(SECCOMP_INCLUDE seccomp.h libseccomp-dev)
  evlua_need_library(SECCOMP_LIBRARY seccomp libseccomp-dev)
endif()
if(EVLUA_BENCHMARKS)
  evlua_need_header(BENCHMARK_INCLUDE benchmark/benchmark.h libbenchmark-dev)
  evlua_need_library(BENCHMARK_LIBRARY benchmark libbenchmark-dev)
  evlua_need_library(BENCHMARK_MAIN_LIBRARY benchmark_main libbenchmark-dev)
endif()

evlua_need_header(NGHTTP2_INCLUDE nghttp2/nghttp2.h libnghttp2-dev)
evlua_need_library(NGHTTP2_LIBRARY nghttp2 libnghttp2-dev)
evlua_need_header(ZLIB_INCLUDE zlib.h zlib1g-dev)
evlua_need_library(ZLIB_LIBRARY z zlib1g-dev)
evlua_need_header(DEFLATE_INCLUDE libdeflate.h libdeflate-dev)
evlua_need_library(DEFLATE_LIBRARY deflate libdeflate-dev)
evlua_need_header(BROTLI_INCLUDE brotli/encode.h libbrotli-dev)
evlua_need_library(BROTLI_LIBRARY brotlienc libbrotli-dev)
evlua_need_library(BROTLI_DECODER_LIBRARY brotlidec libbrotli-dev)
evlua_need_header(ZSTD_INCLUDE zstd.h libzstd-dev)
evlua_need_library(ZSTD_LIBRARY zstd libzstd-dev)

add_library(evlua_llhttp STATIC ${LLHTTP_SOURCES}/api.c ${LLHTTP_SOURCES}/http.c ${LLHTTP_SOURCES}/llhttp.c)
target_compile_definitions(evlua_llhttp PRIVATE LLHTTP_STRICT_MODE=1)
target_include_directories(evlua_llhttp SYSTEM PUBLIC ${LLHTTP_INCLUDE})
target_compile_options(evlua_llhttp PRIVATE ${EVLUA_LTO_COMPILE})

# Lua from Debian's source (tools/lua_source), since two things have to be chosen when it is compiled: all bytes of a
# key are hashed, not every second or third of a long one, and the seed is random; who sends us tables (JSON, forms)
# could make all keys collide. The headers are those of liblua5.3-dev, for which C modules are compiled.
#
# As C, whole, so that a C module loaded by require finds every function of the API in the program, which exports its
# symbols (ENABLE_EXPORTS). Static: one library less to load at start-up, and calls do not go through a table. A module
# that names liblua5.3.so still binds to the program's copy, which comes first.
evlua_need_made(EVLUA_LUA lua)
if(NOT EXISTS ${EVLUA_LUA}/src/lapi.c)
  message(FATAL_ERROR "the source of Lua not found in ${EVLUA_LUA}: tools/dev setup gets it")
endif()
file(GLOB lua_additions ${CMAKE_SOURCE_DIR}/cmake/lua/*.c)
add_library(evlua_lua_archive STATIC ${lua_additions})
target_include_directories(evlua_lua_archive PRIVATE ${EVLUA_LUA}/src)
target_compile_definitions(evlua_lua_archive PRIVATE LUA_USE_LINUX LUA_COMPAT_5_2 LUAI_HASHLIMIT=31)
if(EVLUA_SANITIZE STREQUAL "thread")
  # TSan sees longjmp, but not _longjmp: its stack of calls would grow with each error, and break after some 65,000.
  target_compile_definitions(evlua_lua_archive PRIVATE _longjmp=longjmp)
endif()
target_compile_options(evlua_lua_archive PRIVATE -w
  -fomit-frame-pointer # worth 8 % of a recursion
  -fno-semantic-interposition # the API may be inlined, too: a program's own symbols come first anyway
  -fno-sanitize=all)   # an interpreter that is watched is too slow for tests about time
set_target_properties(evlua_lua_archive PROPERTIES POSITION_INDEPENDENT_CODE ON)
add_library(evlua_lua_vm INTERFACE)
target_include_directories(evlua_lua_vm SYSTEM INTERFACE ${LUA_INCLUDE})
target_link_libraries(evlua_lua_vm INTERFACE $<LINK_LIBRARY:WHOLE_ARCHIVE,evlua_lua_archive> m ${CMAKE_DL_LIBS})
