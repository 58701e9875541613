// Batch norm over batch, plane and group, with affine map and activation: one read for the statistics, one read and one
// write to normalise, and the same again backward.
//
// A map is cut into pieces by its shape alone, never by the number of threads, so every result is reproducible. The
// elements of a piece are contiguous in memory: in channels_last some rows of all channels, otherwise a part of one
// channel's plane. Sums run in float (double for double) within a piece and in double across pieces.

#include "simd.h"
#include "operators.h"

#include <array>
#include <cmath>
#include <numeric>
#include <utility>

namespace {

using torch::stable::Tensor;

constexpr int64_t kRowPiece = 16384;   // elements of a piece in channels_last ...
constexpr int64_t kLeastRows = 64;     // ... and rows, which bound the share of the partial sums in the traffic
constexpr int64_t kPlanePiece = 4096;  // elements of a piece otherwise
constexpr int64_t kLeastPeriod = 256;  // few channels are repeated up to this length, ...
constexpr int64_t kMostPeriod = 1024;  // ... or further, up to this one, to fill the vectors
constexpr int64_t kLanes = 16;         // numbers of the longest vector
constexpr int64_t kPlanePeriod = 64;   // sums of a plane that run side by side
constexpr int64_t kPivotShare = 16;    // of a piece's rows, one in how many is taken for the pivot
constexpr int64_t kGrain = 32768;      // elements worth a thread

struct Map {
  int64_t batch, channels, plane;  // plane: slots times pixels
  bool channels_last;
};

struct Piece {
  int64_t index, line, offset, size;
};

// A line is a sample in channels_last, a channel of a sample otherwise.
struct Pieces {
  int64_t lines, length, size, per_line;

  explicit Pieces(const Map& map)
      : lines(map.channels_last ? map.batch : map.batch * map.channels),
        length(map.channels_last ? map.plane * map.channels : map.plane),
        size(map.channels_last ? std::max(kRowPiece / map.channels / kLanes * kLanes, kLeastRows) * map.channels
                               : kPlanePiece),
        per_line((length + size - 1) / size) {}

  int64_t count() const { return lines * per_line; }

  int64_t grain() const { return kGrain / std::max<int64_t>(std::min(size, length), 1); }

  Piece operator[](int64_t index) const {
    const int64_t line = index / per_line, begin = index % per_line * size;
    return {index, line, line * length + begin, std::min(size, length - begin)};
  }
};

// A parameter along a piece: one value per channel, repeated, or the same value throughout.
template <typename A>
struct Each {
  const A* values;
  A operator[](int64_t j) const { return values[j]; }
};

template <typename A>
struct Same {
  A value;
  A operator[](int64_t) const { return value; }
};

// A length after which the channels of a piece repeat.
int64_t period_of(const Map& map) {
  if (!map.channels_last) return kPlanePeriod;
  const int64_t least = (kLeastPeriod + map.channels - 1) / map.channels;
  for (int64_t step = kLanes / std::gcd(kLanes, map.channels); step > 1; step /= 2)
    if (const int64_t period = (least + step - 1) / step * step * map.channels; period <= kMostPeriod) return period;
  return least * map.channels;
}

// The first `channels` values again and again, up to `period`.
template <typename A>
inline void repeat(A* values, int64_t channels, int64_t period) {
  for (int64_t start = channels; start < period; start += channels)
    for (int64_t c = 0; c < channels; ++c) values[start + c] = values[c];
}

// f(i, j) for every element i of a piece; j = i mod period. (Several rows at once would reuse the parameters of j, but defeat the
// hardware prefetcher.)
template <typename F>
inline void for_each(int64_t size, int64_t period, F f) {
  for (int64_t start = 0; start < size; start += period) {
    const int64_t count = std::min(period, size - start);
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) f(start + j, j);
  }
}

// Sums over a piece, per channel (one channel unless channels_last).
template <typename A>
class Sums {
 public:
  explicit Sums(const Map& map)
      : channels_(map.channels_last ? map.channels : 1), period_(period_of(map)), sums_(2 * period_) {}

  // term(i, j) is the contribution of element i, a pair.
  template <typename Term>
  void add(int64_t size, Term term, double* first, double* second) {
    A *a = sums_.data(), *b = a + period_;
    std::fill(a, b + period_, A(0));
    for_each(size, period_, [=](int64_t i, int64_t j) {
      const std::pair<A, A> t = term(i, j);
      a[j] += t.first;
      b[j] += t.second;
    });
    fold(a, first);
    fold(b, second);
  }

 private:
  void fold(A* sums, double* total) const {
    for (int64_t rows = period_ / channels_; rows > 1;) {
      const int64_t half = (rows + 1) / 2, count = (rows - half) * channels_;
      const A* upper = sums + half * channels_;
#pragma omp simd
      for (int64_t j = 0; j < count; ++j) sums[j] += upper[j];
      rows = half;
    }
    for (int64_t c = 0; c < channels_; ++c) total[c] = static_cast<double>(sums[c]);
  }

  int64_t channels_, period_;
  std::vector<A> sums_;
};

// ---- statistics

// Mean and sum of squared deviations of a piece. The deviations are from the mean of its first rows, the pivot, and the two sums
// then correct for its distance d from the mean. The pivot's rows, a share s of all n, are part of the result, m2 >= s n d^2,
// so the sum m2 + n d^2 is at most (1 + 1 / s) m2 whatever the map: little can cancel.
template <typename T, typename A>
void piece_moments(const T* x, int64_t size, int64_t channels, Sums<A>& sums, std::vector<A>& pivot, double* mean,
                   double* m2) {
  const double count = static_cast<double>(size / channels);
  const int64_t first = (size / channels + kPivotShare - 1) / kPivotShare;
  sums.add(first * channels, [=](int64_t i, int64_t) { return std::pair<A, A>(static_cast<A>(x[i]), A(0)); }, mean, m2);
  for (int64_t c = 0; c < channels; ++c) pivot[c] = static_cast<A>(mean[c] / first);
  repeat(pivot.data(), channels, pivot.size());
  const A* pivots = pivot.data();
  sums.add(
      size,
      [=](int64_t i, int64_t j) {
        const A d = static_cast<A>(x[i]) - pivots[j];
        return std::pair<A, A>(d, d * d);
      },
      mean, m2);
  for (int64_t c = 0; c < channels; ++c) {
    m2[c] -= mean[c] * mean[c] / count;
    mean[c] = static_cast<double>(pivots[c]) + mean[c] / count;
  }
}

// Moments of `count` and of `more` values -> moments of all (Chan, Golub & LeVeque 1979).
inline void combine(double count, double more, int64_t channels, const double* more_mean, const double* more_m2,
                    double* mean, double* m2) {
  const double share = more / (count + more);
  for (int64_t c = 0; c < channels; ++c) {
    const double delta = more_mean[c] - mean[c];
    mean[c] += delta * share;
    m2[c] += more_m2[c] + delta * delta * (count * share);
  }
}

template <typename T, typename A>
void stats(const Map& map, const T* x, A* mean, A* var) {
  const Pieces pieces(map);
  const int64_t width = map.channels_last ? map.channels : 1;
  std::vector<double> moments(pieces.count() * 2 * width);
  parallel_simd(pieces.count(), pieces.grain(), [&](int64_t begin, int64_t end) {
    Sums<A> sums(map);
    std::vector<A> pivot(period_of(map));
    for (int64_t index = begin; index < end; ++index) {
      const Piece piece = pieces[index];
      double* to = moments.data() + index * 2 * width;
      piece_moments<T, A>(x + piece.offset, piece.size, width, sums, pivot, to, to + width);
    }
  });

  std::vector<double> total(2 * map.channels, 0.0);
  double *total_mean = total.data(), *total_m2 = total_mean + map.channels;
  const int64_t groups = map.channels / width;  // lines of one sample
  for (int64_t group = 0; group < groups; ++group) {
    double count = 0;
    for (int64_t line = group; line < pieces.lines; line += groups)
      for (int64_t i = 0; i < pieces.per_line; ++i) {
        const Piece piece = pieces[line * pieces.per_line + i];
        const double* from = moments.data() + piece.index * 2 * width;
        const double more = static_cast<double>(piece.size / width);
        combine(count, more, width, from, from + width, total_mean + group, total_m2 + group);
        count += more;
      }
  }
  const double count = static_cast<double>(std::max<int64_t>(map.batch * map.plane, 1));
  for (int64_t c = 0; c < map.channels; ++c) {
    mean[c] = static_cast<A>(total_mean[c]);
    var[c] = static_cast<A>(total_m2[c] / count);
  }
}

// ---- normalisation

template <typename A>
struct Norm {
  const A *mean, *rstd, *weight, *bias;  // weight, bias: null for none
  int64_t weight_step, bias_step;        // from sample to sample: 0 or the channels
  A slope;

  A scale(int64_t b, int64_t c) const { return weight ? rstd[c] * weight[b * weight_step + c] : rstd[c]; }
  A shift(int64_t b, int64_t c) const { return bias ? bias[b * bias_step + c] : A(0); }
};

// make_body()(piece, period, parameters) for every piece; parameters(b, c) gives N numbers per sample and channel.
template <typename A, std::size_t N, typename Parameters, typename Body>
void for_each_piece(const Map& map, Parameters parameters, Body make_body) {
  const Pieces pieces(map);
  parallel_simd(pieces.count(), pieces.grain(), [&](int64_t begin, int64_t end) {
    auto body = make_body();
    if (!map.channels_last) {
      for (int64_t index = begin; index < end; ++index) {
        const Piece piece = pieces[index];
        const std::array<A, N> values = parameters(piece.line / map.channels, piece.line % map.channels);
        std::array<Same<A>, N> same;
        for (std::size_t k = 0; k < N; ++k) same[k] = {values[k]};
        body(piece, piece.size, same);
      }
      return;
    }
    const int64_t period = period_of(map);
    std::vector<A> table(N * period);
    std::array<Each<A>, N> each;
    for (std::size_t k = 0; k < N; ++k) each[k] = {table.data() + k * period};
    int64_t line = -1;
    for (int64_t index = begin; index < end; ++index) {
      const Piece piece = pieces[index];
      if (piece.line != line) {
        line = piece.line;
        for (int64_t c = 0; c < map.channels; ++c) {
          const std::array<A, N> values = parameters(line, c);
          for (std::size_t k = 0; k < N; ++k) table[k * period + c] = values[k];
        }
        for (std::size_t k = 0; k < N; ++k) repeat(table.data() + k * period, map.channels, period);
      }
      body(piece, period, each);
    }
  });
}

template <typename T, typename A>
void apply(const Map& map, const Norm<A>& norm, const T* x, T* y) {
  for_each_piece<A, 3>(
      map,
      [=](int64_t b, int64_t c) { return std::array<A, 3>{norm.mean[c], norm.scale(b, c), norm.shift(b, c)}; },
      [=] {
        return [=](const Piece& piece, int64_t period, const auto& p) {
          const auto mean = p[0], scale = p[1], shift = p[2];
          const T* from = x + piece.offset;
          T* to = y + piece.offset;
          const A slope = norm.slope;
          for_each(piece.size, period, [=](int64_t i, int64_t j) {
            const A t = (static_cast<A>(from[i]) - mean[j]) * scale[j] + shift[j];
            to[i] = static_cast<T>(t > 0 ? t : slope * t);
          });
        };
      });
}

// The gradient that reaches the affine map's output, whose sign is recomputed.
template <typename A>
inline A masked(A grad, A centred, A scale, A shift, A slope) {
  return centred * scale + shift > 0 ? grad : slope * grad;
}

template <typename T, typename A>
void backward_sums(const Map& map, const Norm<A>& norm, const T* grad, const T* x, A* sum_g, A* sum_gx) {
  const Pieces pieces(map);
  const int64_t width = map.channels_last ? map.channels : 1;
  std::vector<double> partial(pieces.count() * 2 * width);
  double* partials = partial.data();
  for_each_piece<A, 3>(
      map,
      [=](int64_t b, int64_t c) { return std::array<A, 3>{norm.mean[c], norm.scale(b, c), norm.shift(b, c)}; },
      [=, &map] {
        return [=, sums = Sums<A>(map)](const Piece& piece, int64_t, const auto& p) mutable {
          const auto mean = p[0], scale = p[1], shift = p[2];
          const T *from = x + piece.offset, *from_grad = grad + piece.offset;
          const A slope = norm.slope;
          double* to = partials + piece.index * 2 * width;
          sums.add(
              piece.size,
              [=](int64_t i, int64_t j) {
                const A centred = static_cast<A>(from[i]) - mean[j];
                const A g = masked(static_cast<A>(from_grad[i]), centred, scale[j], shift[j], slope);
                return std::pair<A, A>(g, g * centred);
              },
              to, to + width);
        };
      });

  for (int64_t line = 0; line < pieces.lines; ++line)
    for (int64_t c = 0; c < width; ++c) {
      double g = 0, gx = 0;
      for (int64_t i = 0; i < pieces.per_line; ++i) {
        const double* from = partials + (line * pieces.per_line + i) * 2 * width;
        g += from[c];
        gx += from[width + c];
      }
      const int64_t to = line * width + c;
      sum_g[to] = static_cast<A>(g);
      sum_gx[to] = static_cast<A>(gx * static_cast<double>(norm.rstd[to % map.channels]));
    }
}

template <typename T, typename A>
void backward_input(const Map& map, const Norm<A>& norm, const T* grad, const T* x, const A* mean_g, const A* mean_gx,
                    T* gx) {
  for_each_piece<A, 5>(
      map,
      [=](int64_t b, int64_t c) {
        const A rstd = norm.rstd[c];
        return std::array<A, 5>{norm.mean[c], norm.scale(b, c), norm.shift(b, c), rstd * mean_g[c],
                                rstd * rstd * mean_gx[c]};
      },
      [=] {
        return [=](const Piece& piece, int64_t period, const auto& p) {
          const auto mean = p[0], scale = p[1], shift = p[2], constant = p[3], linear = p[4];
          const T *from = x + piece.offset, *from_grad = grad + piece.offset;
          T* to = gx + piece.offset;
          const A slope = norm.slope;
          for_each(piece.size, period, [=](int64_t i, int64_t j) {
            const A centred = static_cast<A>(from[i]) - mean[j];
            const A g = masked(static_cast<A>(from_grad[i]), centred, scale[j], shift[j], slope);
            to[i] = static_cast<T>(g * scale[j] - constant[j] - centred * linear[j]);
          });
        };
      });
}

// ---- operators. Maps [B, C, S, H, W] are dense in the format that channels_last says; mean and rstd [C], weight and bias
// [C] or [B, C] are contiguous and of the statistics' dtype.

Map map_of(const Tensor& x, bool channels_last) {
  return {x.size(0), x.size(1), x.size(2) * x.size(3) * x.size(4), channels_last};
}

void norm_stats(const Tensor& x, bool channels_last, const Tensor& mean, const Tensor& var) {
  Map map = map_of(x, channels_last);
  if (channels_last) map = {1, map.channels, map.batch * map.plane, true};
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    stats<T, A>(map, data<const T>(x), data<A>(mean), data<A>(var));
  });
}

void norm_apply(const Tensor& x, bool channels_last, const Tensor& mean, const Tensor& rstd,
                const std::optional<Tensor>& weight, const std::optional<Tensor>& bias, double slope,
                const Tensor& y) {
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    const Norm<A> norm = norm_of<Norm<A>>(mean, data<const A>(rstd), weight, bias, slope);
    apply<T, A>(map_of(x, channels_last), norm, data<const T>(x), data<T>(y));
  });
}

template <typename A>
std::vector<A> rstd_of(const Tensor& var, double eps) {
  std::vector<A> rstd(var.numel());
  for (std::size_t c = 0; c < rstd.size(); ++c) rstd[c] = A(1) / std::sqrt(data<const A>(var)[c] + static_cast<A>(eps));
  return rstd;
}

// norm_apply, from the variance.
void norm_eval(const Tensor& x, bool channels_last, const Tensor& mean, const Tensor& var,
               const std::optional<Tensor>& weight, const std::optional<Tensor>& bias, double eps, double slope,
               const Tensor& y) {
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    const std::vector<A> rstd = rstd_of<A>(var, eps);
    const Norm<A> norm = norm_of<Norm<A>>(mean, rstd.data(), weight, bias, slope);
    apply<T, A>(map_of(x, channels_last), norm, data<const T>(x), data<T>(y));
  });
}

// norm_stats and norm_eval.
void norm_train(const Tensor& x, bool channels_last, const std::optional<Tensor>& weight,
                const std::optional<Tensor>& bias, double eps, double slope, const Tensor& mean, const Tensor& var,
                const Tensor& y) {
  norm_stats(x, channels_last, mean, var);
  norm_eval(x, channels_last, mean, var, weight, bias, eps, slope, y);
}

void norm_backward_sums(const Tensor& grad, const Tensor& x, bool channels_last, const Tensor& mean,
                        const Tensor& rstd, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                        double slope, const Tensor& sum_g, const Tensor& sum_gx) {
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    const Norm<A> norm = norm_of<Norm<A>>(mean, data<const A>(rstd), weight, bias, slope);
    backward_sums<T, A>(map_of(x, channels_last), norm, data<const T>(grad), data<const T>(x), data<A>(sum_g),
                        data<A>(sum_gx));
  });
}

void norm_backward_input(const Tensor& grad, const Tensor& x, bool channels_last, const Tensor& mean,
                         const Tensor& rstd, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                         double slope, const Tensor& mean_g, const Tensor& mean_gx, const Tensor& gx) {
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    const Norm<A> norm = norm_of<Norm<A>>(mean, data<const A>(rstd), weight, bias, slope);
    backward_input<T, A>(map_of(x, channels_last), norm, data<const T>(grad), data<const T>(x), data<const A>(mean_g),
                         data<const A>(mean_gx), data<T>(gx));
  });
}

// norm_backward_sums and norm_backward_input, from the variance. The statistics are those of `count` values, or constants
// if it is 0.
void norm_backward(const Tensor& grad, const Tensor& x, bool channels_last, const Tensor& mean, const Tensor& var,
                   const std::optional<Tensor>& weight, const std::optional<Tensor>& bias, int64_t count, double eps,
                   double slope, const Tensor& gx, const Tensor& sum_g, const Tensor& sum_gx) {
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    const Map map = map_of(x, channels_last);
    const std::vector<A> rstd = rstd_of<A>(var, eps);
    const Norm<A> norm = norm_of<Norm<A>>(mean, rstd.data(), weight, bias, slope);
    A *g = data<A>(sum_g), *ghat = data<A>(sum_gx);
    backward_sums<T, A>(map, norm, data<const T>(grad), data<const T>(x), g, ghat);
    std::vector<A> means(2 * map.channels, A(0));
    if (count > 0)
      for (int64_t c = 0; c < map.channels; ++c) {
        double total_g = 0, total_gx = 0;
        for (int64_t b = 0; b < map.batch; ++b) {
          const double scale = norm.weight ? norm.weight[b * norm.weight_step + c] : 1;
          total_g += scale * g[b * map.channels + c];
          total_gx += scale * ghat[b * map.channels + c];
        }
        means[c] = static_cast<A>(total_g / count);
        means[map.channels + c] = static_cast<A>(total_gx / count);
      }
    backward_input<T, A>(map, norm, data<const T>(grad), data<const T>(x), means.data(), means.data() + map.channels,
                         data<T>(gx));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  define_norm(m);
  m.def(
      "norm_eval(Tensor x, bool channels_last, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps, "
      "float slope, Tensor(a!) y) -> ()");
  m.def(
      "norm_train(Tensor x, bool channels_last, Tensor? weight, Tensor? bias, float eps, float slope, "
      "Tensor(a!) mean, Tensor(b!) var, Tensor(c!) y) -> ()");
  m.def(
      "norm_backward(Tensor grad, Tensor x, bool channels_last, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, "
      "int count, float eps, float slope, Tensor(a!) gx, Tensor(b!) sum_g, Tensor(c!) sum_gx) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("norm_stats", TORCH_BOX(&norm_stats));
  m.impl("norm_apply", TORCH_BOX(&norm_apply));
  m.impl("norm_eval", TORCH_BOX(&norm_eval));
  m.impl("norm_train", TORCH_BOX(&norm_train));
  m.impl("norm_backward", TORCH_BOX(&norm_backward));
  m.impl("norm_backward_sums", TORCH_BOX(&norm_backward_sums));
  m.impl("norm_backward_input", TORCH_BOX(&norm_backward_input));
}
