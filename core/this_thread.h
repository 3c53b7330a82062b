// What a thread knows of the work it is doing. Only worker.cpp and strand.cpp look here, never a coroutine: compilers
// keep the address of thread-local data across a wait, and with it the wrong thread's.
//
// A simulator that runs several workers on one thread exchanges it whenever it turns to another worker.
#pragma once

namespace evlua {

class Strand;
class Worker;

struct ThisThread {
  Worker* worker = nullptr;
  Strand* strand = nullptr;
};

inline thread_local constinit ThisThread this_thread;

}  // namespace evlua
