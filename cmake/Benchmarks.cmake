# benchmarks/micro/*.cpp make one Google Benchmark program.
file(GLOB micro CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/benchmarks/micro/*.cpp)
if(micro)
  add_executable(evlua_bench EXCLUDE_FROM_ALL ${micro})
  evlua_own(evlua_bench)
  target_compile_options(evlua_bench PRIVATE ${EVLUA_LTO_COMPILE})
  target_link_options(evlua_bench PRIVATE ${EVLUA_LTO_LINK})
  target_include_directories(evlua_bench SYSTEM PRIVATE ${BENCHMARK_INCLUDE})
  target_link_libraries(evlua_bench PRIVATE evlua_tools ${BENCHMARK_MAIN_LIBRARY} ${BENCHMARK_LIBRARY})
endif()

# The HTTP front without Lua, to be driven by wrk.
add_executable(http_hello EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/benchmarks/http_hello.cpp)
evlua_own(http_hello)
target_compile_options(http_hello PRIVATE ${EVLUA_LTO_COMPILE})
target_link_options(http_hello PRIVATE ${EVLUA_LTO_LINK})
target_link_libraries(http_hello PRIVATE evlua_net evlua_backends)
