#include "backends/pool_ops.h"

#include <cerrno>

#include "backends/perform.h"

namespace evlua {

namespace {

constexpr std::size_t kRecordsMax = 0xfff0;

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
  std::atomic<bool> cancelled{false};  // tells the pool thread not to retry after EINTR
  std::atomic<bool> closing{false};    // do not post: the owner waits for `ended`
  std::atomic<bool> ended{false};
};

PoolOps::PoolOps() = default;

PoolOps::~PoolOps() {
  for (const std::unique_ptr<Record>& record : records_) {
    if (record->op == nullptr) continue;
    if (host_->pool().try_withdraw(record->job)) continue;
    record->cancelled.store(true);
    record->closing.store(true);
    while (!record->ended.load()) {
      host_->pool().interrupt(record->job);
      timespec pause{0, 1'000'000};
      ::nanosleep(&pause, nullptr);
    }
    if (returns_descriptor(record->op->code) && record->op->res >= 0) close_orphan(record->op->res);
  }
}

PoolOps::Record& PoolOps::take_record() {
  if (spare_.empty()) {
    spare_.push_back(static_cast<std::uint16_t>(records_.size()));
    records_.push_back(std::make_unique<Record>());
    Record& fresh = *records_.back();
    fresh.owner = this;
    fresh.job.record = fresh.message.record = &fresh;
    fresh.job.run = [](Runnable& self) noexcept {
      Record& record = *static_cast<Record::Job&>(self).record;
      record.op->res = perform_blocking(*record.op, record.cancelled);
      BackendHost& host = *record.owner->host_;
      // seq_cst: either the owner, which sets `closing` and then polls `ended`, sees this, or we see `closing`.
      if (record.closing.load()) {
        record.ended.store(true);
        return;
      }
      host.post(record.message);
    };
    fresh.message.run = [](Runnable& self) noexcept {
      Record& record = *static_cast<Record::Message&>(self).record;
      record.owner->end(record);
    };
  }
  Record& record = *records_[spare_.back()];
  return record;
}

void PoolOps::submit(Op& op) noexcept {
  ++in_flight_;
  if (spare_.empty() && records_.size() >= kRecordsMax) {
    backlog_.push_back(op);
    op.backend_data = 0xffff;
    return;
  }
  Record& record = take_record();
  op.backend_data = spare_.back();
  spare_.pop_back();
  record.op = &op;
  record.cancelled.store(false, std::memory_order_relaxed);
  record.interrupting = false;
  // An open may hang (a FIFO, a dead network mount), and so may reads of what is no regular file.
  record.job.job_class = op.code == OpCode::open ? PoolJob::Class::slow : PoolJob::Class::quick;
  host_->pool().submit(record.job);
}

void PoolOps::end(Record& record) noexcept {
  Op& op = *record.op;
  record.op = nullptr;
  if (record.interrupting) --interrupting_;
  record.interrupting = false;
  spare_.push_back(op.backend_data);
  --in_flight_;
  done_.push_back(op);
  if (Op* waiting = backlog_.pop_front()) {
    --in_flight_;
    submit(*waiting);
  }
}

void PoolOps::cancel(Op& op) noexcept {
  if (op.backend_data == 0xffff) {
    if (!backlog_.remove(op)) return;
    --in_flight_;
    op.res = -ECANCELED;
    done_.push_back(op);
    return;
  }
  Record& record = *records_[op.backend_data];
  if (record.op != &op || record.interrupting) return;
  if (host_->pool().try_withdraw(record.job)) {
    op.res = -ECANCELED;
    end(record);
    return;
  }
  record.cancelled.store(true);
  record.interrupting = true;
  ++interrupting_;
  host_->pool().interrupt(record.job);
}

void PoolOps::keep_interrupting() noexcept {
  for (const std::unique_ptr<Record>& record : records_) {
    if (record->interrupting) host_->pool().interrupt(record->job);
  }
}

}  // namespace evlua
