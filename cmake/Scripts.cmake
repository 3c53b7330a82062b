# Tests that drive the programs: Lua behaviour scripts, end-to-end scripts, and checks of the source tree.
set(EVLUA_TEST_BACKENDS io_uring libev)
set(program_env "EVLUA=${CMAKE_BINARY_DIR}/evlua" "EVLUASERVER=${CMAKE_BINARY_DIR}/evluaserver"
    "EVLUA_SANITIZE=${EVLUA_SANITIZE}" "EVLUA_SOURCE=${CMAKE_SOURCE_DIR}"
    "EVLUASERVER_QUEUE_TARGET=10") # on a busy machine, what is no overload looks like one

# A C module as a rock would bring it, linked to no Lua: it loads only if the program exports the API.
file(GLOB c_modules CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/lua/c_modules/*.c)
foreach(source ${c_modules})
  get_filename_component(name ${source} NAME_WE)
  add_library(c_module_${name} MODULE ${source})
  target_include_directories(c_module_${name} SYSTEM PRIVATE ${LUA_INCLUDE})
  set_target_properties(c_module_${name} PROPERTIES
    PREFIX "" OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/c_modules)
endforeach()

# tests/lua/scripts/NAME.lua: exit code 0, and the output of NAME.expected if that is there.
file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/lua/scripts/*.lua)
# tests/e2e/*_test.sh and *_test.py: once per backend. tests/conformance the same, for what protocols demand, and
# tests/differential, for what lua5.3 does, and tests/compat, for what others have written for it.
file(GLOB e2e CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/e2e/*_test.sh ${CMAKE_SOURCE_DIR}/tests/e2e/*_test.py
  ${CMAKE_SOURCE_DIR}/tests/conformance/*_test.py ${CMAKE_SOURCE_DIR}/tests/differential/*_test.py
  ${CMAKE_SOURCE_DIR}/tests/compat/*_test.py)
if(EVLUA_SANITIZE STREQUAL "thread")
  # TSan holds signals back until the thread makes a system call, so that no slice of Lua can be ended.
  list(FILTER scripts EXCLUDE REGEX "/slices[^/]*$")
  # It makes a fork of vfork, too: a child may get a signal before it is ready, and cannot tell why it has not started.
  list(FILTER scripts EXCLUDE REGEX "/process[.]lua$")
  list(FILTER e2e EXCLUDE REGEX "/slices[^/]*$")
  # No threads meet in these, and they take minutes.
  list(FILTER e2e EXCLUDE REGEX "/(memory|linear)_test[.]py$")
endif()
if(TARGET evlua)
  foreach(script ${scripts})
    get_filename_component(name ${script} NAME_WE)
    foreach(backend ${EVLUA_TEST_BACKENDS})
      foreach(workers 1 2)
        evlua_add_test(script/${name}/${backend}/${workers} script
          DIRECTORY ${CMAKE_SOURCE_DIR}/tests/lua/scripts
          ENVIRONMENT ${program_env} EVLUA_BACKEND=${backend} EVLUA_WORKERS=${workers}
            "LUA_CPATH=${CMAKE_BINARY_DIR}/tests/c_modules/?.so$<SEMICOLON>$<SEMICOLON>"
          COMMAND ${CMAKE_SOURCE_DIR}/tests/support/run_script ${script})
      endforeach()
    endforeach()
  endforeach()
endif()

# tests/lua/cases/NAME_test.lua: for evlua test.
file(GLOB cases CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/lua/cases/*_test.lua)
if(TARGET evlua)
  foreach(case ${cases})
    get_filename_component(name ${case} NAME_WE)
    foreach(backend ${EVLUA_TEST_BACKENDS})
      foreach(workers 1 2)
        evlua_add_test(case/${name}/${backend}/${workers} case
          ENVIRONMENT ${program_env} EVLUA_BACKEND=${backend}
            "LUA_CPATH=${CMAKE_BINARY_DIR}/tests/c_modules/?.so$<SEMICOLON>$<SEMICOLON>"
          COMMAND evlua test --workers ${workers} --timeout 120 ${case})
      endforeach()
    endforeach()
  endforeach()
endif()

# Scripts whose tasks share nothing that two instructions change, once more with slices that end anywhere: builds with
# checks know EVLUA_CUT_SLICES.
if(TARGET evlua AND EVLUA_SANITIZE)
  foreach(name file_random stream_random sync_random thread_module thread_random)
    foreach(seed 1 2)
      evlua_add_test(script/${name}/cut/${seed} script
        DIRECTORY ${CMAKE_SOURCE_DIR}/tests/lua/scripts
        ENVIRONMENT ${program_env} EVLUA_BACKEND=io_uring EVLUA_WORKERS=2 EVLUA_CUT_SLICES=${seed}
        COMMAND ${CMAKE_SOURCE_DIR}/tests/support/run_script ${CMAKE_SOURCE_DIR}/tests/lua/scripts/${name}.lua)
    endforeach()
  endforeach()
  foreach(name callbacks_test coroutine_test cuts_test fs_test io_test json_test random_test)
    foreach(seed 1 2)
      evlua_add_test(case/${name}/cut/${seed} case
        ENVIRONMENT ${program_env} EVLUA_BACKEND=io_uring EVLUA_CUT_SLICES=${seed}
        COMMAND evlua test --workers 2 --timeout 120 ${CMAKE_SOURCE_DIR}/tests/lua/cases/${name}.lua)
    endforeach()
  endforeach()
endif()

find_program(BASH bash REQUIRED)
find_program(PYTHON3 python3 REQUIRED HINTS /usr/bin)
find_program(NGINX nginx PATHS /usr/sbin)
if(NOT NGINX)
  message(STATUS "nginx is not installed: tests/e2e/proxy_test.py is left out")
  list(FILTER e2e EXCLUDE REGEX "proxy_test")
endif()
if(TARGET evlua AND TARGET evluaserver)
  foreach(test ${e2e})
    get_filename_component(name ${test} NAME_WE)
    get_filename_component(kind ${test} LAST_EXT)
    get_filename_component(folder ${test} DIRECTORY)
    get_filename_component(folder ${folder} NAME)
    set(interpreter ${BASH})
    if(kind STREQUAL ".py")
      set(interpreter ${PYTHON3})
    endif()
    foreach(backend ${EVLUA_TEST_BACKENDS})
      evlua_add_test(${folder}/${name}/${backend} ${folder}
        DIRECTORY ${CMAKE_SOURCE_DIR}
        ENVIRONMENT ${program_env} EVLUA_BACKEND=${backend}
        COMMAND ${interpreter} ${test})
    endforeach()
  endforeach()
  # testssl.sh starts thousands of programs.
  if(TEST e2e/tls_scan_test/libev)
    set_tests_properties(e2e/tls_scan_test/libev PROPERTIES TIMEOUT 900)
  endif()
endif()

# What is shipped. Sanitizers are no part of it.
if(TARGET deb AND NOT EVLUA_SANITIZE)
  find_program(SHLIBDEPS dpkg-shlibdeps)
  if(SHLIBDEPS)
    evlua_add_test(package/package_test package
      ENVIRONMENT ${program_env} "EVLUA_BUILD=${CMAKE_BINARY_DIR}" "EVLUA_BUILD_TYPE=${CMAKE_BUILD_TYPE}"
      COMMAND ${PYTHON3} ${CMAKE_SOURCE_DIR}/tests/package/package_test.py)
  else()
    message(STATUS "dpkg-shlibdeps is not installed: tests/package is left out")
  endif()
endif()

# The source tree itself: include direction, banned shapes, dead files; and that the checker finds each of them.
if(EXISTS ${CMAKE_SOURCE_DIR}/tools/tidy.py)
  evlua_add_test(tidy/tree tidy DIRECTORY ${CMAKE_SOURCE_DIR} COMMAND ${PYTHON3} tools/tidy.py)
  evlua_add_test(tidy/self_test tidy DIRECTORY ${CMAKE_SOURCE_DIR} COMMAND ${PYTHON3} tests/tidy/tidy_test.py)
endif()
