// A call of a Lua function in another Vm: what evlua.thread is made of.
#pragma once

#include <memory>
#include <string>

#include "core/error.h"
#include "core/task.h"
#include "lua/message.h"
#include "lua/vm.h"

namespace evlua::lua {

/// How a call has ended.
struct RemoteResult {
  bool failed = false;
  std::unique_ptr<Message> values;  ///< the results, or the error value
  std::string trace;                ///< of a failure: in words, with the traceback
};

/// Calls the first value of `call` with the others, in `vm` or, without one, in a new Vm like `caller`, on any worker.
/// Ends when the function and every task it has spawned have ended. If the caller is cancelled they are cancelled, too,
/// and what computes on and on is ended by an error. It fails when all of them wait for each other. [on a strand, which
/// is where the task ends]
Task<Result<RemoteResult>> call_remotely(std::shared_ptr<Vm> vm, Vm& caller, std::unique_ptr<Message> call);

}  // namespace evlua::lua
