# `cmake --install`, and the target `deb`: the Debian package, in the build folder.
include(GNUInstallDirs)
set(documents ${CMAKE_INSTALL_DATADIR}/doc/evlua)

install(TARGETS evlua evluaserver RUNTIME)
install(DIRECTORY types/ DESTINATION ${CMAKE_INSTALL_DATADIR}/evlua/types)
install(FILES README.md DESTINATION ${documents})
install(DIRECTORY docs examples DESTINATION ${documents} PATTERN man EXCLUDE)
install(FILES packaging/debian/copyright DESTINATION ${documents})
install(FILES ${EVLUA_BORINGSSL}/LICENSE DESTINATION ${documents} RENAME copyright.boringssl)
install(DIRECTORY packaging/container DESTINATION ${documents}/examples)
install(FILES packaging/systemd/evluaserver.socket packaging/systemd/evluaserver.toml
  DESTINATION ${documents}/examples/systemd)
# Where systemd looks below /usr and below /usr/local.
install(FILES packaging/systemd/evluaserver.service DESTINATION lib/systemd/system)

set(CPACK_PACKAGE_CONTACT "The evlua authors <evlua@localhost>" CACHE STRING "Who maintains the packages made here")

# Manual pages and the list of changes are compressed, as Debian has them.
find_program(GZIP gzip REQUIRED)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC) # SOURCE_DATE_EPOCH counts
configure_file(packaging/debian/changelog.in ${CMAKE_BINARY_DIR}/generated/changelog @ONLY)
function(evlua_compressed source destination)
  get_filename_component(name ${source} NAME)
  set(made ${CMAKE_BINARY_DIR}/packaging/${name})
  add_custom_command(OUTPUT ${made}.gz COMMAND ${CMAKE_COMMAND} -E copy ${source} ${made} COMMAND ${GZIP} -9nf ${made}
    DEPENDS ${source} VERBATIM)
  add_custom_target(compressed_${name} ALL DEPENDS ${made}.gz)
  install(FILES ${made}.gz DESTINATION ${destination})
  set_property(GLOBAL APPEND PROPERTY evlua_compressed compressed_${name})
endfunction()
evlua_compressed(${CMAKE_SOURCE_DIR}/docs/man/evlua.1 ${CMAKE_INSTALL_MANDIR}/man1)
evlua_compressed(${CMAKE_SOURCE_DIR}/docs/man/evluaserver.1 ${CMAKE_INSTALL_MANDIR}/man1)
evlua_compressed(${CMAKE_BINARY_DIR}/generated/changelog ${documents})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION httpd)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "luarocks")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Lua 5.3 runtime and HTTP server for scalable web applications")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "Sequential Lua whose waits suspend only the coroutine that waits: sockets,
files, HTTP and timers on io_uring, or on libev where the kernel refuses it.

evlua runs scripts. evluaserver serves HTTP/1.1, HTTP/2 and HTTPS with a
handler written in Lua.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${CMAKE_SOURCE_DIR}/packaging/debian/postinst ${CMAKE_SOURCE_DIR}/packaging/debian/prerm
  ${CMAKE_SOURCE_DIR}/packaging/debian/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)

# Not CPack's target `package`, which would build the tests first.
get_property(compressed GLOBAL PROPERTY evlua_compressed)
add_custom_target(deb COMMAND ${CMAKE_CPACK_COMMAND} -B ${CMAKE_BINARY_DIR}
  DEPENDS evlua evluaserver ${compressed} COMMENT "Making the Debian package" VERBATIM USES_TERMINAL)
