// The best instruction set of this machine, or the one named by the environment variable GCNN_CPU_ISA (avx512, avx2 or
// portable), which is read once, and the convolutions' kernels for it.
#pragma once

#include "division.h"
#include "jobs.h"

namespace gcnn {

namespace portable {
void get(const Kernels<float>*&);
void get(const Kernels<double>*&);
}  // namespace portable

#if defined(__x86_64__)
namespace avx2 {
void get(const Kernels<float>*&);
void get(const Kernels<double>*&);
}  // namespace avx2

namespace avx512 {
void get(const Kernels<float>*&);
void get(const Kernels<double>*&);
}  // namespace avx512
#endif

enum class Isa { portable, avx2, avx512 };

// Raises if GCNN_CPU_ISA is an unknown word or names a set that this machine lacks.
Isa isa();

template <typename T>
const Kernels<T>& kernels();

// With vectors along so many channels: of half the length if they fill no more.
template <typename T>
const Kernels<T>& kernels(int64_t channels);

}  // namespace gcnn
