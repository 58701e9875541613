// Whole quotients, rounded up or down. Shared by code compiled for different instruction sets.
#pragma once

#include <cstdint>

namespace gcnn {

// a >= 0, b > 0.
static inline __attribute__((always_inline)) int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// b > 0.
static inline __attribute__((always_inline)) int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

}  // namespace gcnn
