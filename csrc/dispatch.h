// From a tensor's scalar type to C++ types. Included by torch_abi.h.
#pragma once

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

// Calls f(bits) with an unsigned integer of the size of the tensor's elements, for kernels that only move them.
template <typename F>
void dispatch_size(const torch::stable::Tensor& tensor, F f) {
  switch (tensor.element_size()) {
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    case 8: return f(uint64_t{});
    default: STD_TORCH_CHECK(false, "expected elements of 2, 4 or 8 bytes");
  }
}
