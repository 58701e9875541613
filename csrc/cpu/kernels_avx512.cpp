// The kernels for x86-64 with AVX-512. Only the code between the pragmas may use it, so nothing that other files share, no
// header of the standard library or of torch, is included there.

#if defined(__x86_64__)

#include "isa.h"

#define GCNN_ISA avx512
#define GCNN_VECTOR_BYTES 64
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#endif

namespace gcnn {
#include "kernels.h"
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
