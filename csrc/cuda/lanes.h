// Which elements of a map each CUDA thread visits: plain arithmetic, which tests also run on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef __CUDACC__
#define GCNN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define GCNN_HOST_DEVICE inline
#endif

namespace gcnn {

constexpr int kThreads = 256;  // at most, in a block

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The part of one channel of one sample that a thread visits: elements offset, offset + step, ... of the map.
struct Lane {
  int64_t batch, channel, slice;
  int64_t offset, step, count;  // count 0: nothing, and batch and channel are then not valid
  int member;
};

// A map [B, C, plane] (plane: slots times pixels), dense in channels_last ([B, plane, C]) or contiguous.
//
// A block holds `groups` channels (in channels_last, neighbours of one sample; otherwise neighbours among all samples'
// channels) with `members` threads each, which together visit a slice of the plane. Neighbouring threads visit
// neighbouring elements in either format. Nothing here depends on the device, so sums are reproducible.
struct Lanes {
  int64_t batch, channels, plane;
  bool channels_last;
  int groups, members;
  int64_t tiles, slice, slices;

  // least: elements of one thread, unless that makes more than `enough` blocks.
  Lanes(int64_t batch, int64_t channels, int64_t plane, bool channels_last, int64_t least, int64_t enough)
      : batch(batch), channels(channels), plane(plane), channels_last(channels_last) {
    if (channels_last) {
      tiles = ceil_div(channels, kThreads);
      groups = static_cast<int>(ceil_div(channels, tiles));
      members = kThreads / groups;
    } else {
      members = 32;
      while (members < kThreads && members * 8 < plane) members *= 2;
      groups = kThreads / members;
      tiles = ceil_div(batch * channels, groups);
    }
    const int64_t columns = channels_last ? batch * tiles : tiles;
    slice = members * std::max(least, ceil_div(plane * columns, members * enough));
    slices = ceil_div(plane, slice);
  }

  int64_t blocks() const { return (channels_last ? batch * tiles : tiles) * slices; }
  int threads() const { return groups * members; }

  // Distance in a block from a thread to the next member of its group.
  GCNN_HOST_DEVICE int member_step() const { return channels_last ? groups : 1; }

  // Where a slice's partial sum lies: [batch, slices, channels].
  GCNN_HOST_DEVICE int64_t partial(const Lane& lane) const {
    return (lane.batch * slices + lane.slice) * channels + lane.channel;
  }

  GCNN_HOST_DEVICE int64_t slice_size(int64_t index) const {
    const int64_t rest = plane - index * slice;
    return rest < slice ? rest : slice;
  }

  GCNN_HOST_DEVICE Lane lane(int64_t block, int thread) const {
    Lane lane;
    bool inside;
    if (channels_last) {
      const int64_t row = block / tiles;
      lane.member = thread / groups;
      lane.channel = (block % tiles) * groups + thread % groups;
      lane.slice = row % slices;
      lane.batch = row / slices;
      inside = lane.channel < channels;
    } else {
      const int64_t line = (block / slices) * groups + thread / members;
      lane.member = thread % members;
      lane.channel = line % channels;
      lane.slice = block % slices;
      lane.batch = line / channels;
      inside = lane.batch < batch;
    }
    const int64_t first = lane.slice * slice + lane.member, end = lane.slice * slice + slice_size(lane.slice);
    lane.count = inside && first < end ? (end - first - 1) / members + 1 : 0;
    lane.step = channels_last ? members * channels : members;
    lane.offset = channels_last ? (lane.batch * plane + first) * channels + lane.channel
                                : (lane.batch * channels + lane.channel) * plane + first;
    return lane;
  }
};

// [outer, inner] elements, one per thread.
struct Plane {
  int64_t outer, inner;
  int across;
  int64_t tiles;

  Plane(int64_t outer, int64_t inner) : outer(outer), inner(inner), across(32) {
    while (across < kThreads && across < inner) across *= 2;
    tiles = ceil_div(inner, across);
  }

  int64_t blocks() const { return ceil_div(outer, kThreads / across) * tiles; }

  struct Element {
    int64_t o, i;
    bool inside;
  };

  GCNN_HOST_DEVICE Element element(int64_t block, int thread) const {
    Element e;
    e.o = (block / tiles) * (kThreads / across) + thread / across;
    e.i = (block % tiles) * across + thread % across;
    e.inside = e.o < outer && e.i < inner;
    return e;
  }
};

}  // namespace gcnn
