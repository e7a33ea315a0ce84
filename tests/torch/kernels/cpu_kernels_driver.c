/* Runs the CPU kernels under the sanitizers: every combination of precisions and options on tensors of exact size, and
   tensors of more than 2^32 numbers of which only a few pages are ever touched. Built by test_cpu_sanitizers.py. */

#define _GNU_SOURCE
#include "cpu_kernels.c"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static void *filled(int64_t size, int64_t offset, int kind, int positive) {
    char *const block = malloc((size_t)((size + offset) * BYTES[kind]) + (size + offset == 0));
    double number;
    for (int64_t i = 0; i < size; i++) {
        number = (double)((i * 7919) % 201 - (positive ? 0 : 100)) / 50;
        if (kind == KIND_CODES)
            block[i + offset] = (char)(i * 7919);
        else
            inna_convert(block + (i + offset) * BYTES[kind], kind, &number, KIND_F64, 1);
    }
    return block;
}

/* `every`: -1 is INNA without a learning rate, which has theta_0 only. */
static void step_on(int64_t size, int kind, int momentum_kind, int flags, int kahan, int64_t every, int64_t threads,
                    int64_t level) {
    enum { TENSORS = 3 };
    struct inna_tensor tensors[TENSORS];
    void *grads[TENSORS], *blocks[TENSORS][7];
    const int sum_kind = kind == KIND_F64 ? KIND_F64 : KIND_F32;
    float steps[TENSORS] = {0}, *scales[TENSORS];
    const struct inna_settings settings = {.lr = 0.1, .time_step = 0.1, .decay_lr = 0.1, .alpha = 0.5, .beta = 0.3, .weight_decay = 0.01,
                                           .initial_speed = 1, .sigma = 0.9, .eps = 1e-3, .grad_scale = 0.5,
                                           .flags = flags, .weight = 0.5, .root = 0.9, .every = every > 0 ? every : 0};
    for (int i = 0; i < TENSORS; i++) {
        const int64_t n = size + i, offset = i; /* neighbours in size, at other places in their storage */
        for (int j = 0; j < 5; j++) blocks[i][j] = filled(n, offset, j == 1 || j == 2 ? momentum_kind : kind, j == 2);
        const int64_t blocks_of_codes = (n + CODED - 1) / CODED;
        scales[i] = calloc((size_t)(2 * blocks_of_codes + 1), sizeof(float));
        for (int64_t j = 0; j < 2 * blocks_of_codes; j++) scales[i][j] = 1e-4f;
        const int64_t sliced = every > 0 ? (n + every - 1) / every : every < 0 ? n : 0;
        blocks[i][5] = filled(sliced, offset, kind, 0), blocks[i][6] = filled(sliced, offset, sum_kind, 0);
        tensors[i] = (struct inna_tensor){
            .theta = (char *)blocks[i][0] + offset * BYTES[kind],
            .momentum = (char *)blocks[i][1] + offset * BYTES[momentum_kind],
            .mean_square = flags & INNA_PROP ? (char *)blocks[i][2] + offset * BYTES[momentum_kind] : NULL,
            .compensation = kahan ? (char *)blocks[i][3] + offset * BYTES[kind] : NULL,
            .step = flags & (INNA_PROP | INNA_SPEED) ? &steps[i] : NULL,
            .size = n, .kind = kind, .momentum_kind = momentum_kind,
            .stochastic = momentum_kind == KIND_BF16 || momentum_kind == KIND_CODES, .stream = (uint32_t)i,
            .momentum_scale = scales[i], .square_scale = scales[i] + blocks_of_codes,
            .start = every != 0 ? (char *)blocks[i][5] + offset * BYTES[kind] : NULL,
            .grad_sum = every > 0 ? (char *)blocks[i][6] + offset * BYTES[sum_kind] : NULL};
        grads[i] = (char *)blocks[i][4] + offset * BYTES[kind];
    }
    if (every != 0 || !(flags & INNA_PROP) || momentum_kind == KIND_CODES) {
        const int64_t chunks = inna_chunks(tensors, TENSORS);
        double *const partial = malloc((size_t)(chunks * PRODUCTS + 1) * sizeof(double)), out[PRODUCTS];
        inna_measure(tensors, grads, TENSORS, &settings, partial, chunks, out, threads, level);
        free(partial);
    }
    for (int k = 0; k < 2; k++) inna_step(tensors, grads, TENSORS, &settings, threads, level);
    for (int i = 0; i < TENSORS; i++) {
        for (int j = 0; j < 7; j++) free(blocks[i][j]);
        free(scales[i]);
    }
}

static float *reserved(int64_t size) {
    void *const at = mmap(NULL, (size_t)size * sizeof(float), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Positions beyond 2^31 and 2^32 are found, and nothing is touched at their remainders. */
static const char *huge(void) {
    const int64_t size = ((int64_t)1 << 32) + 1000, seams[] = {(int64_t)1 << 31, (int64_t)1 << 32};
    float *const theta = reserved(size), *const grad = reserved(size), *const momentum = reserved(size);
    if (theta == NULL || grad == NULL || momentum == NULL) return "skipped: no address space for 2^32 numbers";
    const struct inna_settings settings = {.lr = 0.5, .time_step = 0.5, .decay_lr = 0.5, .alpha = 0, .beta = 1};
    float small_theta = 0, small_momentum = 0, small_grad = 1;
    const struct inna_tensor tensors[] = {
        {.theta = &small_theta, .momentum = &small_momentum, .size = 1, .kind = KIND_F32, .momentum_kind = KIND_F32},
        {.theta = theta, .momentum = momentum, .size = size, .kind = KIND_F32, .momentum_kind = KIND_F32}};
    void *const grads[] = {&small_grad, grad};
    for (int s = 0; s < 2; s++) {
        for (int64_t i = -50; i < 50; i++) grad[seams[s] + i] = 2;
        /* The first tensor has one number, so position p of all is p - 1 of the second. */
        for (int64_t level = 0; level <= best_level(); level++)
            LEVELS[level].share(tensors, grads, 2, &settings, seams[s] - 20 + 1, seams[s] + 33 + 1);
        for (int64_t i = -50; i < 50; i++) {
            const int moved = theta[seams[s] + i] != 0 && momentum[seams[s] + i] != 0;
            if (moved != (i >= -20 && i < 33)) return "a wrong number moved";
            if (theta[i + 50] != 0) return "a remainder moved";
        }
    }
    if (small_theta != 0) return "the first tensor moved";
    munmap(theta, (size_t)size * sizeof(float));
    munmap(grad, (size_t)size * sizeof(float));
    munmap(momentum, (size_t)size * sizeof(float));
    return "ok";
}

int main(void) {
    const int64_t sizes[] = {0, 1, 15, 17, 511, 513, 1030, 6000};
    int64_t runs = 0;
    for (int kind = 0; kind < 4; kind++)
        for (int momentum_kind = 0; momentum_kind < 5; momentum_kind++)
            for (int flags = 0; flags < 32; flags++)
                for (int kahan = 0; kahan < 2; kahan++)
                    for (int64_t level = 0; level <= best_level(); level++, runs++)
                        step_on(sizes[runs % 8], kind, momentum_kind, flags, kahan,
                                runs % 5 == 1                         ? 1
                                : runs % 5 == 2                       ? 3
                                : runs % 5 == 3 && !(flags & INNA_PROP) ? -1
                                                                        : 0, 1 + runs % 3, level);
    const char *const said = huge();
    printf("%lld runs; beyond 2^31: %s\n", (long long)runs, said);
    return said[0] == 'a' || said[0] == 't';
}
