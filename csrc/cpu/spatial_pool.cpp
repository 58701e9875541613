// Maximum over windows of 2 x 2 pixels, and the scatter and gather by its index.
//
// A row of windows is [width, channels] in channels_last, and the two rows of pixels that it covers [2 * width, channels];
// a contiguous map has more rows, of one channel. Vectors lie along channels, or along pixels where there is one channel.
// A run of channels is widened to whole vectors where that reads nothing outside and writes only what is written again.
// These are AVX2's: runs begin anywhere, and of longer vectors most would lie in two lines of the cache.

#include "simd.h"

namespace {

using torch::stable::Tensor;

constexpr int64_t kBlock = 1024;   // numbers that stay in the first-level cache
constexpr int64_t kVector = 8;     // what runs are widened to multiples of
constexpr int64_t kAhead = 4096;   // numbers from where a map is read or written to where it is fetched, at least
constexpr int64_t kLine = 64;      // bytes that are fetched at once
constexpr int kFirstLevel = 3, kSecondLevel = 2;  // caches, in __builtin_prefetch
constexpr int64_t kGrain = 32768;  // elements of the map worth a thread

struct Windows {
  int64_t rows, width, channels;

  Windows(const Tensor& windows, bool channels_last)
      : rows(windows.size(0) * windows.size(2) * windows.size(3)), width(windows.size(4)), channels(1) {
    (channels_last ? channels : rows) *= windows.size(1);
  }
  int64_t line() const { return 2 * width * channels; }  // from a pixel to the one below

  // Along long rows, else at the same place of another two rows: both of them are fetched when these two are read.
  int64_t ahead() const {
    const int64_t rows = std::max<int64_t>(2 * line(), 1);
    return line() > 4 * kAhead ? kAhead : (kAhead / rows + 1) * rows;
  }
};

// `count` windows side by side, `run` of their channels: where they begin, among the windows and in the map.
struct Block {
  int64_t window, pixel, count, run;
};

template <typename Body>
void for_each_block(const Windows& w, const Body& body) {
  const int64_t run = std::clamp<int64_t>(w.channels, 1, kBlock), count = kBlock / run;
  parallel_simd<gcnn::Isa::avx2>(w.rows, kGrain / std::max<int64_t>(2 * w.line(), 1), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t i = 0; i < w.width; i += count) {
        for (int64_t c = 0; c < w.channels; c += run) {
          body(Block{(row * w.width + i) * w.channels + c, 2 * row * w.line() + 2 * i * w.channels + c,
                     std::min(count, w.width - i), std::min(run, w.channels - c)});
        }
      }
    }
  });
}

template <int64_t N>
using Constant = std::integral_constant<int64_t, N>;

// body(step, number, pixel, n) for runs of n numbers, the block's from `number` on; neighbours are `step` apart in the map.
// A widened run ends before `end`. Few channels have the loop of one vector, unrolled.
template <typename Body>
void for_each_run(const Windows& w, const Block& block, int64_t end, const Body& body) {
  if (w.channels == 1) return body(Constant<2>{}, int64_t(0), block.pixel, block.count);
  const int64_t widened = (block.run + kVector - 1) / kVector * kVector;
  for (int64_t i = 0, pixel = block.pixel; i < block.count; ++i, pixel += 2 * w.channels) {
    if (pixel + widened > end) {
      body(Constant<1>{}, i * block.run, pixel, block.run);
    } else if (widened == kVector) {
      body(Constant<1>{}, i * block.run, pixel, Constant<kVector>{});
    } else if (widened == 2 * kVector) {
      body(Constant<1>{}, i * block.run, pixel, Constant<2 * kVector>{});
    } else {
      body(Constant<1>{}, i * block.run, pixel, widened);
    }
  }
}

// The pixels of one window, all channels, to be read (0) or written (1).
template <int WRITTEN, int LEVEL, typename T>
void fetch(const Windows& w, const T* window) {
  for (int64_t i = 0; i < 2 * w.channels; i += kLine / sizeof(T)) {
    __builtin_prefetch(window + i, WRITTEN, LEVEL);
    __builtin_prefetch(window + w.line() + i, WRITTEN, LEVEL);
  }
}

template <int STEP, typename N, typename T, typename A>
void max_of_run(const T* x, int64_t right, int64_t below, N n, A* best, int32_t* where) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    A most = static_cast<A>(x[STEP * j]);
    int32_t which = 0;
    const auto compare = [&](int64_t offset, int32_t corner) {
      const A candidate = static_cast<A>(x[STEP * j + offset]);
      const bool better = (candidate > most) | (candidate != candidate);  // the last NaN stays, as in torch
      most = better ? candidate : most;
      which = better ? corner : which;
    };
    compare(right, 1);
    compare(below, 2);
    compare(below + right, 3);
    best[j] = most;
    where[j] = which;
  }
}

template <typename T, typename A>
void max_over_windows(const Windows& w, const T* x, T* value, uint8_t* index) {
  const int64_t readable = 2 * w.rows * w.line() - w.line() - w.channels, ahead = w.ahead();
  for_each_block(w, [=](const Block& block) {
    A best[kBlock + kVector];
    int32_t where[kBlock + kVector];
    for_each_run(w, block, readable, [&](auto step, int64_t number, int64_t pixel, auto n) {
      fetch<0, kSecondLevel>(w, x + pixel + ahead);
      for (int64_t i = kAhead / 4; i < kAhead / 4 + w.channels; i += kLine / sizeof(T))
        __builtin_prefetch(value + block.window + number + i, 1);
      max_of_run<step.value>(x + pixel, w.channels, w.line(), n, best + number, where + number);
    });
    T* to = value + block.window;
    uint8_t* to_index = index + block.window;
    for (int64_t j = 0; j < block.count * block.run; ++j) to[j] = static_cast<T>(best[j]);
#pragma omp simd
    for (int64_t j = 0; j < block.count * block.run; ++j) to_index[j] = static_cast<uint8_t>(where[j]);
  });
}

// Numbers, as bits, go to the corner that `corner` says.
template <int STEP, typename N, typename Bits>
void scatter_run(const Bits* number, const Bits* corner, Bits which, N n, Bits* to) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) to[STEP * j] = number[j] & -Bits(corner[j] == which);
}

template <typename Bits>
void scatter(const Windows& w, const Bits* grad, const uint8_t* index, Bits* map) {
  const int64_t ahead = w.ahead();
  for_each_block(w, [=](const Block& block) {
    Bits number[kBlock + kVector], corner[kBlock + kVector];
    std::copy_n(grad + block.window, block.count * block.run, number);
#pragma omp simd
    for (int64_t j = 0; j < block.count * block.run; ++j) corner[j] = index[block.window + j];
    const int64_t end = block.run == w.channels ? block.pixel + (2 * block.count - 1) * w.channels : 0;
    for_each_run(w, block, end, [&](auto step, int64_t from, int64_t pixel, auto n) {
      fetch<1, kFirstLevel>(w, map + pixel + ahead);
      for (int which = 0; which < 4; ++which) {
        Bits* to = map + pixel + which / 2 * w.line() + which % 2 * w.channels;
        scatter_run<step.value>(number + from, corner + from, Bits(which), n, to);
      }
    });
  });
}

template <int STEP, typename N, typename Bits>
void gather_run(const Bits* x, int64_t right, int64_t below, const Bits* corner, N n, Bits* number) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    number[j] = (x[STEP * j] & -Bits(corner[j] == 0)) | (x[STEP * j + right] & -Bits(corner[j] == 1)) |
                (x[STEP * j + below] & -Bits(corner[j] == 2)) | (x[STEP * j + below + right] & -Bits(corner[j] == 3));
  }
}

template <typename Bits>
void gather(const Windows& w, const Bits* map, const uint8_t* index, Bits* value) {
  const int64_t readable = 2 * w.rows * w.line() - w.line() - w.channels;
  for_each_block(w, [=](const Block& block) {
    Bits number[kBlock + kVector], corner[kBlock + kVector];
#pragma omp simd
    for (int64_t j = 0; j < block.count * block.run; ++j) corner[j] = index[block.window + j];
    for_each_run(w, block, readable, [&](auto step, int64_t to, int64_t pixel, auto n) {
      gather_run<step.value>(map + pixel, w.channels, w.line(), corner + to, n, number + to);
    });
    std::copy_n(number, block.count * block.run, value + block.window);
  });
}

// Maps [B, C, S, 2 * H, 2 * W] and the values of their windows, [B, C, S, H, W], are dense in the format that channels_last
// says.
void spatial_max(const Tensor& x, bool channels_last, const Tensor& value, const Tensor& index) {
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    max_over_windows<T, decltype(accumulator)>(Windows(value, channels_last), data<const T>(x), data<T>(value),
                                               data<uint8_t>(index));
  });
}

void spatial_max_scatter(const Tensor& grad, const Tensor& index, bool channels_last, const Tensor& map) {
  dispatch_size(grad, [&](auto zero) {
    using Bits = decltype(zero);
    scatter<Bits>(Windows(index, channels_last), data<const Bits>(grad), data<const uint8_t>(index), data<Bits>(map));
  });
}

void spatial_max_gather(const Tensor& map, const Tensor& index, bool channels_last, const Tensor& value) {
  dispatch_size(map, [&](auto zero) {
    using Bits = decltype(zero);
    gather<Bits>(Windows(index, channels_last), data<const Bits>(map), data<const uint8_t>(index), data<Bits>(value));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def("spatial_max(Tensor x, bool channels_last, Tensor(a!) value, Tensor(b!) index) -> ()");
  m.def("spatial_max_scatter(Tensor grad, Tensor index, bool channels_last, Tensor(a!) map) -> ()");
  m.def("spatial_max_gather(Tensor map, Tensor index, bool channels_last, Tensor(a!) value) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("spatial_max", TORCH_BOX(&spatial_max));
  m.impl("spatial_max_scatter", TORCH_BOX(&spatial_max_scatter));
  m.impl("spatial_max_gather", TORCH_BOX(&spatial_max_gather));
}
