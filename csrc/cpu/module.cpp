// The binary's identity. It has no Python init function: torch.ops.load_library loads it.

#include "torch_abi.h"

// gcnn_kernels/backends/binaries.py looks for this text in the file, to know from which sources it was made.
extern "C" __attribute__((visibility("default"), used)) const char gcnn_cpu_source_hash[] = GCNN_SOURCE_HASH;

STABLE_TORCH_LIBRARY(gcnn_cpu, m) {}
