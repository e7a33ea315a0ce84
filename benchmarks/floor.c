/* The floor of step_time.py: INNA's three reads and two writes, without the arithmetic. */

#include <stdint.h>

void floor_step(uint32_t *theta, const uint32_t *grad, uint32_t *momentum, int64_t size, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < size; i++) {
        const uint32_t x = theta[i];
        theta[i] = momentum[i];
        momentum[i] = x ^ grad[i];
    }
}
