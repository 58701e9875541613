// What csrc/cpu uses of torch, for a machine that has no torch: it takes the place of csrc/torch_abi.h. Operators are
// called by their names with arguments that are read from a stream (run.cpp).
#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace torch::stable {

// Dense, in an order that the operators know.
class Tensor {
 public:
  Tensor(torch::headeronly::ScalarType type, std::vector<int64_t> sizes, int64_t bytes)
      : type_(type), sizes_(std::move(sizes)), bytes_(bytes), data_(new char[bytes]) {}
  int64_t size(int64_t dim) const { return sizes_[dim]; }
  int64_t dim() const { return sizes_.size(); }
  int64_t element_size() const { return bytes_ / std::max<int64_t>(numel(), 1); }
  int64_t numel() const { return std::accumulate(sizes_.begin(), sizes_.end(), int64_t(1), std::multiplies<>()); }
  torch::headeronly::ScalarType scalar_type() const { return type_; }
  void* data_ptr() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  torch::headeronly::ScalarType type_;
  std::vector<int64_t> sizes_;
  int64_t bytes_;
  std::shared_ptr<char[]> data_;
};

inline int64_t get_num_threads() { return 2; }

// In pieces, as threads would do it, one after another.
template <typename F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  const int64_t step = std::max((end - begin + 2) / 3, grain);
  for (int64_t i = begin; i < end; i += step) f(i, std::min(i + step, end));
}

}  // namespace torch::stable

using torch::stable::Tensor;

template <typename T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

#include "dispatch.h"

// A call: arguments come from one stream, each after its tag, and all tensors go to the other afterwards.
class Call {
 public:
  Call(std::istream& in, std::ostream& out) : in_(in), out_(out) {}

  template <typename T>
  T take() {
    const auto tag = read<int64_t>();
    if constexpr (std::is_same_v<T, std::optional<Tensor>>) {
      return tag == kNone ? std::nullopt : std::optional(tensor());
    } else if constexpr (std::is_same_v<T, Tensor>) {
      STD_TORCH_CHECK(tag == kTensor, "expected a tensor");
      return tensor();
    } else {
      STD_TORCH_CHECK(tag == (std::is_floating_point_v<T> ? kFloat : kWhole), "expected a number of another kind");
      return read<std::conditional_t<std::is_floating_point_v<T>, double, int64_t>>();
    }
  }

  void give_back() const {
    for (const Tensor& tensor : tensors_) out_.write(data<char>(tensor), tensor.bytes());
  }

  template <typename R>
  void give(const R& result) const {
    out_ << result;
  }

 private:
  enum Tag { kNone, kTensor, kWhole, kFloat };

  template <typename N>
  N read() {
    N value;
    in_.read(reinterpret_cast<char*>(&value), sizeof value);
    STD_TORCH_CHECK(in_.good(), "too few arguments");
    return value;
  }

  Tensor tensor() {
    const auto type = static_cast<torch::headeronly::ScalarType>(read<int64_t>());
    std::vector<int64_t> sizes(read<int64_t>());
    for (int64_t& size : sizes) size = read<int64_t>();
    const Tensor result(type, sizes, read<int64_t>());
    in_.read(data<char>(result), result.bytes());
    tensors_.push_back(result);
    return result;
  }

  std::istream& in_;
  std::ostream& out_;
  std::vector<Tensor> tensors_;
};

using Operator = std::function<void(Call&)>;

template <typename R, typename... Arguments>
Operator boxed(R (*function)(Arguments...)) {
  return [function](Call& call) {
    std::tuple<std::decay_t<Arguments>...> arguments{call.take<std::decay_t<Arguments>>()...};
    if constexpr (std::is_void_v<R>) {
      std::apply(function, arguments);
      call.give_back();
    } else {
      call.give(std::apply(function, arguments));
    }
  };
}

inline std::map<std::string, Operator>& operators() {
  static std::map<std::string, Operator> all;
  return all;
}

struct Library {
  void def(const char*) {}
  void impl(const char* name, Operator function) { operators()[name] = std::move(function); }
};

#define TORCH_BOX(function) boxed(function)
#define JOIN(a, b) a##b
#define NAME(a, b) JOIN(a, b)
#define REGISTER(name, m)            \
  static void name(Library&);             \
  static const bool NAME(name, _done) = [] { \
    Library library;                      \
    name(library);                        \
    return true;                          \
  }();                                    \
  static void name(Library& m)
#define STABLE_TORCH_LIBRARY(library, m) REGISTER(NAME(library_, __LINE__), m)
#define STABLE_TORCH_LIBRARY_FRAGMENT(library, m) REGISTER(NAME(fragment_, __LINE__), m)
#define STABLE_TORCH_LIBRARY_IMPL(library, key, m) REGISTER(NAME(impl_, __LINE__), m)
