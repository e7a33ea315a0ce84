/* One step of INNA or INNAprop on all tensors of a group, in place, in a single pass over memory.

   A plain shared library without torch and Python. inna.torch.kernels.cpu loads it with ctypes and passes a table of
   pointers. Memory traffic is the minimum (read theta, m, g; write theta, m): five streams, no temporaries.

   The numbers of all tensors, end to end, are divided evenly among the threads. The step is elementwise, so the result
   does not depend on the division. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define ALWAYS_INLINE __forceinline
#define EXPORTED __declspec(dllexport)
#define VECTOR
#define VECTOR_MAX(name)
#else
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define EXPORTED __attribute__((visibility("default")))
#define VECTOR _Pragma("omp simd")
#define VECTOR_MAX(name) PRAGMA(omp simd reduction(max : name))
#define PRAGMA(text) _Pragma(#text)
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(BASELINE_ONLY)
#define DISPATCHED
/* Compilers prefer half the width of AVX-512 by default. Clang ignores an attribute of which it knows only a part. */
#ifdef __clang__
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"), min_vector_width(512)))
#else
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
#endif

#ifndef AHEAD
#define AHEAD 256
#endif
#ifdef __GNUC__
#define PREFETCH_AT(address) __builtin_prefetch((const void *)(uintptr_t)(address))
#else
#define PREFETCH_AT(address) (void)0
#endif
#define PREFETCH(address) PREFETCH_AT((uintptr_t)(address) + AHEAD)
#define PREFETCH_READ(address) PREFETCH_AT((uintptr_t)(address) + 16 * AHEAD) /* where nothing is written */

enum { KIND_F32, KIND_F64, KIND_BF16, KIND_F16, KIND_CODES };
static const int BYTES[] = {4, 8, 2, 2, 1};

enum {
    INNA_PROP = 1,       /* rescale the gradients: INNAprop */
    INNA_MAXIMIZE = 2,   /* maximise */
    INNA_DECOUPLED = 4,  /* weight decay multiplies theta and does not change g */
    INNA_SPEED = 8,      /* initial_speed is given */
    INNA_SCALED = 16,    /* multiply the gradients by grad_scale in place first */
    INNA_APART = 32      /* decay_lr is given: the decay does not change the momentum */
};

/* Numbers whose five buffers of doubles fit a cache of 32 KiB together. */
enum { BLOCK = 512 };
/* The least numbers per thread that pay for waking it; torch's own loops have the same limit. */
enum { SHARE = 32768 };
/* Threads meet at multiples of this many numbers, so that no two write into one cache line. */
enum { SEAM = 64 };

/* The inner products of a guarded step: |u|^2, <g, u>, <u, theta>, <g, theta>, |theta|^2 with u = m + beta g; and, for a
   cap by the distance from the start, |g|^2 and |theta - theta_0|^2. They are added in LANES at once, whatever the vector
   width, and in chunks of CHUNK numbers, whatever the threads. */
enum { PRODUCTS = 7, LANES = 16, CHUNK = 16384 };
/* In their place, without a learning rate: <g, theta_0 - theta> and |s'|_1 with s' = root s + weight g. */
enum { SUMS = 2 };

struct inna_tensor {
    void *theta;
    void *momentum;
    void *mean_square;  /* INNAprop */
    void *compensation; /* Kahan's, or NULL */
    float *step;        /* the step count, or NULL if nothing counts */
    int64_t size;       /* in real numbers */
    int32_t kind;       /* of theta, its gradient, its compensation and its start */
    int32_t momentum_kind;
    const void *start; /* theta_0, without a learning rate; INNAprop's of every `every`-th number; or NULL */
    void *grad_sum;    /* INNAprop's s of these; in double precision as theta is, else in single precision; or NULL */
    int32_t stochastic; /* the momentum and the mean square are in bfloat16 or in codes, rounded stochastically */
    uint32_t stream;    /* where their random bits come from */
    float *momentum_scale, *square_scale; /* of codes; else NULL */
};

struct inna_settings {
    double lr, alpha, beta, weight_decay, initial_speed, sigma, eps;
    double grad_scale; /* the factor of the gradients */
    double time_step;  /* of the momentum; lr if nothing sets it apart */
    double decay_lr;   /* of weight decay that multiplies theta; likewise */
    int64_t flags;
    double weight, root; /* of s' = root s + weight g */
    int64_t every;       /* 0 but for INNAprop without a learning rate */
};

static double bias_correction(double sigma, double step) {
    return sigma > 0 ? -expm1(step * log(sigma)) : 1.0; /* 1 - sigma^step */
}

static ALWAYS_INLINE float float_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static ALWAYS_INLINE uint32_t bits_from_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static ALWAYS_INLINE float float_from_bf16(uint16_t h) { return float_from_bits((uint32_t)h << 16); }

/* Round to nearest, ties to even; a NaN stays a NaN. */
static ALWAYS_INLINE uint16_t bf16_from_float(float x) {
    const uint32_t bits = bits_from_float(x);
    const uint32_t nearest = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : nearest);
}

/* Hash 32 bits to 32 bits, one to one (Wellons' lowbias32). inna.torch.steps.rounding has it, too. */
static ALWAYS_INLINE uint32_t mix(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* Two numbers share a hash: i and i + SHARED of a line of 2 SHARED numbers. The random bits of number i of a tensor: */
enum { SHARED = 16 };
static ALWAYS_INLINE uint32_t first_hash(uint32_t key, int64_t i) {
    return key + (uint32_t)(i / (2 * SHARED)) * SHARED;
}
static ALWAYS_INLINE uint32_t random_bits(uint32_t key, int64_t i) {
    const uint32_t random = mix(first_hash(key, i) + (uint32_t)(i % SHARED));
    return i & SHARED ? random & 0xffffu : random >> 16;
}

/* Round to one of the two neighbours in bfloat16: 16 random bits carry into the upper half as often as the lower half
   requires. An infinity has no lower half and stays. So does a NaN: results of arithmetic have its highest bit set. */
static ALWAYS_INLINE uint16_t bf16_at_random(float x, uint32_t random) {
    return (uint16_t)((bits_from_float(x) + (random & -(uint32_t)(x == x))) >> 16);
}

/* The exponent of binary16 is 112 below that of binary32. A subnormal becomes the fraction of a number at 2^-14,
   which is then subtracted. So no subnormal of binary32 occurs, which torch.set_flush_denormal would make 0. */
static ALWAYS_INLINE float float_from_f16(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7fffu) << 13, sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t subnormal = bits_from_float(float_from_bits(magnitude + 0x38800000u) - 0x1p-14f);
    const uint32_t finite = magnitude < 0x00800000u ? subnormal : magnitude + 0x38000000u;
    return float_from_bits(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite));
}

static ALWAYS_INLINE uint16_t f16_from_float(float x) {
    const uint32_t bits = bits_from_float(x), magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    const uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
    /* Adding 1/2 leaves the multiple of 2^-24 in the low bits, rounded. */
    const uint32_t subnormal = bits_from_float(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t h = magnitude < 0x38800000u ? subnormal : normal;
    h = magnitude >= 0x477ff000u ? 0x7c00u : h; /* 65520 and more */
    h = magnitude > 0x7f800000u ? 0x7e00u : h;
    return (uint16_t)(sign | h);
}

#include "cpu_codes.h"

#define REAL float
#define ROOT sqrtf
#include "cpu_rule.h"
#undef REAL
#undef ROOT
#define REAL double
#define ROOT sqrt
#include "cpu_rule.h"
#undef REAL
#undef ROOT

/* Step the numbers begin to end - 1 of all tensors, end to end. */
static ALWAYS_INLINE void share(const struct inna_tensor *tensors, void *const *grads, int64_t count,
                                const struct inna_settings *settings, int64_t begin, int64_t end) {
    for (int64_t i = 0, first = 0; i < count && first < end; first += tensors[i].size, i++) {
        const struct inna_tensor *const t = &tensors[i];
        int64_t from = begin > first ? begin - first : 0, to = end - first < t->size ? end - first : t->size;
        if (t->momentum_kind == KIND_CODES) { /* a block belongs to the thread that has its first number */
            from = (from + CODED - 1) / CODED * CODED;
            to = to < t->size ? (to + CODED - 1) / CODED * CODED : to;
            to = to < t->size ? to : t->size;
        }
        if (from >= to) continue;
        const double step = t->step != NULL ? *t->step : 0;
        if (t->kind == KIND_F64 || t->momentum_kind == KIND_F64)
            stretch_double(t, grads[i], settings, step, from, to);
        else
            stretch_float(t, grads[i], settings, step, from, to);
    }
}

/* The inner products of the chunks begin to end - 1 of all tensors, room for PRODUCTS each. */
static ALWAYS_INLINE void chunks(const struct inna_tensor *tensors, void *const *grads, int64_t count,
                                 const struct inna_settings *settings, int64_t begin, int64_t end, double *out) {
    for (int64_t i = 0, first = 0; i < count && first < end; i++) {
        const struct inna_tensor *const t = &tensors[i];
        const int64_t here = (t->size + CHUNK - 1) / CHUNK;
        const double step = t->step != NULL ? *t->step + 1 : 0;
        for (int64_t j = begin > first ? begin - first : 0; j < here && first + j < end; j++) {
            const int64_t from = j * CHUNK, to = t->size - from < CHUNK ? t->size : from + CHUNK;
            double *const at = out + (first + j) * PRODUCTS;
            if (settings->every > 0)
                t->kind == KIND_F64 ? sums_double(t, grads[i], settings, from, to, at)
                                    : sums_float(t, grads[i], settings, from, to, at);
            else if (t->kind == KIND_F64 || t->momentum_kind == KIND_F64)
                products_double(t, grads[i], settings, step, from, to, at);
            else
                products_float(t, grads[i], settings, step, from, to, at);
        }
        first += here;
    }
}

#define SHARE_FOR(name, attributes)                                                                                    \
    attributes static void share_##name(const struct inna_tensor *tensors, void *const *grads, int64_t count,          \
                                        const struct inna_settings *settings, int64_t begin, int64_t end) {            \
        share(tensors, grads, count, settings, begin, end);                                                            \
    }                                                                                                                  \
    attributes static void chunks_##name(const struct inna_tensor *tensors, void *const *grads, int64_t count,         \
                                         const struct inna_settings *settings, int64_t begin, int64_t end,             \
                                         double *out) {                                                                \
        chunks(tensors, grads, count, settings, begin, end, out);                                                      \
    }

SHARE_FOR(baseline, )
#ifdef DISPATCHED
SHARE_FOR(avx2, __attribute__((target("avx2"))))
SHARE_FOR(avx512, AVX512)
#endif

typedef void share_function(const struct inna_tensor *, void *const *, int64_t, const struct inna_settings *, int64_t,
                            int64_t);
typedef void chunks_function(const struct inna_tensor *, void *const *, int64_t, const struct inna_settings *, int64_t,
                             int64_t, double *);

static const struct {
    const char *name;
    share_function *share;
    chunks_function *chunks;
} LEVELS[] = {
    {"baseline", share_baseline, chunks_baseline},
#ifdef DISPATCHED
    {"AVX2", share_avx2, chunks_avx2},
    {"AVX-512", share_avx512, chunks_avx512},
#endif
};

static int best_level(void) {
#ifdef DISPATCHED
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

/* The instruction set of a level, or NULL if this machine lacks it. Level 0 needs no extensions. */
// SHA-256 of the sources, from setup.py: the structs below are declared a second time in cpu.py.
#define AS_TEXT(name) #name
#define TEXT_OF(macro) AS_TEXT(macro)
#ifndef INNA_SOURCES
#define INNA_SOURCES unknown
#endif
EXPORTED const char *inna_sources(void) { return TEXT_OF(INNA_SOURCES); }

EXPORTED const char *inna_level_name(int64_t level) {
    return level >= 0 && level <= best_level() ? LEVELS[level].name : NULL;
}

EXPORTED int64_t inna_best_level(void) { return best_level(); }

EXPORTED int64_t inna_uses_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

/* Where thread `thread` of `threads` begins, among `total` numbers; thread `threads` begins at the end. */
EXPORTED int64_t inna_seam(int64_t total, int64_t threads, int64_t thread) {
    if (thread >= threads) return total;
    const int64_t seams = total / SEAM, each = seams / threads, rest = seams % threads;
    return (each * thread + (thread < rest ? thread : rest)) * SEAM;
}

/* Take one step on tensors[0..count) with the gradients grads[i], by at most `threads` threads, with the instructions
   of `level`. Step counts are incremented first; the first step and the bias correction follow from the new counts. */
EXPORTED void inna_step(const struct inna_tensor *tensors, void *const *grads, int64_t count,
                        const struct inna_settings *settings, int64_t threads, int64_t level) {
    share_function *const work = LEVELS[level].share;
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        total += tensors[i].size;
        if (tensors[i].step != NULL) *tensors[i].step += 1;
    }
    const int64_t shares = (total + SHARE - 1) / SHARE;
    if (threads <= 1 || shares <= 1) {
        work(tensors, grads, count, settings, 0, total);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel num_threads((int)threads)
    {
        /* All of torch's threads are woken, even if few have work: a smaller team would end the others, and torch's
           next loop would have to start them again. */
        const int64_t team = omp_get_num_threads(), used = shares < team ? shares : team, thread = omp_get_thread_num();
        if (thread < used)
            work(tensors, grads, count, settings, inna_seam(total, used, thread), inna_seam(total, used, thread + 1));
    }
#else
    work(tensors, grads, count, settings, 0, total);
#endif
}

/* The number of chunks of all tensors. */
EXPORTED int64_t inna_chunks(const struct inna_tensor *tensors, int64_t count) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) total += (tensors[i].size + CHUNK - 1) / CHUNK;
    return total;
}

/* Write the inner products of all tensors to out[0..PRODUCTS), those of weight decay and of the distance only if there
   is one; where `every` is not 0, its sums to out[0..SUMS). `partial` has room for PRODUCTS numbers for each of the `total` chunks. The
   other arguments are those of inna_step. */
EXPORTED void inna_measure(const struct inna_tensor *tensors, void *const *grads, int64_t count,
                           const struct inna_settings *settings, double *partial, int64_t total, double *out,
                           int64_t threads, int64_t level) {
    chunks_function *const work = LEVELS[level].chunks;
    const int64_t shares = (total * CHUNK + SHARE - 1) / SHARE;
#ifdef _OPENMP
    if (threads > 1 && shares > 1) {
#pragma omp parallel num_threads((int)threads)
        {
            const int64_t team = omp_get_num_threads(), used = shares < team ? shares : team, i = omp_get_thread_num();
            if (i < used) work(tensors, grads, count, settings, total * i / used, total * (i + 1) / used, partial);
        }
    } else
#endif
        work(tensors, grads, count, settings, 0, total, partial);
    const int found = settings->every > 0 ? SUMS : PRODUCTS;
    for (int j = 0; j < found; j++) {
        double sum = 0;
        for (int64_t i = 0; i < total; i++) sum += partial[i * PRODUCTS + j];
        out[j] = sum;
    }
}

/* The conversions, for tests. */
EXPORTED void inna_convert(void *to, int64_t to_kind, const void *from, int64_t from_kind, int64_t size) {
    double buffer[BLOCK];
    for (int64_t at = 0; at < size; at += BLOCK) {
        const int64_t n = size - at < BLOCK ? size - at : BLOCK;
        load_double(buffer, (const char *)from + at * BYTES[from_kind], (int)from_kind, n);
        store_double((char *)to + at * BYTES[to_kind], buffer, (int)to_kind, n);
    }
}
