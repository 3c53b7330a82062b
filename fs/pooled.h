// Calls that are one system call or a few, on a thread of the pool.
#pragma once

#include <cerrno>
#include <optional>

#include "core/blocking.h"
#include "core/error.h"
#include "core/task.h"
#include "core/worker.h"

namespace evlua::fs {

/// `call` returns 0 or an errno.
template <class Call>
Task<Result<void>> pooled(Call call) {
  auto job = blocking(Worker::current().pool(), [&call] { return call(); });
  const std::optional<int> error = co_await job;
  if (!error) co_return fail(ECANCELED);
  if (*error != 0) co_return fail(*error);
  co_return Result<void>();
}

}  // namespace evlua::fs
