// What the Fourier-domain kernels are asked to do. Plain data: shared by code compiled for different instruction sets.
#pragma once

#include <cstdint>

namespace gcnn {

// A convolution as a sum over taps of correlations on the group. Maps are [batch, slot, row, column, channel].
// "The place" of a pixel for a tap and a slot is (pixel * mul + shift) / div, row and column alike; where that is no whole
// number or lies outside of the map, the map counts as zero.
template <typename T>
struct Correlation {
  int64_t in_slots, out_slots;  // of x and y; they choose the algorithm (bilinear.h),
  bool stacked;                 // among two for lifting convolutions: whether slots count as channels
  int64_t rank;                 // its number of products
  int64_t batch, cin, cout;     // channels per slot
  int64_t in_h, in_w, out_h, out_w;
  int64_t taps;
  const int32_t* shifts;        // [taps, slots, 2]: row and column
  int64_t mul_h, mul_w, div_h, div_w;
  const T* x;
};

// y(p) = bias + sum over taps of the correlation of W_tap with x(g, place of p); shifts are per slot of x.
template <typename T>
struct GatherJob : Correlation<T> {
  const T* filters;  // packed by pack_filters
  const T* bias;     // [cout] or null
  T* y;
  int64_t tile;      // pixels per tile
  int64_t depth;     // entries of (tap, cin) per pass
  int64_t width;     // output channels per work item, a multiple of the panel
};

// y(h, p) = bias + sum over taps of V_tap(h, place of p), V_tap the correlation of W_tap with x; shifts are per slot of y.
template <typename T>
struct SpreadJob : Correlation<T> {
  const T* filters;  // packed by pack_filters with columns (tap, cout)
  const T* bias;
  T* y;
  int64_t rows, columns;  // of y per work item
  int64_t step;           // rows of x that are transformed together
};

// products[tap, q] = sum over pixels p of a_q(p) d_q(p)^T, or its transpose if `swapped`: a = A z with z(g) = x(g, place of
// p), d = C^T grad(p). Shifts are per slot of x. The pixels may fall into parts, each with products of its own.
template <typename T>
struct WeightGradJob : Correlation<T> {
  const T* grad;     // gradient of y
  T* products;       // per part [groups, rank, (tap, cin), padded columns], or [.., cout, padded (tap, cin)] if swapped
  bool swapped;
  int64_t parts, products_size;
  int64_t group;     // taps per work item
  int64_t tile;      // pixels per tile
  int64_t span;      // pixels whose transformed gradient is kept, a multiple of the tile
  int64_t block;     // channels of x per work item
};

// The group convolution of GatherJob, of each of `groups` parts of the channels (planar.h); cin and cout are a part's. Channels
// are pairs of a channel of the maps and one of their `cosets`, which lie among the slots: [batch, slot, coset, row, ..].
template <typename T>
struct Planar : Correlation<T> {
  int64_t groups, cosets;
  int64_t rows;   // of y that are worked on together; if the place is divided, of those with the same remainder
  int64_t block;  // parts of the channels that are
};

template <typename T>
struct PlanarJob : Planar<T> {
  const T* filters;  // packed by pack_filters, one part's after the other's
  const T* bias;     // [groups * cout] or null
  T* y;
  int64_t depth;     // entries of (tap, cin) per pass
  int64_t tile;      // pixels per pass, whole vectors of them
};

// The products of WeightGradJob for each part of the channels; the place is not divided. The pixels fall into parts, too.
template <typename T>
struct PlanarGradJob : Planar<T> {
  const T* grad;     // gradient of y
  T* products;       // per part of the pixels [groups, rank, (tap, cin), padded cout]
  int64_t parts, products_size;
};

// Every map by itself: cin = cout channels, each to itself. Slots of maps are pairs of a slot and one of their `cosets`, as in
// Planar.
template <typename T>
struct Depthwise : Correlation<T> {
  int64_t cosets;
  int64_t shift_count;
  int64_t rows;  // of y that are worked on together
};

// The group convolution of GatherJob (depthwise_fourier.h), with filters for each pair of cosets.
template <typename T>
struct DepthwiseJob : Depthwise<T> {
  const T* filters;  // packed by pack_filters, rows (tap, entry of the transform, coset of x), for one coset of y after another
  const T* bias;     // [cout] or null
  T* y;
};

// The gradient of those rows with respect to them; the place is not divided. The pixels fall into parts.
template <typename T>
struct DepthwiseGradJob : Depthwise<T> {
  const T* grad;     // gradient of y
  T* products;       // per part [coset of y, (tap, entry, coset of x), padded channels]
  int64_t parts, products_size;
};

// y(h, p) = bias + sum over slots s and taps t of filters[table[h, (s, t)]] x(s, place of p for t) (depthwise_direct.h). Cosets
// are slots here; one of mul and div is 1.
template <typename T>
struct DirectDepthwise : Depthwise<T> {
  const int32_t* table;  // [out_slots, in_slots * taps]
};

template <typename T>
struct DirectJob : DirectDepthwise<T> {
  const T* filters;  // [entries of a filter, channels]
  const T* bias;     // [channels] or null
  T* y;
};

// The gradient with respect to the filters; div = 1. The pixels fall into parts.
template <typename T>
struct DirectGradJob : DirectDepthwise<T> {
  const T* grad;     // gradient of y
  T* products;       // per part like the filters
  int64_t parts, products_size;
};

// A lifting convolution by the symmetry of the taps (lift.h), with x_j(p) = sum over taps t of basis[j, t] x(place of p for
// t), x an image; the place is never divided.
template <typename T>
struct Lifting {
  int64_t order, batch, cin, cout;
  int64_t in_h, in_w, out_h, out_w;
  int64_t taps, rank;     // rank: the number of products
  const int32_t* shifts;  // [taps, 2]
  int64_t mul_h, mul_w;
  const T* basis;         // [taps, taps]
  const int32_t* starts;  // [order + 1]; with one product, all in the first sum, starts[1] = 1 is enough
  const int32_t* inputs;  // [products]
  const T* x;
  int64_t columns;        // pixels of one row that are worked on together
};

// y(h, p) = bias + sum_k C[h, k] sum over products l = starts[k] .. starts[k + 1] - 1 of filters[l] x_inputs[l](p).
template <typename T>
struct LiftJob : Lifting<T> {
  const T* filters;  // packed by pack_filters with rows (product, cin)
  const T* bias;
  T* y;
};

// products[l] = sum over pixels p of x_inputs[l](p) (C^T grad(p))_k^T for the k that product l belongs to. The pixels fall
// into parts, each with products of its own.
template <typename T>
struct LiftGradJob : Lifting<T> {
  const T* grad;           // gradient of y
  T* products;             // per part [(product, cin), padded cout]
  int64_t parts, products_size;
};

// A linear layer between functions on the group, [tokens, channel, slot].
template <typename T>
struct Linear {
  int64_t order, rank, tokens, cin, cout;
  const T* x;
  int64_t tile;   // tokens that are worked on together
  int64_t depth;  // and channels of x
};

template <typename T>
struct LinearJob : Linear<T> {
  const T* filters;  // packed by pack_filters, for one tap
  const T* bias;     // [cout] or null
  T* y;
};

// products[q] = sum over tokens of a_q d_q^T: a = A x, d = C^T grad. The tokens fall into parts.
template <typename T>
struct LinearGradJob : Linear<T> {
  const T* grad;     // gradient of y
  T* products;       // per part [rank, cin, padded cout]
  int64_t parts, products_size;
};

// Filters, with `order` entries per tap, <-> their transforms: matrices of panels of columns. Which index belongs to rows
// and which to columns: row = i + tap * tap_row + q * q_row, column = n + tap * tap_column + q * q_column, and otherwise
// each q, and each group of taps, has a matrix of its own.
template <typename T>
struct FilterJob {
  int64_t order, rank, taps, size;  // size: entries of a filter
  int64_t rows, columns;            // channels i, n; columns lie along vectors
  int64_t row_stride, column_stride;
  int64_t set_stride, set_size;     // several sets of filters: from one to the next one, and of packed ones or products
  int64_t tap_row, q_row, tap_column, q_column;
  const int64_t* sources;           // [taps, order]: where W_tap(u) is found among a filter's entries
  const T* matrix;                  // [rank, order]: the transform
  // packing
  int64_t depth, width;             // rows, columns of one matrix; the width is padded to whole vectors
  bool planes;                      // one matrix per q, or one for all
  const T *filters, *filters_end;
  T* packed;
  // unpacking
  int64_t group, group_step, q_step;  // taps per group; from one group's matrices to the next one's, one q's to the next's
  const T* products;                  // rows of `width`
  T* filters_grad;
};

// One instruction set's kernels for one scalar type. Each works on items begin..end-1, with scratch memory of its own of
// the size that *_scratch says (scalars, aligned to 64 bytes).
template <typename T>
struct Kernels {
  int64_t lanes, panel;  // scalars per vector and per panel of packed filters
  int64_t (*filter_scratch)(const FilterJob<T>&);
  void (*pack_filters)(const FilterJob<T>&, int64_t begin, int64_t end, T* scratch);     // items: sets x rows
  void (*unpack_products)(const FilterJob<T>&, int64_t begin, int64_t end, T* scratch);  // items: the same
  int64_t (*gather_scratch)(const GatherJob<T>&);
  void (*gather)(const GatherJob<T>&, int64_t begin, int64_t end, T* scratch);           // items: tiles x widths
  int64_t (*spread_scratch)(const SpreadJob<T>&);
  void (*spread)(const SpreadJob<T>&, int64_t begin, int64_t end, T* scratch);           // items: images x blocks of y
  int64_t (*planar_scratch)(const PlanarJob<T>&);
  int64_t (*planar_grad_scratch)(const PlanarGradJob<T>&);
  void (*planar)(const PlanarJob<T>&, int64_t begin, int64_t end, T* scratch);           // items: images x rows x blocks
  void (*planar_weight_grad)(const PlanarGradJob<T>&, int64_t begin, int64_t end, T* scratch);  // items: parts x blocks
  int64_t (*depthwise_scratch)(const DepthwiseJob<T>&);
  int64_t (*depthwise_grad_scratch)(const DepthwiseGradJob<T>&);
  void (*depthwise)(const DepthwiseJob<T>&, int64_t begin, int64_t end, T* scratch);     // items: images x rows
  void (*depthwise_weight_grad)(const DepthwiseGradJob<T>&, int64_t begin, int64_t end, T* scratch);  // items: parts
  int64_t (*direct_scratch)(const DirectJob<T>&);
  int64_t (*direct_grad_scratch)(const DirectGradJob<T>&);
  void (*direct)(const DirectJob<T>&, int64_t begin, int64_t end, T* scratch);           // items: images x rows
  void (*direct_weight_grad)(const DirectGradJob<T>&, int64_t begin, int64_t end, T* scratch);  // items: parts
  int64_t (*lift_scratch)(const Lifting<T>&);
  void (*lift)(const LiftJob<T>&, int64_t begin, int64_t end, T* scratch);               // items: parts of rows of y
  void (*lift_weight_grad)(const LiftGradJob<T>&, int64_t begin, int64_t end, T* scratch);  // items: parts
  int64_t (*linear_scratch)(const Linear<T>&);
  void (*linear)(const LinearJob<T>&, int64_t begin, int64_t end, T* scratch);           // items: tiles
  void (*linear_weight_grad)(const LinearGradJob<T>&, int64_t begin, int64_t end, T* scratch);  // items: parts x blocks
  int64_t (*weight_grad_scratch)(const WeightGradJob<T>&);
  void (*weight_grad)(const WeightGradJob<T>&, int64_t begin, int64_t end, T* scratch);  // items: taps x blocks
};

}  // namespace gcnn
