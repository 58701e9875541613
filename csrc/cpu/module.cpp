// The binary's identity. It has no Python init function: torch.ops.load_library loads it.

#include "torch_abi.h"

#include <string>

// gcnn_kernels/backends/binaries.py looks for this text in the file, to know from which sources it was made.
extern "C" __attribute__((visibility("default"), used)) const char gcnn_cpu_source_hash[] = GCNN_SOURCE_HASH;

namespace {

// What compiled the binary, with its version.
std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#else
  return "an unknown compiler";
#endif
}

}  // namespace

STABLE_TORCH_LIBRARY(gcnn_cpu, m) { m.def("compiler() -> str"); }

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CompositeExplicitAutograd, m) { m.impl("compiler", TORCH_BOX(&compiler)); }
