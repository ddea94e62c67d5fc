// The CPU allocator of a training process: counts tensor bytes and reuses large buffers. Fresh pages from the kernel
// cost up to four times a large elementwise operation, and a training step asks for the same sizes again and again.
#pragma once
#include <cstdint>

namespace qwen3::kernels {

// From now on every CPU tensor comes from this allocator. Call once, before threads that allocate are started; a second
// call does nothing. Tensors made before stay valid. Buffers of at least 64 KiB are kept when freed and handed out
// again; live and kept buffers together never exceed the largest sum of live ones so far by more than a quarter.
void install_recycling_allocator();

// Bytes asked for by the CPU tensors that exist now, and the most since the last reset_peak(). Kept buffers do not
// count. Zero before the installation. Any thread may call.
int64_t live_bytes();
int64_t peak_bytes();
void reset_peak();

// Bytes of freed buffers that are kept.
int64_t kept_bytes();

}  // namespace qwen3::kernels
