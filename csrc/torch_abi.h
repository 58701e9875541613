// What the sources use of torch: its stable ABI, and nothing else.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <vector>

template <typename T>
T* data(const torch::stable::Tensor& tensor) {
  return static_cast<T*>(const_cast<void*>(static_cast<const void*>(tensor.data_ptr())));
}

// Calls f(zero, accumulator) with values of the tensor's scalar type and of the type its sums are kept in.
template <typename F>
void dispatch_floating(const torch::stable::Tensor& tensor, F f) {
  using torch::headeronly::ScalarType;
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return f(float{}, float{});
    case ScalarType::Double: return f(double{}, double{});
    case ScalarType::BFloat16: return f(c10::BFloat16{}, float{});
    case ScalarType::Half: return f(c10::Half{}, float{});
    default: STD_TORCH_CHECK(false, "expected a floating-point tensor");
  }
}
