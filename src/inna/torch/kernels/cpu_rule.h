/* The rule on adjacent numbers, in the arithmetic REAL (float or double); included once for each.

   inna.dynamics holds the equations. Products and sums are rounded one by one (the build turns contraction off), so
   that every instruction set, vector width and division among threads gives the same bits. */

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAMED(name) PASTE(name, REAL)

struct NAMED(coefficients) {
    REAL lr, beta;     /* theta' = theta - lr (m + beta g) */
    REAL keep, gain;   /* m' = keep m + gain g; keep = 1 - alpha h, gain = h (1 - alpha beta), h = time_step */
    REAL sign;         /* of the gradient: -1 to maximise */
    REAL scale;        /* 1/grad_scale */
    REAL penalty;      /* g + penalty theta */
    REAL shrinkage;    /* theta - shrinkage theta: decay_lr weight_decay */
    REAL pull;         /* m + pull theta: INNAprop's decay */
    REAL start;        /* m_0 = start g_0, at the first step */
    REAL sigma, news;  /* v' = sigma v + news g^2; news = 1 - sigma */
    REAL unbias, eps;  /* ghat = g / (sqrt(unbias v') + eps) */
};

static ALWAYS_INLINE struct NAMED(coefficients) NAMED(coefficients)(const struct inna_settings *s, double step) {
    const double speed_up = s->initial_speed - s->beta;
    struct NAMED(coefficients) k;
    k.lr = (REAL)s->lr;
    k.beta = (REAL)s->beta;
    k.keep = (REAL)(1 - s->alpha * s->time_step);
    k.gain = (REAL)(s->time_step * (1 - s->alpha * s->beta));
    k.sign = s->flags & INNA_MAXIMIZE ? (REAL)-1 : (REAL)1;
    k.scale = (REAL)s->grad_scale;
    k.penalty = s->flags & (INNA_PROP | INNA_DECOUPLED) ? (REAL)0 : (REAL)s->weight_decay;
    k.shrinkage = s->flags & (INNA_PROP | INNA_DECOUPLED) ? (REAL)(s->decay_lr * s->weight_decay) : (REAL)0;
    k.pull = s->flags & INNA_PROP && !(s->flags & INNA_APART) && s->weight_decay != 0
                 ? (REAL)(s->lr * s->weight_decay * (1 / s->beta - s->alpha))
                 : (REAL)0;
    k.start = s->flags & INNA_SPEED && step == 1 ? (REAL)speed_up : (REAL)0;
    k.sigma = (REAL)s->sigma;
    k.news = (REAL)(1 - s->sigma);
    k.unbias = s->flags & INNA_PROP ? (REAL)(1 / bias_correction(s->sigma, step)) : (REAL)1;
    k.eps = (REAL)s->eps;
    return k;
}

/* A factor of 0 omits the term: the product would turn an infinity into a NaN. */
static ALWAYS_INLINE REAL NAMED(plus)(REAL x, REAL factor, REAL y) { return factor != 0 ? x + factor * y : x; }

/* Round to the nearest number of `kind`. */
static ALWAYS_INLINE REAL NAMED(rounded)(REAL x, int kind) {
    switch (kind) {
    case KIND_F32: return (REAL)(float)x;
    case KIND_BF16: return (REAL)float_from_bf16(bf16_from_float((float)x));
    case KIND_F16: return (REAL)float_from_f16(f16_from_float((float)x));
    default: return x;
    }
}

static ALWAYS_INLINE void NAMED(load)(REAL *restrict to, const void *from, int kind, int64_t n) {
    const float *f32 = from;
    const double *f64 = from;
    const uint16_t *half = from;
    switch (kind) {
    case KIND_F32:
        VECTOR for (int64_t i = 0; i < n; i++) to[i] = (REAL)f32[i];
        break;
    case KIND_F64:
        VECTOR for (int64_t i = 0; i < n; i++) to[i] = (REAL)f64[i];
        break;
    case KIND_BF16:
        VECTOR for (int64_t i = 0; i < n; i++) to[i] = (REAL)float_from_bf16(half[i]);
        break;
    default:
        VECTOR for (int64_t i = 0; i < n; i++) to[i] = (REAL)float_from_f16(half[i]);
    }
}

static ALWAYS_INLINE void NAMED(store)(void *to, const REAL *restrict from, int kind, int64_t n) {
    float *f32 = to;
    double *f64 = to;
    uint16_t *half = to;
    switch (kind) {
    case KIND_F32:
        VECTOR for (int64_t i = 0; i < n; i++) f32[i] = (float)from[i];
        break;
    case KIND_F64:
        VECTOR for (int64_t i = 0; i < n; i++) f64[i] = (double)from[i];
        break;
    case KIND_BF16:
        VECTOR for (int64_t i = 0; i < n; i++) half[i] = bf16_from_float((float)from[i]);
        break;
    default:
        VECTOR for (int64_t i = 0; i < n; i++) half[i] = f16_from_float((float)from[i]);
    }
}

/* Step the momentum and the mean square of one number in place; return the change of theta, to be subtracted. `plain`
   is INNA without options, the case whose speed is limited by memory. `plain` and `prop` are constants where this is
   called. */
static ALWAYS_INLINE REAL NAMED(rule)(REAL x, REAL grad, REAL *momentum, REAL *mean_square,
                                      struct NAMED(coefficients) k, int plain, int prop) {
    REAL g = grad * k.sign, m = *momentum;
    if (!plain && prop) {
        const REAL v = k.sigma * *mean_square + k.news * (g * g);
        *mean_square = v;
        m = NAMED(plus)(m, k.pull, x);
        g = g / (ROOT(k.unbias * v) + k.eps);
    } else if (!plain) {
        g = NAMED(plus)(g, k.penalty, x);
    }
    if (!plain) m = NAMED(plus)(m, k.start, g);
    *momentum = k.keep * m + k.gain * g;
    const REAL move = k.lr * (m + k.beta * g);
    return plain ? move : NAMED(plus)(move, k.shrinkage, x);
}

/* The step of adjacent numbers. With `kahan`, theta is left to `settle` and its change is added to the compensation. */
static ALWAYS_INLINE void NAMED(numbers)(int64_t n, REAL *theta, const REAL *grad, REAL *momentum, REAL *mean_square,
                                         REAL *compensation, struct NAMED(coefficients) k, int plain, int prop,
                                         int kahan) {
    VECTOR for (int64_t i = 0; i < n; i++) {
        REAL *const m = momentum + i, *const v = prop ? mean_square + i : NULL;
        const REAL x = theta[i], move = NAMED(rule)(x, grad[i], m, v, k, plain, prop);
        if (kahan)
            compensation[i] = compensation[i] - move;
        else
            theta[i] = x - move;
    }
}

/* One number with the momentum and the mean square in bfloat16, rounded stochastically. */
static ALWAYS_INLINE void NAMED(short_number)(REAL *theta, REAL grad, uint16_t *momentum, uint16_t *mean_square,
                                              REAL *compensation, struct NAMED(coefficients) k, uint32_t random,
                                              int plain, int prop, int kahan) {
    REAL m = (REAL)float_from_bf16(*momentum), v = prop ? (REAL)float_from_bf16(*mean_square) : (REAL)0;
    const REAL x = *theta, move = NAMED(rule)(x, grad, &m, &v, k, plain, prop);
    if (kahan)
        *compensation = *compensation - move;
    else
        *theta = x - move;
    *momentum = bf16_at_random((float)m, random);
    if (prop) *mean_square = bf16_at_random((float)v, random);
}

/* Such numbers, at, at + 1, ... of a tensor. */
static ALWAYS_INLINE void NAMED(short_numbers)(int64_t n, REAL *theta, const REAL *grad, uint16_t *momentum,
                                               uint16_t *mean_square, REAL *compensation, struct NAMED(coefficients) k,
                                               uint32_t key, int64_t at, int plain, int prop, int kahan) {
    for (int64_t i = 0; i < n; i++)
        NAMED(short_number)(theta + i, grad[i], momentum + i, prop ? mean_square + i : NULL,
                            kahan ? compensation + i : NULL, k, random_bits(key, at + i), plain, prop, kahan);
}

/* The two above, a cache line at a time, prefetching AHEAD bytes: the processor's own prefetching stops at the end of
   each page. A whole line has a fixed length, which compiles to plain vector code. Two halves at once read memory faster
   than one place does. */
static ALWAYS_INLINE void NAMED(line)(int64_t i, int64_t n, REAL *theta, REAL *grad, REAL *momentum, REAL *mean_square,
                                      REAL *compensation, struct NAMED(coefficients) k, int plain, int prop, int kahan) {
    PREFETCH(theta + i);
    PREFETCH(grad + i);
    PREFETCH(momentum + i);
    if (prop) PREFETCH(mean_square + i);
    if (kahan) PREFETCH(compensation + i);
    NAMED(numbers)(n, theta + i, grad + i, momentum + i, prop ? mean_square + i : NULL,
                   kahan ? compensation + i : NULL, k, plain, prop, kahan);
}

static ALWAYS_INLINE void NAMED(lines)(int64_t n, REAL *theta, REAL *grad, REAL *momentum, REAL *mean_square,
                                       REAL *compensation, struct NAMED(coefficients) k, int plain, int prop, int kahan) {
    enum { LINE = 64 / sizeof(REAL) };
    const int64_t half = n / 2 / LINE * LINE;
    for (int64_t i = 0; i < half; i += LINE) {
        NAMED(line)(i, LINE, theta, grad, momentum, mean_square, compensation, k, plain, prop, kahan);
        NAMED(line)(half + i, LINE, theta, grad, momentum, mean_square, compensation, k, plain, prop, kahan);
    }
    for (int64_t i = 2 * half; i < n; i += LINE)
        NAMED(line)(i, n - i < LINE ? n - i : LINE, theta, grad, momentum, mean_square, compensation, k, plain, prop,
                    kahan);
}

enum { NAMED(SHORT_LINE) = 2 * SHARED }; /* a cache line of bfloat16 */

static ALWAYS_INLINE void NAMED(short_line)(int64_t i, REAL *theta, const REAL *grad, uint16_t *momentum,
                                            uint16_t *mean_square, REAL *compensation, struct NAMED(coefficients) k,
                                            uint32_t key, int64_t at, int plain, int prop, int kahan) {
    const uint32_t hashes = first_hash(key, at + i);
    REAL *const x = theta + i, *const held = kahan ? compensation + i : NULL;
    const REAL *const g = grad + i;
    uint16_t *const m = momentum + i, *const v = prop ? mean_square + i : NULL;
    for (int64_t j = 0; j < NAMED(SHORT_LINE); j += 64 / sizeof(REAL)) {
        PREFETCH(x + j);
        PREFETCH(g + j);
        if (kahan) PREFETCH(held + j);
    }
    PREFETCH(m);
    if (prop) PREFETCH(v);
    VECTOR for (int32_t j = 0; j < SHARED; j++) {
        const int32_t l = j + SHARED;
        const uint32_t random = mix(hashes + (uint32_t)j);
        NAMED(short_number)(x + j, g[j], m + j, prop ? v + j : NULL, kahan ? held + j : NULL, k, random >> 16, plain, prop,
                            kahan);
        NAMED(short_number)(x + l, g[l], m + l, prop ? v + l : NULL, kahan ? held + l : NULL, k, random & 0xffffu, plain,
                            prop, kahan);
    }
}

static ALWAYS_INLINE void NAMED(short_lines)(int64_t n, REAL *theta, REAL *grad, uint16_t *momentum,
                                             uint16_t *mean_square, REAL *compensation, struct NAMED(coefficients) k,
                                             uint32_t key, int64_t at, int plain, int prop, int kahan) {
    enum { LINE = NAMED(SHORT_LINE) };
    const int64_t before = at % LINE == 0 ? 0 : LINE - at % LINE, first = before < n ? before : n;
    const int64_t half = (n - first) / 2 / LINE * LINE;
    NAMED(short_numbers)(first, theta, grad, momentum, mean_square, compensation, k, key, at, plain, prop, kahan);
    int64_t i = first;
    for (; i < first + half; i += LINE) {
        NAMED(short_line)(i, theta, grad, momentum, mean_square, compensation, k, key, at, plain, prop, kahan);
        NAMED(short_line)(half + i, theta, grad, momentum, mean_square, compensation, k, key, at, plain, prop, kahan);
    }
    for (i += half; i + LINE <= n; i += LINE)
        NAMED(short_line)(i, theta, grad, momentum, mean_square, compensation, k, key, at, plain, prop, kahan);
    NAMED(short_numbers)(n - i, theta + i, grad + i, momentum + i, prop ? mean_square + i : NULL,
                         kahan ? compensation + i : NULL, k, key, at + i, plain, prop, kahan);
}

/* Read the numbers of codes, from the first of a block on. */
static ALWAYS_INLINE void NAMED(decode)(REAL *restrict to, const int8_t *codes, const float *scales, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = (REAL)(level_of(codes[i], 0) * scales[i / CODED]);
}

/* Numbers at, at + 1, ... of a block in codes. The new momentums and mean squares remain to be rounded. */
static ALWAYS_INLINE void NAMED(coded_numbers)(int64_t n, REAL *theta, const REAL *grad, REAL *compensation,
                                               struct inna_block *block, int64_t at, float unit, float square_unit,
                                               struct NAMED(coefficients) k, int plain, int prop, int kahan) {
    const int32_t *const codes = block->codes + at, *const square_codes = block->square_codes + at;
    float *const momentums = block->momentums + at, *const squares = block->squares + at;
    VECTOR for (int64_t i = 0; i < n; i++) {
        REAL m = (REAL)(level_of(codes[i], 0) * unit);
        REAL v = prop ? (REAL)(level_of(square_codes[i], 1) * square_unit) : (REAL)0;
        const REAL x = theta[i], move = NAMED(rule)(x, grad[i], &m, &v, k, plain, prop);
        if (kahan)
            compensation[i] = compensation[i] - move;
        else
            theta[i] = x - move;
        momentums[i] = (float)m;
        if (prop) squares[i] = (float)v;
    }
}

/* The same of a block, in lines of fixed length. */
static ALWAYS_INLINE void NAMED(coded_lines)(REAL *theta, const REAL *grad, REAL *compensation, struct inna_block *block,
                                             float unit, float square_unit, struct NAMED(coefficients) k, int plain,
                                             int prop, int kahan) {
    enum { LINE = 64 };
    int64_t at = 0;
    for (; at + LINE <= block->size; at += LINE) {
        REAL *const x = theta + at, *const held = kahan ? compensation + at : NULL;
        const REAL *const g = grad + at;
        NAMED(coded_numbers)(LINE, x, g, held, block, at, unit, square_unit, k, plain, prop, kahan);
    }
    NAMED(coded_numbers)(block->size - at, theta + at, grad + at, kahan ? compensation + at : NULL, block, at, unit,
                         square_unit, k, plain, prop, kahan);
}

/* The numbers at, at + 1, ... of a tensor in codes; `at` begins a block. */
static ALWAYS_INLINE void NAMED(coded)(const struct inna_tensor *t, int64_t n, REAL *theta, const REAL *grad,
                                       REAL *compensation, struct NAMED(coefficients) k, uint32_t key, int64_t at,
                                       int plain, int prop) {
    struct inna_block block;
    for (const int64_t end = at + n; at < end; at += CODED, theta += CODED, grad += CODED) {
        const int64_t index = at / CODED;
        uint8_t *const codes = (uint8_t *)t->momentum + at;
        uint8_t *const square_codes = prop ? (uint8_t *)t->mean_square + at : NULL;
        float *const scale = t->momentum_scale + index, *const square_scale = prop ? t->square_scale + index : NULL;
        const float unit = *scale, square_unit = prop ? *square_scale : 0;
        block.size = end - at < CODED ? end - at : CODED;
        unpack(block.size, block.codes, codes, 0);
        if (prop) unpack(block.size, block.square_codes, square_codes, 1);
        if (plain)
            NAMED(coded_lines)(theta, grad, NULL, &block, unit, square_unit, k, 1, 0, 0);
        else if (prop && compensation != NULL)
            NAMED(coded_lines)(theta, grad, compensation, &block, unit, square_unit, k, 0, 1, 1);
        else if (prop)
            NAMED(coded_lines)(theta, grad, NULL, &block, unit, square_unit, k, 0, 1, 0);
        else if (compensation != NULL)
            NAMED(coded_lines)(theta, grad, compensation, &block, unit, square_unit, k, 0, 0, 1);
        else
            NAMED(coded_lines)(theta, grad, NULL, &block, unit, square_unit, k, 0, 0, 0);
        /* The next block is fetched while this one is rounded. */
        for (int64_t i = CODED; at + 2 * CODED <= end && i < 2 * CODED; i += 64 / sizeof(REAL)) {
            PREFETCH_AT(theta + i);
            PREFETCH_AT(grad + i);
            if (compensation != NULL) PREFETCH_AT(compensation + i);
            if (i % 64 == 0) PREFETCH_AT(codes + i);
            if (prop && i % 64 == 0) PREFETCH_AT(square_codes + i);
        }
        block.inverse = find_scale(block.size, block.momentums, scale, 0);
        if (prop) block.square_inverse = find_scale(block.size, block.squares, square_scale, 1);
        round_lines(&block, first_hash(key, at), prop);
        pack(block.size, codes, block.codes);
        if (prop) pack(block.size, square_codes, block.square_codes);
        if (compensation != NULL) compensation += CODED;
    }
}

/* Kahan summation: add the error of rounding to `kind` to the next step. */
static ALWAYS_INLINE void NAMED(settle)(int64_t n, REAL *theta, REAL *compensation, int kind) {
    VECTOR for (int64_t i = 0; i < n; i++) {
        const REAL total = NAMED(rounded)(theta[i] + compensation[i], kind);
        compensation[i] = compensation[i] + (theta[i] - total);
        theta[i] = total;
    }
}

/* s' = root s + weight g, for the numbers at, at + 1, ..., at + n - 1 of one tensor. */
static ALWAYS_INLINE void NAMED(gather)(const struct inna_tensor *t, const REAL *restrict grad,
                                        const struct inna_settings *s, int64_t at, int64_t n) {
    const REAL root = (REAL)s->root, weight = (REAL)s->weight;
    float *const single = t->grad_sum;
    double *const wide = t->grad_sum;
    if (s->every == 1 && t->kind == KIND_F64) {
        VECTOR for (int64_t i = 0; i < n; i++) wide[at + i] = root * (REAL)wide[at + i] + weight * grad[i];
    } else if (s->every == 1) {
        VECTOR for (int64_t i = 0; i < n; i++) single[at + i] = (float)(root * (REAL)single[at + i] + weight * grad[i]);
    } else {
        for (int64_t j = (at + s->every - 1) / s->every; j * s->every < at + n; j++) {
            const REAL g = grad[j * s->every - at];
            if (t->kind == KIND_F64)
                wide[j] = root * (REAL)wide[j] + weight * g;
            else
                single[j] = (float)(root * (REAL)single[j] + weight * g);
        }
    }
}

/* Step the numbers begin to end - 1 of one tensor. Other precisions are converted in buffers that fit the cache. */
static ALWAYS_INLINE void NAMED(stretch)(const struct inna_tensor *t, void *grads, const struct inna_settings *s,
                                         double step, int64_t begin, int64_t end) {
    const int native = sizeof(REAL) == sizeof(float) ? KIND_F32 : KIND_F64;
    const int kind = t->kind, momentum_kind = t->momentum_kind;
    const struct NAMED(coefficients) k = NAMED(coefficients)(s, step);
    const int prop = (s->flags & INNA_PROP) != 0, write_grad = (s->flags & INNA_SCALED) != 0;
    const int plain = !prop && !write_grad && t->compensation == NULL && k.penalty == 0 && k.shrinkage == 0 && k.start == 0;
    const uint32_t key = t->stochastic ? mix(t->stream + (uint32_t)step) : 0;
    REAL theta_buffer[BLOCK], grad_buffer[BLOCK], momentum_buffer[BLOCK], square_buffer[BLOCK], held_buffer[BLOCK];

    /* One stretch if nothing is converted and no second pass follows. */
    const int64_t block = kind == native && (momentum_kind == native || t->stochastic) && t->compensation == NULL &&
                                      !write_grad && t->grad_sum == NULL
                              ? end - begin
                              : BLOCK;

    for (int64_t at = begin, n; at < end; at += n) {
        /* The random bits, and the scales of codes, are those of whole lines and blocks. */
        const int64_t most = t->stochastic && block == BLOCK ? BLOCK - at % BLOCK : block;
        n = end - at < most ? end - at : most;
        const ptrdiff_t offset = (ptrdiff_t)at * BYTES[kind], momentum_offset = (ptrdiff_t)at * BYTES[momentum_kind];
        char *const theta_at = (char *)t->theta + offset, *const grad_at = (char *)grads + offset;
        char *const momentum_at = (char *)t->momentum + momentum_offset;
        char *const square_at = prop ? (char *)t->mean_square + momentum_offset : NULL;
        char *const held_at = t->compensation != NULL ? (char *)t->compensation + offset : NULL;
        REAL *theta = (REAL *)(void *)theta_at, *grad = (REAL *)(void *)grad_at, *held = (REAL *)(void *)held_at;
        REAL *momentum = (REAL *)(void *)momentum_at, *square = (REAL *)(void *)square_at;
        if (kind != native) {
            NAMED(load)(theta = theta_buffer, theta_at, kind, n);
            NAMED(load)(grad = grad_buffer, grad_at, kind, n);
            if (held_at != NULL) NAMED(load)(held = held_buffer, held_at, kind, n);
        }
        if (momentum_kind != native && !t->stochastic) {
            NAMED(load)(momentum = momentum_buffer, momentum_at, momentum_kind, n);
            if (prop) NAMED(load)(square = square_buffer, square_at, momentum_kind, n);
        }
        if (write_grad) {
            VECTOR for (int64_t i = 0; i < n; i++) grad[i] = grad[i] * k.scale;
        }
        if (t->grad_sum != NULL) NAMED(gather)(t, grad, s, at, n);
        if (momentum_kind == KIND_CODES) {
            NAMED(coded)(t, n, theta, grad, held, k, key, at, plain, prop);
        } else if (t->stochastic) {
            uint16_t *const m = (uint16_t *)(void *)momentum_at, *const v = (uint16_t *)(void *)square_at;
            if (plain)
                NAMED(short_lines)(n, theta, grad, m, NULL, NULL, k, key, at, 1, 0, 0);
            else if (prop && held_at != NULL)
                NAMED(short_lines)(n, theta, grad, m, v, held, k, key, at, 0, 1, 1);
            else if (prop)
                NAMED(short_lines)(n, theta, grad, m, v, NULL, k, key, at, 0, 1, 0);
            else if (held_at != NULL)
                NAMED(short_lines)(n, theta, grad, m, NULL, held, k, key, at, 0, 0, 1);
            else
                NAMED(short_lines)(n, theta, grad, m, NULL, NULL, k, key, at, 0, 0, 0);
        } else if (plain)
            NAMED(lines)(n, theta, grad, momentum, NULL, NULL, k, 1, 0, 0);
        else if (prop && held_at != NULL)
            NAMED(lines)(n, theta, grad, momentum, square, held, k, 0, 1, 1);
        else if (prop)
            NAMED(lines)(n, theta, grad, momentum, square, NULL, k, 0, 1, 0);
        else if (held_at != NULL)
            NAMED(lines)(n, theta, grad, momentum, NULL, held, k, 0, 0, 1);
        else
            NAMED(lines)(n, theta, grad, momentum, NULL, NULL, k, 0, 0, 0);
        if (held_at != NULL) {
            if (kind == KIND_F32) NAMED(settle)(n, theta, held, KIND_F32);
            if (kind == KIND_F64) NAMED(settle)(n, theta, held, KIND_F64);
            if (kind == KIND_BF16) NAMED(settle)(n, theta, held, KIND_BF16);
            if (kind == KIND_F16) NAMED(settle)(n, theta, held, KIND_F16);
        }
        if (kind != native) {
            NAMED(store)(theta_at, theta, kind, n);
            if (write_grad) NAMED(store)(grad_at, grad, kind, n);
            if (held_at != NULL) NAMED(store)(held_at, held, kind, n);
        }
        if (momentum_kind != native && !t->stochastic) {
            NAMED(store)(momentum_at, momentum, momentum_kind, n);
            if (prop) NAMED(store)(square_at, square, momentum_kind, n);
        }
    }
}

/* Add LANES products each of u = m + beta g with itself and with g, with `decays` of u, g and theta with theta, and with
   `far` of g and theta - theta_0 with themselves. */
static ALWAYS_INLINE void NAMED(lanes)(int64_t n, const REAL *theta, const REAL *held, const REAL *grad,
                                       const REAL *momentum, const REAL *start, struct NAMED(coefficients) k,
                                       int decays, int far, double sums[PRODUCTS][LANES]) {
    VECTOR for (int64_t i = 0; i < n; i++) {
        const REAL x = decays || far ? (held != NULL ? theta[i] + held[i] : theta[i]) : (REAL)0;
        const REAL g = NAMED(plus)(grad[i] * k.sign, k.penalty, x);
        const REAL u = NAMED(plus)(momentum[i], k.start, g) + k.beta * g;
        const double wide_u = (double)u, wide_g = (double)g, wide_x = (double)x;
        sums[0][i] += wide_u * wide_u;
        sums[1][i] += wide_g * wide_u;
        if (decays) {
            sums[2][i] += wide_u * wide_x;
            sums[3][i] += wide_g * wide_x;
            sums[4][i] += wide_x * wide_x;
        }
        if (far) {
            const double apart = (double)(x - start[i]);
            sums[5][i] += wide_g * wide_g;
            sums[6][i] += apart * apart;
        }
    }
}

/* LANES of them at `i`, with what follows prefetched. */
static ALWAYS_INLINE void NAMED(product_line)(int64_t i, const REAL *theta, const REAL *held, const REAL *grad,
                                              const REAL *momentum, const REAL *start, struct NAMED(coefficients) k,
                                              int decays, int far, double sums[PRODUCTS][LANES]) {
    PREFETCH_READ(grad + i);
    PREFETCH_READ(momentum + i);
    if (decays || far) PREFETCH_READ(theta + i);
    if (far) PREFETCH_READ(start + i);
    NAMED(lanes)(LANES, theta + i, held != NULL ? held + i : NULL, grad + i, momentum + i, far ? start + i : NULL, k,
                 decays, far, sums);
}

/* The same of n numbers, in two halves at once, which read memory faster than one place does. `decays` and `far` are
   constants where this is called. */
static ALWAYS_INLINE void NAMED(product_lines)(int64_t n, const REAL *theta, const REAL *held, const REAL *grad,
                                               const REAL *momentum, const REAL *start, struct NAMED(coefficients) k,
                                               int decays, int far, double sums[PRODUCTS][LANES]) {
    const int64_t half = n / 2 / LANES * LANES;
    for (int64_t i = 0; i < half; i += LANES) {
        NAMED(product_line)(i, theta, held, grad, momentum, start, k, decays, far, sums);
        NAMED(product_line)(half + i, theta, held, grad, momentum, start, k, decays, far, sums);
    }
    /* Apart from the loop, so that its sums stay in registers. */
    for (int64_t i = 2 * half; i < n; i += LANES)
        NAMED(lanes)(n - i < LANES ? n - i : LANES, theta + i, held != NULL ? held + i : NULL, grad + i, momentum + i,
                     far ? start + i : NULL, k, decays, far, sums);
}

/* The products of the numbers begin to end - 1 of one tensor, at most CHUNK. The order of the sums is always the same. */
static ALWAYS_INLINE void NAMED(products)(const struct inna_tensor *t, const void *grads, const struct inna_settings *s,
                                          double step, int64_t begin, int64_t end, double *out) {
    const int native = sizeof(REAL) == sizeof(float) ? KIND_F32 : KIND_F64;
    const int kind = t->kind, momentum_kind = t->momentum_kind, decays = s->weight_decay != 0, far = t->start != NULL;
    const struct NAMED(coefficients) k = NAMED(coefficients)(s, step);
    REAL theta_buffer[BLOCK], grad_buffer[BLOCK], momentum_buffer[BLOCK], held_buffer[BLOCK], start_buffer[BLOCK];
    double sums[PRODUCTS][LANES];
    memset(sums, 0, sizeof sums);
    const int64_t block = kind == native && momentum_kind == native ? end - begin : BLOCK;
    for (int64_t at = begin; at < end; at += block) {
        const int64_t n = end - at < block ? end - at : block;
        const ptrdiff_t offset = (ptrdiff_t)at * BYTES[kind];
        const char *const held_at =
            (decays || far) && t->compensation != NULL ? (const char *)t->compensation + offset : NULL;
        const void *const theta_at = (const char *)t->theta + offset, *const grad_at = (const char *)grads + offset;
        const void *const momentum_at = (const char *)t->momentum + (ptrdiff_t)at * BYTES[momentum_kind];
        const void *const start_at = far ? (const char *)t->start + offset : NULL;
        const REAL *theta = theta_at, *grad = grad_at, *momentum = momentum_at, *held = (const void *)held_at;
        const REAL *start = start_at;
        if (kind != native) {
            if (decays || far) NAMED(load)(theta_buffer, theta_at, kind, n);
            NAMED(load)(grad_buffer, grad_at, kind, n);
            if (held_at != NULL) NAMED(load)(held_buffer, held_at, kind, n);
            if (far) NAMED(load)(start_buffer, start_at, kind, n);
            theta = theta_buffer, grad = grad_buffer, held = held_at != NULL ? held_buffer : NULL, start = start_buffer;
        }
        if (momentum_kind == KIND_CODES)
            NAMED(decode)(momentum_buffer, momentum_at, t->momentum_scale + at / CODED, n);
        else if (momentum_kind != native)
            NAMED(load)(momentum_buffer, momentum_at, momentum_kind, n);
        if (momentum_kind != native) momentum = momentum_buffer;
        if (decays && far)
            NAMED(product_lines)(n, theta, held, grad, momentum, start, k, 1, 1, sums);
        else if (decays)
            NAMED(product_lines)(n, theta, held, grad, momentum, NULL, k, 1, 0, sums);
        else if (far && held == NULL)
            NAMED(product_lines)(n, theta, NULL, grad, momentum, start, k, 0, 1, sums);
        else if (far)
            NAMED(product_lines)(n, theta, held, grad, momentum, start, k, 0, 1, sums);
        else
            NAMED(product_lines)(n, theta, NULL, grad, momentum, NULL, k, 0, 0, sums);
    }
    for (int j = 0; j < PRODUCTS; j++) {
        double total = 0;
        for (int i = 0; i < LANES; i++) total += sums[j][i];
        out[j] = total;
    }
}

/* Add LANES of the sums that find the distance. `kahan` is a constant where this is called. */
static ALWAYS_INLINE void NAMED(free_lanes)(int64_t n, const REAL *theta, const REAL *held, const REAL *grad,
                                            const REAL *start, const REAL *grad_sum, REAL root, REAL weight, int kahan,
                                            double sums[SUMS][LANES]) {
    VECTOR for (int64_t i = 0; i < n; i++) {
        /* What rounding has kept back of theta belongs to it. */
        const double x = kahan ? (double)theta[i] + (double)held[i] : (double)theta[i];
        const REAL s = root * grad_sum[i] + weight * grad[i];
        sums[0][i] += ((double)start[i] - x) * (double)grad[i];
        sums[1][i] += (double)(s < 0 ? -s : s);
    }
}

/* LANES of them at `i` without Kahan's compensation, with what follows prefetched. */
static ALWAYS_INLINE void NAMED(free_line)(int64_t i, const REAL *theta, const REAL *grad, const REAL *start,
                                           const REAL *grad_sum, REAL root, REAL weight, double sums[SUMS][LANES]) {
    PREFETCH_READ(theta + i);
    PREFETCH_READ(grad + i);
    PREFETCH_READ(start + i);
    PREFETCH_READ(grad_sum + i);
    NAMED(free_lanes)(LANES, theta + i, NULL, grad + i, start + i, grad_sum + i, root, weight, 0, sums);
}

/* Their parts of the numbers begin to end - 1 of one tensor, at most CHUNK; always added in the same order. */
static ALWAYS_INLINE void NAMED(sums)(const struct inna_tensor *t, const void *grads, const struct inna_settings *s,
                                      int64_t begin, int64_t end, double *out) {
    const int native = sizeof(REAL) == sizeof(float) ? KIND_F32 : KIND_F64;
    const int kind = t->kind, direct = kind == native && s->every == 1;
    const int64_t every = s->every, first = (begin + every - 1) / every, last = (end + every - 1) / every;
    const REAL root = (REAL)s->root, weight = (REAL)s->weight, *const all_sums = t->grad_sum;
    REAL theta_buffer[BLOCK], grad_buffer[BLOCK], start_buffer[BLOCK], held_buffer[BLOCK];
    double sums[SUMS][LANES];
    memset(sums, 0, sizeof sums);
    const int64_t block = direct ? last - first : BLOCK;
    for (int64_t at = first; at < last; at += block) {
        const int64_t n = last - at < block ? last - at : block;
        const ptrdiff_t offset = (ptrdiff_t)(at * every) * BYTES[kind], stride = (ptrdiff_t)every * BYTES[kind];
        const char *const theta_at = (const char *)t->theta + offset, *const grad_at = (const char *)grads + offset;
        const char *const held_at = t->compensation != NULL ? (const char *)t->compensation + offset : NULL;
        const char *const start_at = (const char *)t->start + (ptrdiff_t)at * BYTES[kind];
        const REAL *theta = (const void *)theta_at, *grad = (const void *)grad_at, *start = (const void *)start_at;
        const REAL *held = (const void *)held_at;
        if (every > 1) {
            for (int64_t i = 0; i < n; i++) {
                NAMED(load)(theta_buffer + i, theta_at + i * stride, kind, 1);
                NAMED(load)(grad_buffer + i, grad_at + i * stride, kind, 1);
                if (held_at != NULL) NAMED(load)(held_buffer + i, held_at + i * stride, kind, 1);
            }
        } else if (!direct) {
            NAMED(load)(theta_buffer, theta_at, kind, n);
            NAMED(load)(grad_buffer, grad_at, kind, n);
            if (held_at != NULL) NAMED(load)(held_buffer, held_at, kind, n);
        }
        if (!direct) {
            NAMED(load)(start_buffer, start_at, kind, n);
            theta = theta_buffer, grad = grad_buffer, start = start_buffer, held = held_at != NULL ? held_buffer : NULL;
        }
        const REAL *const grad_sum = all_sums + at;
        int64_t i = 0;
        if (held != NULL) {
            for (; i + LANES <= n; i += LANES)
                NAMED(free_lanes)(LANES, theta + i, held + i, grad + i, start + i, grad_sum + i, root, weight, 1, sums);
            NAMED(free_lanes)(n - i, theta + i, held + i, grad + i, start + i, grad_sum + i, root, weight, 1, sums);
        } else {
            const int64_t half = n / 2 / LANES * LANES;
            for (; i < half; i += LANES) {
                NAMED(free_line)(i, theta, grad, start, grad_sum, root, weight, sums);
                NAMED(free_line)(half + i, theta, grad, start, grad_sum, root, weight, sums);
            }
            for (i = 2 * half; i < n; i += LANES)
                NAMED(free_lanes)(n - i < LANES ? n - i : LANES, theta + i, NULL, grad + i, start + i, grad_sum + i,
                                  root, weight, 0, sums);
        }
    }
    for (int j = 0; j < SUMS; j++) {
        double total = 0;
        for (int i = 0; i < LANES; i++) total += sums[j][i];
        out[j] = total;
    }
}

#undef NAMED
#undef PASTE
#undef PASTE_
