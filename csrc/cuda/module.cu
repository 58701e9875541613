// The binary's identity, and whether a GPU can run it. It has no Python init function: torch.ops.load_library loads it.

#include "launch.cuh"

// gcnn_kernels/backends/binaries.py looks for this text in the file, to know from which sources it was made.
extern "C" __attribute__((visibility("default"), used)) const char gcnn_cuda_source_hash[] = GCNN_SOURCE_HASH;

namespace {

__global__ void probe() {}

// Whether the binary holds code for that device.
bool runs_on(int64_t device) {
  const torch::stable::accelerator::DeviceGuard guard(static_cast<int32_t>(device));
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorInvalidKernelImage || error == cudaErrorUnsupportedPtxVersion) {
    cudaGetLastError();  // so that it is not reported by a later call
    return false;
  }
  STD_CUDA_CHECK(error);
  return true;
}

}  // namespace

STABLE_TORCH_LIBRARY(gcnn_cuda, m) { m.def("runs_on(int device) -> bool"); }

STABLE_TORCH_LIBRARY_IMPL(gcnn_cuda, CompositeExplicitAutograd, m) { m.impl("runs_on", TORCH_BOX(&runs_on)); }
