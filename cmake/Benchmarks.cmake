# benchmarks/micro/*.cpp make one Google Benchmark program.
file(GLOB micro CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/benchmarks/micro/*.cpp)
find_library(BENCHMARK_LIBRARY benchmark)
if(micro AND BENCHMARK_LIBRARY AND EVLUA_SANITIZE STREQUAL "")
  add_executable(evlua_bench EXCLUDE_FROM_ALL ${micro})
  target_compile_options(evlua_bench PRIVATE ${EVLUA_WARNINGS})
  target_link_libraries(evlua_bench PRIVATE evlua_tools ${BENCHMARK_LIBRARY} benchmark_main)
endif()
