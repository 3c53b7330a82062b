// Whoever runs several workers of a simulated world on one thread, in turns of its own choice.
#pragma once

namespace evlua {

class SimBackend;

class SimDriver {
 public:
  /// The calling worker is somewhere in the middle of its work: others may go on before it does.
  virtual void interleave() noexcept = 0;
  /// The calling worker, `sleeper`'s, has nothing to do. Returns when SimBackend::is_due, or when the run is given up.
  virtual void sleep(SimBackend& sleeper) noexcept = 0;

 protected:
  ~SimDriver() = default;
};

}  // namespace evlua
