# cmake -DOUTPUT=x.cpp -DFILES="a.lua;b.lua" -DHEADER=h -DNAMESPACE=n -DNAME=embedded_things -P embed.cmake: files as
# byte arrays, see lua/embedded.h.
set(arrays "")
set(entries "")
set(count 0)
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${hex}")
  string(APPEND arrays "const char file_${count}[] = {${bytes}'\\0'};\n")
  string(APPEND entries "    {\"${name}\", file_${count}, ${size}},\n")
  math(EXPR count "${count} + 1")
endforeach()
string(APPEND entries "    {nullptr, nullptr, 0},\n")  # the end, since an array cannot be empty
set(last "")
if(NAME STREQUAL "embedded_files")
  set(last "const std::size_t embedded_file_count = ${count};\n")
endif()
file(WRITE ${OUTPUT} "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\nnamespace {\n${arrays}}\n
const lua::EmbeddedFile ${NAME}[] = {\n${entries}};\n${last}
}  // namespace ${NAMESPACE}\n")
