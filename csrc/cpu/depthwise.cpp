// Depthwise group convolutions: each map by itself, so that its filters are a matrix of slots for every tap and channels
// have nothing to do with each other. Vectors lie along channels; no filter stack is made.
//
// Pixels of one channel lie far apart, often by powers of two, which a cache of few ways does not like: a vector of channels
// of some rows is copied to where it lies densely, with zeros around it, and all slots and taps are taken from there.

#include "simd.h"

#include <type_traits>

namespace {

using gcnn::ceil_div;
using gcnn::floor_div;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Maps are [batch, slot, row, column, channel]. y(h, p) = bias + sum over slots s and taps t of
// filters[table[h, (s, t)]] x(s, place of p for t), place = (pixel * mul + shift) / div where that is whole and inside. One
// of mul and div is 1.
template <typename T>
struct Depthwise {
  int64_t batch, channels, x_slots, y_slots, taps;
  int64_t x_h, x_w, y_h, y_w;
  int64_t mul_h, mul_w, div_h, div_w;
  const int32_t* table;   // [y_slots, x_slots * taps]
  const int32_t* shifts;  // [taps, 2]
  int64_t rows;           // of y per work item

  int64_t entries() const { return x_slots * taps; }  // that a pixel of one slot reads
  int64_t across() const { return ceil_div(y_h, rows); }
  int64_t items() const { return batch * across(); }
};

// The part of a map that is copied, rows top.. and columns left..; it may reach outside.
struct Window {
  int64_t top, left, rows, columns;
  int64_t slot() const { return rows * columns; }
};

// What rows begin..end-1 of y read of x.
template <typename T>
inline Window window(const Depthwise<T>& job, int64_t begin, int64_t end) {
  int64_t low[2] = {job.shifts[0], job.shifts[1]}, high[2] = {low[0], low[1]};
  for (int64_t t = 1; t < job.taps; ++t)
    for (int64_t d = 0; d < 2; ++d) {
      low[d] = std::min<int64_t>(low[d], job.shifts[2 * t + d]);
      high[d] = std::max<int64_t>(high[d], job.shifts[2 * t + d]);
    }
  const int64_t top = floor_div(begin * job.mul_h + low[0], job.div_h), left = floor_div(low[1], job.div_w);
  return {top, left, floor_div((end - 1) * job.mul_h + high[0], job.div_h) + 1 - top,
          floor_div((job.y_w - 1) * job.mul_w + high[1], job.div_w) + 1 - left};
}

template <typename T, int Bytes>
struct Wide {
  static constexpr int lanes = Bytes / sizeof(T);
  // At any address. (Not to be handed to a template: as its argument it counts as aligned, for clang.)
  typedef T type __attribute__((vector_size(Bytes), aligned(sizeof(T)), may_alias));
};

// Memory for vectors, aligned to them.
template <typename T, int Bytes>
class Vectors {
 public:
  void resize(int64_t scalars) { memory_.resize(scalars / Wide<T, Bytes>::lanes); }
  void clear() { std::fill(memory_.begin(), memory_.end(), Aligned{}); }
  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }

 private:
  struct alignas(Bytes) Aligned {
    T lanes[Wide<T, Bytes>::lanes];
  };
  std::vector<Aligned> memory_;
};

// A vector of channels of which `count` exist, the rest being zeros.
template <typename T, int Bytes>
inline void copy_channels(const T* from, int64_t count, T* to) {
  using V = typename Wide<T, Bytes>::type;
  constexpr int lanes = Wide<T, Bytes>::lanes;
  if (count >= lanes) {
    *reinterpret_cast<V*>(to) = *reinterpret_cast<const V*>(from);
  } else {
    for (int l = 0; l < lanes; ++l) to[l] = l < count ? from[l] : T(0);
  }
}

// Channels c.. of the window of a map [slots, h, w, channels]: to[slot, row, column, lane].
template <typename T, int Bytes>
inline void copy_window(const T* map, int64_t slots, int64_t h, int64_t w, int64_t channels, int64_t c, const Window& part,
                        T* to) {
  constexpr int lanes = Wide<T, Bytes>::lanes;
  const int64_t begin = std::clamp<int64_t>(-part.left, 0, part.columns);
  const int64_t end = std::clamp<int64_t>(w - part.left, begin, part.columns);
  for (int64_t s = 0; s < slots; ++s)
    for (int64_t r = 0; r < part.rows; ++r, to += part.columns * lanes) {
      const int64_t row = part.top + r;
      if (row < 0 || row >= h) {
        std::fill_n(to, part.columns * lanes, T(0));
        continue;
      }
      const T* from = map + ((s * h + row) * w + part.left) * channels + c;
      std::fill_n(to, begin * lanes, T(0));
      for (int64_t j = begin; j < end; ++j) copy_channels<T, Bytes>(from + j * channels, channels - c, to + j * lanes);
      std::fill_n(to + end * lanes, (part.columns - end) * lanes, T(0));
    }
}

// What a pixel reads: where in the window, seen from the pixel's own place, and the filters, [slots / Slots, places, Slots,
// lanes].
template <typename T, int Bytes>
struct Reads {
  std::vector<int64_t> places;
  Vectors<T, Bytes> filters;
};

// `Pixels` pixels, `Slots` slots of y.
template <typename T, int Bytes, int Slots, int Pixels>
inline void pixels(const std::vector<int64_t>& places, const T* x, int64_t x_step, const T* filters, const T* bias, T* y,
                   int64_t y_slot, int64_t y_step, int64_t channels) {
  using V = typename Wide<T, Bytes>::type;
  constexpr int lanes = Wide<T, Bytes>::lanes;
  V sums[Pixels][Slots];
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 4
    for (int h = 0; h < Slots; ++h) sums[p][h] = *reinterpret_cast<const V*>(bias);
  const int64_t *place = places.data(), *last = place + places.size();
  for (; place < last; ++place, filters += Slots * lanes) {
    const T* from = x + *place;
    V values[Pixels];
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) values[p] = *reinterpret_cast<const V*>(from + p * x_step);
#pragma GCC unroll 4
    for (int h = 0; h < Slots; ++h) {
      const V w = *reinterpret_cast<const V*>(filters + h * lanes);
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p) sums[p][h] += w * values[p];
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 4
    for (int h = 0; h < Slots; ++h) {
      T* to = y + h * y_slot + p * y_step;
      if (channels >= lanes) {
        *reinterpret_cast<V*>(to) = sums[p][h];
      } else {
        for (int64_t l = 0; l < channels; ++l) to[l] = sums[p][h][l];
      }
    }
}

// The reads of pixel (i, j) of y; those of (i + div_h, j) and (i, j + div_w) are the same, one row or column further. Where
// div is 1 that holds for all pixels, so nothing is left out although it lies outside.
template <typename T, int Bytes, int Slots>
inline void find_reads(const Depthwise<T>& job, const Window& part, int64_t i, int64_t j, const T* filters, int64_t c,
                       Reads<T, Bytes>& reads) {
  constexpr int lanes = Wide<T, Bytes>::lanes;
  reads.places.clear();
  reads.filters.resize(job.y_slots * job.entries() * lanes);
  T* to = reads.filters.data();
  for (int64_t h = 0; h < job.y_slots; h += Slots)
    for (int64_t t = 0; t < job.taps; ++t) {
      const int64_t row = i * job.mul_h + job.shifts[2 * t], column = j * job.mul_w + job.shifts[2 * t + 1];
      const int64_t r = floor_div(row, job.div_h), k = floor_div(column, job.div_w);
      if (r * job.div_h != row || k * job.div_w != column) continue;
      for (int64_t s = 0; s < job.x_slots; ++s) {
        if (h == 0) reads.places.push_back((s * part.slot() + (r - part.top) * part.columns + k - part.left) * lanes);
        for (int64_t l = 0; l < Slots; ++l, to += lanes) {
          const int64_t entry = job.table[(h + l) * job.entries() + s * job.taps + t];
          copy_channels<T, Bytes>(filters + entry * job.channels + c, job.channels - c, to);
        }
      }
    }
}

// Pixels `step` columns apart, `count` of them. x: what the first one's places count from.
template <typename T, int Bytes, int Slots>
inline void row_of_pixels(const Depthwise<T>& job, const Reads<T, Bytes>& reads, const T* x, const T* bias, T* y, int64_t step,
                          int64_t count, int64_t channels) {
  constexpr int lanes = Wide<T, Bytes>::lanes;
  // As many sums as registers hold beside a filter and what is read.
  constexpr int registers = Bytes == 64 ? 24 : 12, block = std::min(registers / Slots, 8);
  const int64_t x_step = job.mul_w * lanes, y_step = step * job.channels, y_slot = job.y_h * job.y_w * job.channels;
  const T* filters = reads.filters.data();
  for (int64_t h = 0; h < job.y_slots; h += Slots, y += Slots * y_slot, filters += reads.places.size() * Slots * lanes) {
    // The last block goes over pixels that the one before it has done already.
    for (int64_t m = 0; m < count && count >= block; m += block) {
      const int64_t at = std::min(m, count - block);
      pixels<T, Bytes, Slots, block>(reads.places, x + at * x_step, x_step, filters, bias, y + at * y_step, y_slot,
                                     y_step, channels);
    }
    for (int64_t m = 0; m < count && count < block; ++m)
      pixels<T, Bytes, Slots, 1>(reads.places, x + m * x_step, x_step, filters, bias, y + m * y_step, y_slot, y_step,
                                 channels);
  }
}

// body(begin, end) over [0, count) on torch's threads, with vectors of so many bytes.
template <int Bytes, typename Body>
void parallel(int64_t count, const Body& body) {
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
#if defined(__x86_64__) && defined(__GNUC__)
    if constexpr (Bytes == 64) return run_avx512(body, begin, end);
    if constexpr (Bytes == 32) return run_avx2(body, begin, end);
#endif
    body(begin, end);
  });
}

template <typename T, int Bytes, int Slots>
void convolve(const Depthwise<T>& job, const T* x, const T* filters, const T* bias, T* y) {
  constexpr int lanes = Wide<T, Bytes>::lanes;
  parallel<Bytes>(job.items(), [&](int64_t begin, int64_t end) {
    Reads<T, Bytes> reads;
    Vectors<T, Bytes> copied, shift;
    shift.resize(lanes);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / job.across(), top = item % job.across() * job.rows;
      const int64_t bottom = std::min(top + job.rows, job.y_h);
      const Window part = window(job, top, bottom);
      copied.resize(job.x_slots * part.slot() * lanes);
      for (int64_t c = 0; c < job.channels; c += lanes) {
        const T* map = x + image * job.x_slots * job.x_h * job.x_w * job.channels;
        copy_window<T, Bytes>(map, job.x_slots, job.x_h, job.x_w, job.channels, c, part, copied.data());
        if (bias) copy_channels<T, Bytes>(bias + c, job.channels - c, shift.data());
        // Rows, and columns, that are div apart read alike.
        for (int64_t i = top; i < std::min(top + job.div_h, bottom); ++i)
          for (int64_t j = 0; j < std::min(job.div_w, job.y_w); ++j) {
            find_reads<T, Bytes, Slots>(job, part, i, j, filters, c, reads);
            const T* from = copied.data();
            for (int64_t row = i; row < bottom; row += job.div_h, from += job.mul_h * part.columns * lanes)
              row_of_pixels<T, Bytes, Slots>(
                  job, reads, from, shift.data(),
                  y + ((image * job.y_slots * job.y_h + row) * job.y_w + j) * job.channels + c, job.div_w,
                  ceil_div(job.y_w - j, job.div_w), job.channels - c);
          }
      }
    }
  });
}

// sums[h, s] += the sum of grad(h, p) x(s, place of p) over some rows of grad.
template <typename T, int Bytes, int Slots, int XSlots>
inline void products(const T* grad, int64_t grad_slot, const T* x, int64_t x_slot, int64_t x_row, int64_t x_step,
                     int64_t rows, int64_t columns, T* sums, int64_t h_step, int64_t s_step) {
  using V = typename Wide<T, Bytes>::type;
  constexpr int lanes = Wide<T, Bytes>::lanes;
  V total[Slots][XSlots];
#pragma GCC unroll 4
  for (int h = 0; h < Slots; ++h)
#pragma GCC unroll 2
    for (int s = 0; s < XSlots; ++s) total[h][s] = *reinterpret_cast<V*>(sums + h * h_step + s * s_step);
  for (int64_t i = 0; i < rows; ++i, x += x_row) {
    const T* from = x;
    for (int64_t j = 0; j < columns; ++j, grad += lanes, from += x_step) {
      V values[XSlots];
#pragma GCC unroll 2
      for (int s = 0; s < XSlots; ++s) values[s] = *reinterpret_cast<const V*>(from + s * x_slot);
#pragma GCC unroll 4
      for (int h = 0; h < Slots; ++h) {
        const V g = *reinterpret_cast<const V*>(grad + h * grad_slot);
#pragma GCC unroll 2
        for (int s = 0; s < XSlots; ++s) total[h][s] += g * values[s];
      }
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < Slots; ++h)
#pragma GCC unroll 2
    for (int s = 0; s < XSlots; ++s) *reinterpret_cast<V*>(sums + h * h_step + s * s_step) = total[h][s];
}

// The items are summed in parts, which do not depend on the number of threads, and the parts in their order. `size`: of
// filters_grad, entries of a filter times channels.
template <typename T, int Bytes, int Slots, int XSlots>
void weight_grad(const Depthwise<T>& job, const T* grad, const T* x, int64_t size, T* filters_grad) {
  constexpr int lanes = Wide<T, Bytes>::lanes;
  const int64_t per_part = ceil_div(job.items(), 32), parts = ceil_div(job.items(), per_part);
  const int64_t pairs = job.y_slots * job.entries();
  std::vector<T> partial(parts * size);
  parallel<Bytes>(parts, [&](int64_t begin, int64_t end) {
    Vectors<T, Bytes> copied, copied_grad, sums;
    sums.resize(ceil_div(job.channels, lanes) * pairs * lanes);
    for (int64_t part = begin; part < end; ++part) {
      // A vector of channels after the other, each with the sums of all pairs of slots and taps.
      sums.clear();
      for (int64_t item = part * per_part; item < std::min((part + 1) * per_part, job.items()); ++item) {
        const int64_t image = item / job.across(), top = item % job.across() * job.rows;
        const int64_t rows = std::min(job.rows, job.y_h - top);
        const Window read = window(job, top, top + rows), all = {top, 0, rows, job.y_w};
        copied.resize(job.x_slots * read.slot() * lanes);
        copied_grad.resize(job.y_slots * all.slot() * lanes);
        T* to = sums.data();
        for (int64_t c = 0; c < job.channels; c += lanes, to += pairs * lanes) {
          copy_window<T, Bytes>(x + image * job.x_slots * job.x_h * job.x_w * job.channels, job.x_slots, job.x_h, job.x_w,
                             job.channels, c, read, copied.data());
          copy_window<T, Bytes>(grad + image * job.y_slots * job.y_h * job.y_w * job.channels, job.y_slots, job.y_h, job.y_w,
                             job.channels, c, all, copied_grad.data());
          for (int64_t t = 0; t < job.taps; ++t) {
            const int64_t r = top * job.mul_h + job.shifts[2 * t] - read.top, j = job.shifts[2 * t + 1] - read.left;
            for (int64_t h = 0; h < job.y_slots; h += Slots)
              for (int64_t s = 0; s < job.x_slots; s += XSlots)
                products<T, Bytes, Slots, XSlots>(
                    copied_grad.data() + h * all.slot() * lanes, all.slot() * lanes,
                    copied.data() + (s * read.slot() + r * read.columns + j) * lanes, read.slot() * lanes,
                    job.mul_h * read.columns * lanes, job.mul_w * lanes, rows, job.y_w,
                    to + (h * job.entries() + s * job.taps + t) * lanes, job.entries() * lanes, job.taps * lanes);
          }
        }
      }
      T* result = partial.data() + part * size;
      const T* from = sums.data();
      std::fill_n(result, size, T(0));
      for (int64_t c = 0; c < job.channels; c += lanes)
        for (int64_t k = 0; k < pairs; ++k, from += lanes)
          for (int64_t l = 0; l < std::min<int64_t>(lanes, job.channels - c); ++l)
            result[job.table[k] * job.channels + c + l] += from[l];
    }
  });
  std::fill_n(filters_grad, size, T(0));
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t k = 0; k < size; ++k) filters_grad[k] += partial[part * size + k];
}

// Rows of y per item: what is copied for a vector of channels should stay in cache.
constexpr int64_t kCopyBytes = 192 << 10;
constexpr int64_t kMostRows = 8;

template <typename T>
Depthwise<T> describe(const Tensor& x, const Tensor& y, const Tensor& table, const Tensor& shifts, int64_t mul_h,
                      int64_t mul_w, int64_t div_h, int64_t div_w) {
  Depthwise<T> job{x.size(0), x.size(1), x.size(2), y.size(2), shifts.size(0),
                   x.size(3), x.size(4), y.size(3), y.size(4), mul_h,
                   mul_w,     div_h,     div_w,     data<const int32_t>(table), data<const int32_t>(shifts),
                   std::min(y.size(3), kMostRows)};
  const auto bytes = [&] { return window(job, 0, job.rows).slot() * job.x_slots * 32; };
  while (job.rows > 1 && bytes() > kCopyBytes) --job.rows;
  return job;
}

// f(bytes of a vector, slots of y done together), as types. Channels that fill half a vector take shorter ones.
template <typename F>
void with_sizes(int64_t channel_bytes, int64_t slots, const F& f) {
  const auto with_slots = [&](auto bytes) {
    if (slots == 1) return f(bytes, std::integral_constant<int, 1>{});
    if (slots == 2) return f(bytes, std::integral_constant<int, 2>{});
    STD_TORCH_CHECK(slots % 4 == 0, "expected 1, 2 or a multiple of 4 slots");
    f(bytes, std::integral_constant<int, 4>{});
  };
#if defined(__x86_64__) && defined(__GNUC__)
  if (gcnn::isa() == gcnn::Isa::avx512 && channel_bytes > 32) return with_slots(std::integral_constant<int, 64>{});
  if (gcnn::isa() != gcnn::Isa::portable) return with_slots(std::integral_constant<int, 32>{});
#endif
  with_slots(std::integral_constant<int, 16>{});
}

template <typename F>
void with_scalar(const Tensor& tensor, const F& f) {
  if (tensor.scalar_type() == ScalarType::Double) return f(double{});
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float, "expected float32 or float64");
  f(float{});
}

// x, y: maps of as many channels, in channels_last_3d. filters: [entries of a filter, C]. table, shifts: int32, see Depthwise.
void depthwise(const Tensor& x, const Tensor& filters, std::optional<Tensor> bias, const Tensor& table,
               const Tensor& shifts, int64_t mul_h, int64_t mul_w, int64_t div_h, int64_t div_w, const Tensor& y) {
  with_scalar(x, [&](auto zero) {
    using T = decltype(zero);
    const Depthwise<T> job = describe<T>(x, y, table, shifts, mul_h, mul_w, div_h, div_w);
    with_sizes(job.channels * sizeof(T), job.y_slots, [&](auto bytes, auto slots) {
      convolve<T, bytes(), slots()>(job, data<const T>(x), data<const T>(filters), bias ? data<const T>(*bias) : nullptr,
                                    data<T>(y));
    });
  });
}

// The gradient of depthwise, with div = 1, with respect to the filters.
void depthwise_weight_grad(const Tensor& grad, const Tensor& x, const Tensor& table, const Tensor& shifts, int64_t mul_h,
                           int64_t mul_w, const Tensor& filters_grad) {
  with_scalar(x, [&](auto zero) {
    using T = decltype(zero);
    const Depthwise<T> job = describe<T>(x, grad, table, shifts, mul_h, mul_w, 1, 1);
    with_sizes(job.channels * sizeof(T), job.y_slots, [&](auto bytes, auto slots) {
      const auto run = job.x_slots == 1 ? weight_grad<T, bytes(), slots(), 1> : weight_grad<T, bytes(), slots(), 2>;
      run(job, data<const T>(grad), data<const T>(x), filters_grad.numel(), data<T>(filters_grad));
    });
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def(
      "depthwise(Tensor x, Tensor filters, Tensor? bias, Tensor table, Tensor shifts, int mul_h, int mul_w, int div_h, "
      "int div_w, Tensor(a!) y) -> ()");
  m.def(
      "depthwise_weight_grad(Tensor grad, Tensor x, Tensor table, Tensor shifts, int mul_h, int mul_w, "
      "Tensor(a!) filters_grad) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("depthwise", TORCH_BOX(&depthwise));
  m.impl("depthwise_weight_grad", TORCH_BOX(&depthwise_weight_grad));
}
