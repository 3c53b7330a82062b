// Answering with files: validators, ranges, types, and the ways in which a file becomes a body. A file that is in
// memory is sent at once, by the kernel itself where nothing has to be encrypted or framed; one that is on a disk is
// read without holding up the worker.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/blocking_pool.h"
#include "core/task.h"
#include "net/http/exchange.h"
#include "net/http/file_body.h"

namespace evlua::http {

struct FileOptions {
  std::string_view media_type;        ///< unless the handler has set Content-Type
  std::string_view content_encoding;  ///< of what the file holds; may be empty
  std::string_view cache_control;     ///< may be empty
  std::string_view disposition = {};  ///< Content-Disposition; may be empty
};

/// The same, owned.
struct FileTexts {
  std::string media_type, cache_control, disposition;
};

/// Sets status and header fields, and says what of the file is to be sent; null when the response is complete with that
/// (304, 412, 416). Conditions and ranges are for GET and HEAD, unless the handler has set a status of its own.
std::unique_ptr<FileBody> begin_file(Exchange& exchange, OpenFile file, const FileOptions& options);

/// Sends it without waiting; false, and nothing is sent, when that cannot be. Takes `body` if it can.
bool try_send_file(Exchange& exchange, std::unique_ptr<FileBody>& body);

/// Sends it, and waits for disk and client. The response is finished or cut.
Task<Result<void>> send_file(Exchange& exchange, std::unique_ptr<FileBody> body);

/// The same for the file at `path`: below the folder `root`, or, without one, anywhere. An error, and the response has
/// not begun, when it cannot be opened.
Task<Result<void>> serve_path(Exchange& exchange, std::optional<std::string> root, std::string path, FileTexts texts,
                              BlockingPool& pool);

}  // namespace evlua::http
