#include "base/parallel.h"

#ifndef SLIPWAY_STD_THREADS
#include <omp.h>
#endif

namespace slipway {

void set_thread_count([[maybe_unused]] int threads) {
#ifndef SLIPWAY_STD_THREADS
  omp_set_num_threads(threads);
#endif
}

}  // namespace slipway
