// The kernels for any machine: vectors of 16 bytes (SSE2, NEON), which the compiler may split further.

#include "isa.h"

#define GCNN_ISA portable
#define GCNN_VECTOR_BYTES 16

namespace gcnn {
#include "kernels.h"
}
