#include "backends/pool_ops.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <utility>

#include "backends/perform.h"

namespace evlua {

namespace {

constexpr std::size_t kRecordsMax = 0xfff0;
// Op::backend_data of an op without a record.
constexpr std::uint16_t kInBacklog = 0xffff;
constexpr std::uint16_t kInBacklogMayHang = 0xfffe;

/// Whether this open waits for somebody to open the other end. On a pool thread.
bool waits_for_other_end(const Op& op) noexcept {
  if (op.code != OpCode::open || (op.args.open.flags & (O_NONBLOCK | O_PATH)) != 0) return false;
  const int follow = (op.args.open.flags & O_NOFOLLOW) != 0 ? AT_SYMLINK_NOFOLLOW : 0;
  struct stat info {};
  return ::fstatat(op.fd, op.args.open.path, &info, follow) == 0 && S_ISFIFO(info.st_mode);
}

}  // namespace

struct PoolOps::Record {
  struct Job : PoolJob {
    Record* record = nullptr;
  };
  struct Message : Runnable {
    Record* record = nullptr;
  };

  PoolOps* owner = nullptr;
  Op* op = nullptr;
  Job job;
  Message message;
  bool interrupting = false;           // owner thread
  bool once_more = false;              // the job is to run again, as a slow one
  std::atomic<bool> cancelled{false};  // tells the pool thread not to retry after EINTR
  // Jobs given to the pool and not yet left behind by its thread. The message comes home a moment before that; by then
  // the record may even be in use again, hence a count.
  std::atomic<std::uint32_t> with_pool{0};

  bool withdraw() noexcept {
    if (!owner->host_->pool().try_withdraw(job)) return false;
    with_pool.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }

  /// On a pool thread.
  void carry_out() noexcept {
    once_more = job.job_class == PoolJob::Class::quick && waits_for_other_end(*op);
    op->res = once_more ? -ECANCELED : perform_blocking(*op, cancelled);
    owner->host_->post(message);
    // release: pairs with the load in ~PoolOps. Our last access to the record and, through it, the host.
    with_pool.fetch_sub(1, std::memory_order_release);
  }
};

PoolOps::PoolOps() = default;

PoolOps::~PoolOps() { stop(); }

void PoolOps::stop() noexcept {
  for (const std::unique_ptr<Record>& record : records_) {
    Op* op = record->op;
    const bool is_close = op != nullptr && op->code == OpCode::close;
    if (op != nullptr && record->withdraw()) {
      if (is_close) (void)perform_now(*op);
      continue;
    }
    record->cancelled.store(!is_close, std::memory_order_relaxed);
    // Not until its message comes: nobody reads messages any more.
    while (record->with_pool.load(std::memory_order_acquire) != 0) {
      if (op == nullptr) {
        ::sched_yield();
        continue;
      }
      if (!is_close) host_->pool().interrupt(record->job);
      const timespec pause{0, 1'000'000};
      ::nanosleep(&pause, nullptr);
    }
    if (op != nullptr) discard_result(*op);
  }
  while (Op* op = done_.pop_front()) discard_result(*op);
  while (Op* op = backlog_.pop_front()) {
    if (op->code == OpCode::close) (void)perform_now(*op);
  }
  records_.clear();
}

PoolOps::Record& PoolOps::take_record() {
  if (spare_.empty()) {
    spare_.push_back(static_cast<std::uint16_t>(records_.size()));
    records_.push_back(std::make_unique<Record>());
    Record& fresh = *records_.back();
    fresh.owner = this;
    fresh.job.record = fresh.message.record = &fresh;
    fresh.job.run = [](Runnable& self) noexcept { static_cast<Record::Job&>(self).record->carry_out(); };
    fresh.message.run = [](Runnable& self) noexcept {
      Record& record = *static_cast<Record::Message&>(self).record;
      record.owner->end(record);
    };
  }
  return *records_[spare_.back()];
}

void PoolOps::submit(Op& op, bool may_hang) noexcept {
  ++in_flight_;
  if (spare_.empty() && records_.size() >= kRecordsMax) {
    op.backend_data = may_hang ? kInBacklogMayHang : kInBacklog;
    backlog_.push_back(op);
    return;
  }
  Record& record = take_record();
  op.backend_data = spare_.back();
  spare_.pop_back();
  record.op = &op;
  record.cancelled.store(false, std::memory_order_relaxed);
  record.interrupting = false;
  record.job.job_class = may_hang ? PoolJob::Class::slow : PoolJob::Class::quick;
  give_to_pool(record);
}

void PoolOps::give_to_pool(Record& record) noexcept {
  record.with_pool.fetch_add(1, std::memory_order_relaxed);
  host_->pool().submit(record.job);
}

void PoolOps::end(Record& record) noexcept {
  if (std::exchange(record.once_more, false) && !record.interrupting) {
    record.job.job_class = PoolJob::Class::slow;
    return give_to_pool(record);
  }
  Op& op = *record.op;
  record.op = nullptr;
  if (record.interrupting) --interrupting_;
  record.interrupting = false;
  spare_.push_back(op.backend_data);
  --in_flight_;
  done_.push_back(op);
  if (Op* waiting = backlog_.pop_front()) {
    --in_flight_;
    submit(*waiting, waiting->backend_data == kInBacklogMayHang);
  }
}

void PoolOps::cancel(Op& op) noexcept {
  if (op.code == OpCode::close) return;
  if (op.backend_data >= kInBacklogMayHang) {
    if (!backlog_.remove(op)) return;
    --in_flight_;
    op.res = -ECANCELED;
    done_.push_back(op);
    return;
  }
  Record& record = *records_[op.backend_data];
  if (record.op != &op || record.interrupting) return;
  if (record.withdraw()) {
    op.res = -ECANCELED;
    end(record);
    return;
  }
  record.cancelled.store(true, std::memory_order_relaxed);
  record.interrupting = true;
  ++interrupting_;
  interrupted_at_ = monotonic_now();
  host_->pool().interrupt(record.job);
}

void PoolOps::keep_interrupting() noexcept {
  const Instant now = monotonic_now();
  if (now - interrupted_at_ < kInterruptEvery) return;
  interrupted_at_ = now;
  for (const std::unique_ptr<Record>& record : records_) {
    if (record->interrupting) host_->pool().interrupt(record->job);
  }
}

}  // namespace evlua
