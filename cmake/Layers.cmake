# One static library per folder. A layer links only to the layers below it. A folder without sources is an empty
# library; new files are picked up by the next build.
set(EVLUA_LINKS_core Threads::Threads)
set(EVLUA_LINKS_backends evlua_core ${URING_LIBRARY} ${EV_LIBRARY})
set(EVLUA_LINKS_net evlua_core evlua_llhttp evlua_boringssl ${CARES_LIBRARY} ${NGHTTP2_LIBRARY} ${ZLIB_LIBRARY}
    ${BROTLI_LIBRARY} ${BROTLI_DECODER_LIBRARY} ${ZSTD_LIBRARY} ${DEFLATE_LIBRARY})
set(EVLUA_LINKS_fs evlua_core)
set(EVLUA_LINKS_lua evlua_net evlua_fs evlua_core evlua_lua_vm ${SIMDJSON_LIBRARY})
set(EVLUA_LINKS_tools evlua_lua evlua_backends)
set(EVLUA_LINKS_evlua ${EDIT_LIBRARY})
set(EVLUA_PROGRAMS evlua evluaserver)

# Settings of every target of ours.
function(evlua_own target)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  target_include_directories(${target} SYSTEM PRIVATE ${EXPECTED_INCLUDE} ${CLI11_INCLUDE} ${TOML_INCLUDE})
  target_compile_options(${target} PRIVATE ${EVLUA_WARNINGS})
endfunction()

# Files as one C++ file, see lua/embedded.h.
function(evlua_embed output pattern header namespace name)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${pattern})
  set(generated ${CMAKE_BINARY_DIR}/generated/${name}.cpp)
  set(script ${CMAKE_SOURCE_DIR}/cmake/embed.cmake)
  add_custom_command(
    OUTPUT ${generated}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${generated} "-DFILES=${files}" -DHEADER=${header} -DNAMESPACE=${namespace}
      -DNAME=${name} -P ${script}
    DEPENDS ${files} ${script}
    COMMENT "Embedding ${pattern}"
    VERBATIM)
  set(${output} ${generated} PARENT_SCOPE)
endfunction()

function(evlua_layer name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${name}/*.cpp)
  foreach(program ${EVLUA_PROGRAMS})
    list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/tools/${program}.cpp)
  endforeach()
  if(NOT sources)
    add_library(evlua_${name} INTERFACE)
    target_link_libraries(evlua_${name} INTERFACE ${EVLUA_LINKS_${name}})
    return()
  endif()
  if(name STREQUAL "lua" AND EXISTS ${CMAKE_SOURCE_DIR}/lua/embedded.h)
    evlua_embed(generated lua/lib/*.lua lua/embedded.h evlua::lua embedded_files)
    list(APPEND sources ${generated})
  endif()
  if(name STREQUAL "tools" AND EXISTS ${CMAKE_SOURCE_DIR}/tools/pages.h)
    evlua_embed(generated tools/pages/*.html tools/pages.h evlua::tools embedded_pages)
    list(APPEND sources ${generated})
  endif()
  add_library(evlua_${name} STATIC ${sources})
  evlua_own(evlua_${name})
  target_compile_options(evlua_${name} PRIVATE ${EVLUA_LTO_COMPILE})
  if(name MATCHES "lua|tools")
    target_compile_definitions(evlua_${name} PRIVATE EVLUA_VERSION="${PROJECT_VERSION}")
  endif()
  target_link_libraries(evlua_${name} PUBLIC ${EVLUA_LINKS_${name}})
endfunction()

function(evlua_program name)
  if(NOT EXISTS ${CMAKE_SOURCE_DIR}/tools/${name}.cpp)
    return()
  endif()
  add_executable(${name} tools/${name}.cpp)
  evlua_own(${name})
  target_compile_options(${name} PRIVATE ${EVLUA_LTO_COMPILE})
  target_compile_definitions(${name} PRIVATE EVLUA_VERSION="${PROJECT_VERSION}")
  target_link_options(${name} PRIVATE ${EVLUA_LTO_LINK})
  target_link_libraries(${name} PRIVATE evlua_tools ${EVLUA_LINKS_${name}})
  set_target_properties(${name} PROPERTIES ENABLE_EXPORTS ON)
endfunction()

# The program's file may come later: look again when tools/ changes.
file(GLOB ignored CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/*.cpp)
