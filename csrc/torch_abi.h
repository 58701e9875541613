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

#include "dispatch.h"
