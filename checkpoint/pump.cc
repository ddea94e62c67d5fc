#include "checkpoint/pump.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "checkpoint/float_conversion.h"

namespace qwen3::checkpoint {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;  // in float32
constexpr size_t kReaders = 2;            // beside the consumer, which writes
constexpr size_t kSlots = kReaders + 2;   // pieces in memory
constexpr size_t kBlock = 16 << 10;       // elements converted at once: stays in the cache

struct Work {
  size_t item;
  int64_t row_begin;
  int64_t rows;
};

int64_t row_items(const SourceTensor& tensor) {
  int64_t count = 1;
  for (size_t i = 1; i < tensor.shape.size(); ++i) count *= tensor.shape[i];
  return count;
}

int64_t count_not_finite(std::span<const std::byte> values) {
  int64_t count = 0;
  for (size_t i = 0; i < values.size(); i += sizeof(uint32_t)) {
    uint32_t bits;
    std::memcpy(&bits, values.data() + i, sizeof(bits));
    count += (bits & 0x7f800000) == 0x7f800000;
  }
  return count;
}

// One piece, and the room to make it.
class Slot {
 public:
  absl::Status fill(const TensorSource& source, const SourceTensor& tensor, const PumpItem& item, const Work& work) {
    piece_ = {.item = work.item, .row_begin = work.row_begin, .rows = work.rows};
    const int64_t items = row_items(tensor), count = work.rows * items;
    // What is only copied is not looked at.
    const bool look = item.digest || item.check;
    const Dtype read = item.as == tensor.dtype || !look ? item.as : tensor.dtype;
    bits_.resize(static_cast<size_t>(count * item_size(read)));
    absl::Status status = source.read_rows(item.name, work.row_begin, work.rows, bits_, read);
    if (!status.ok()) return status;
    piece_.bytes = bits_;
    if (read != item.as) {
      converted_.resize(static_cast<size_t>(count * item_size(item.as)));
      piece_.bytes = converted_;
    }
    if (!look && read == item.as) return absl::OkStatus();
    const size_t size = static_cast<size_t>(item_size(read)), wanted = static_cast<size_t>(item_size(item.as));
    for (size_t done = 0; done < static_cast<size_t>(count); done += kBlock) {
      const size_t block = std::min(kBlock, static_cast<size_t>(count) - done);
      const auto from = std::span<const std::byte>(bits_).subspan(done * size, block * size);
      const std::span<const std::byte> values = widened(from, read, block);
      if (item.digest) piece_.digest += digest_slice(values, 4, work.row_begin * items + static_cast<int64_t>(done));
      if (item.check) inspect(from, read, values, block);
      if (read == item.as) continue;
      const auto into = std::span(converted_).subspan(done * wanted, block * wanted);
      convert_values(values, Dtype::kFloat32, into, item.as);
    }
    return absl::OkStatus();
  }
  const PumpPiece& piece() const { return piece_; }

 private:
  std::span<const std::byte> widened(std::span<const std::byte> from, Dtype dtype, size_t block) {
    if (dtype == Dtype::kFloat32) return from;
    values_.resize(block * sizeof(float));
    convert_values(from, dtype, values_, Dtype::kFloat32);
    return values_;
  }

  void inspect(std::span<const std::byte> from, Dtype dtype, std::span<const std::byte> values, size_t block) {
    piece_.not_finite += count_not_finite(values);
    if (dtype == Dtype::kFloat32) return;
    restored_.resize(block * static_cast<size_t>(item_size(dtype)));
    convert_values(values, Dtype::kFloat32, restored_, dtype);
    piece_.not_restored |= std::memcmp(restored_.data(), from.data(), from.size()) != 0;
  }

  std::vector<std::byte> bits_;       // in the dtype that is read
  std::vector<std::byte> converted_;  // in the item's
  std::vector<std::byte> values_;     // of one block, float32
  std::vector<std::byte> restored_;   // of one block, in the source's dtype
  PumpPiece piece_;
};

class Pump {
 public:
  Pump(const TensorSource& source, std::span<const PumpItem> items) : source_(source), items_(items) {}

  absl::Status prepare() {
    std::unordered_map<std::string_view, const SourceTensor*> by_name;
    for (const SourceTensor& tensor : source_.tensors()) by_name[tensor.name] = &tensor;
    for (size_t i = 0; i < items_.size(); ++i) {
      const auto found = by_name.find(items_[i].name);
      if (found == by_name.end()) {
        return absl::NotFoundError(absl::StrCat("tensor \"", items_[i].name, "\": not in the source"));
      }
      const SourceTensor* tensor = found->second;
      tensors_.push_back(tensor);
      const int64_t bytes = std::max<int64_t>(1, row_items(*tensor) * static_cast<int64_t>(sizeof(float)));
      const int64_t rows = std::max<int64_t>(1, kPieceBytes / bytes), end = items_[i].row_begin + items_[i].rows;
      for (int64_t row = items_[i].row_begin; row < end; row += rows) {
        work_.push_back({i, row, std::min(rows, end - row)});
      }
    }
    return absl::OkStatus();
  }

  absl::Status run(const Progress& progress, const std::function<absl::Status(const PumpPiece&)>& consume) {
    int64_t total = 0, done = 0;
    for (const Work& work : work_) total += bytes_of(work);
    std::vector<std::thread> readers;
    for (size_t i = 0; i < kReaders; ++i) readers.emplace_back([this] { read(); });
    absl::Status status;
    for (size_t next = 0; next < work_.size() && status.ok(); ++next) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !status_.ok() || filled_[next % kSlots] == next + 1; });
        status = status_;
      }
      if (status.ok() && progress.cancelled && progress.cancelled()) status = absl::CancelledError("cancelled");
      if (status.ok()) status = consume(slots_[next % kSlots].piece());
      if (!status.ok()) break;
      done += bytes_of(work_[next]);
      if (progress.report) progress.report(done, total);
      const std::lock_guard lock(mutex_);
      ++consumed_;
      changed_.notify_all();
    }
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      changed_.notify_all();
    }
    for (std::thread& reader : readers) reader.join();
    return status;
  }

 private:
  int64_t bytes_of(const Work& work) const {
    const SourceTensor& tensor = *tensors_[work.item];
    return work.rows * row_items(tensor) * item_size(tensor.dtype);
  }

  void read() {
    while (true) {
      size_t mine;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || taken_ == work_.size() || taken_ < consumed_ + kSlots; });
        if (stop_ || taken_ == work_.size()) return;
        mine = taken_++;
      }
      const Work& work = work_[mine];
      absl::Status status = slots_[mine % kSlots].fill(source_, *tensors_[work.item], items_[work.item], work);
      const std::lock_guard lock(mutex_);
      if (!status.ok() && status_.ok()) status_ = std::move(status);
      filled_[mine % kSlots] = mine + 1;
      changed_.notify_all();
    }
  }

  const TensorSource& source_;
  const std::span<const PumpItem> items_;
  std::vector<const SourceTensor*> tensors_;  // of items_
  std::vector<Work> work_;

  std::mutex mutex_;  // guards all below but the inside of a slot, which belongs to its reader, then to the consumer
  std::condition_variable changed_;
  size_t taken_ = 0;
  size_t consumed_ = 0;
  bool stop_ = false;
  absl::Status status_;
  size_t filled_[kSlots] = {};  // 1 + the work that a slot holds
  Slot slots_[kSlots];
};

}  // namespace

absl::Status pump(const TensorSource& source, std::span<const PumpItem> items, const Progress& progress,
                  const std::function<absl::Status(const PumpPiece&)>& consume) {
  Pump pump(source, items);
  if (absl::Status status = pump.prepare(); !status.ok()) return status;
  return pump.run(progress, consume);
}

}  // namespace qwen3::checkpoint
