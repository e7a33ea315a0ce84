/* Momentums and mean squares in codes of one byte, with a scale for each CODED numbers: inna.torch.steps.companding has
   the rule. The magnitude of a code is a part of the bits of the float 2 + |x| / scale: the lower bits of its exponent
   and the first of its fraction, 5 for a momentum (KIND_CODES, int8) and 3 for a mean square (`square`, uint8). */

enum { CODED = 256, MOMENTUM_SHIFT = 18, SQUARE_SHIFT = 20 };
/* The largest levels: 2^4 63/32 - 2, and 2^32 15/8 - 2 in single precision. */
static const float LARGEST = 29.5f, LARGEST_SQUARE = 8053063680.0f;
/* The smallest scale: neither 1 over it nor the smallest level is subnormal. */
static const float SMALLEST_SCALE = 0x1p-122f;
static const uint32_t BITS_OF_TWO = 0x40000000u;

/* The number of a code in units of its scale. `square` is a constant where this is called. */
static ALWAYS_INLINE float level_of(int32_t code, int square) {
    const uint32_t magnitude = (uint32_t)(square ? code : abs(code));
    const float level = float_from_bits(magnitude << (square ? SQUARE_SHIFT : MOMENTUM_SHIFT) | BITS_OF_TWO) - 2.0f;
    return square ? level : float_from_bits(bits_from_float(level) | ((uint32_t)code & 0x80000000u));
}

/* The code of a number in units of the scale, in the last byte: one of the two nearest, by 16 bits of `random` from
   `begin` on. Half a unit of these bits is added, so that arithmetic errors do not move levels. */
static ALWAYS_INLINE int32_t code_of(float x, float inverse, uint32_t random, int begin, int square) {
    const int shift = square ? SQUARE_SHIFT : MOMENTUM_SHIFT, left = shift - 16 - begin;
    const uint32_t bits = bits_from_float(x), sign = (uint32_t)((int32_t)bits >> 31);
    const float units = float_from_bits(square ? bits : bits & 0x7fffffffu) * inverse;
    const uint32_t moved = left < 0 ? random >> -left : random << left;
    const uint32_t up = (moved & 0xffffu << (shift - 16)) | 1u << (shift - 17);
    const uint32_t code = (bits_from_float(units + 2.0f) + up) >> shift;
    return (int32_t)(square ? code : (code ^ sign) - sign);
}

/* A block that is stepped and then rounded. Its codes take 32 bits each here, and `unpack` and `pack` convert them: loops
   with numbers of 32 and of 8 bits compile to vectors of a quarter of the width. */
struct inna_block {
    _Alignas(64) int32_t codes[CODED], square_codes[CODED];
    float momentums[CODED], squares[CODED];
    float inverse, square_inverse;
    int64_t size;
};

static ALWAYS_INLINE void unpack(int64_t n, int32_t *restrict to, const void *codes, int square) {
    const int8_t *const restrict with_sign = codes;
    const uint8_t *const restrict without = codes;
    if (n == CODED) {
        VECTOR for (int32_t i = 0; i < CODED; i++) to[i] = square ? without[i] : with_sign[i];
    } else {
        for (int32_t i = 0; i < n; i++) to[i] = square ? without[i] : with_sign[i];
    }
}

static ALWAYS_INLINE void pack(int64_t n, uint8_t *restrict to, const int32_t *restrict codes) {
    if (n == CODED) {
        VECTOR for (int32_t i = 0; i < CODED; i++) to[i] = (uint8_t)codes[i];
    } else {
        for (int32_t i = 0; i < n; i++) to[i] = (uint8_t)codes[i];
    }
}

/* Write the scale of a block and return 1 over it. With a number that is not finite, the scale is NaN and the codes
   will be 0. */
static ALWAYS_INLINE float find_scale(int64_t n, float *restrict numbers, float *scale, int square) {
    int32_t peak = 0;
    if (n < CODED) memset(numbers + n, 0, (size_t)(CODED - n) * sizeof(float));
    VECTOR_MAX(peak) for (int32_t i = 0; i < CODED; i++) {
        const int32_t magnitude = (int32_t)(bits_from_float(numbers[i]) & 0x7fffffffu);
        peak = magnitude > peak ? magnitude : peak;
    }
    if (peak >= 0x7f800000) {
        memset(numbers, 0, CODED * sizeof(float));
        *scale = float_from_bits(0x7fc00000u);
        return 0;
    }
    const float wanted = float_from_bits((uint32_t)peak) * (1 / (square ? LARGEST_SQUARE : LARGEST));
    *scale = wanted > SMALLEST_SCALE ? wanted : SMALLEST_SCALE;
    return 1 / *scale;
}

/* Round a block, with the random bits from `hashes` on. A momentum and its mean square share them. */
static ALWAYS_INLINE void round_lines(struct inna_block *block, uint32_t hashes, int prop) {
    const float inverse = block->inverse, square_inverse = prop ? block->square_inverse : 0;
    for (int64_t at = 0; at < CODED; at += 2 * SHARED, hashes += SHARED) {
        int32_t *const codes = block->codes + at, *const square_codes = block->square_codes + at;
        const float *const x = block->momentums + at, *const v = block->squares + at;
        VECTOR for (int32_t i = 0; i < SHARED; i++) {
            const uint32_t random = mix(hashes + (uint32_t)i);
            codes[i] = code_of(x[i], inverse, random, 16, 0);
            codes[i + SHARED] = code_of(x[i + SHARED], inverse, random, 0, 0);
            if (prop) {
                square_codes[i] = code_of(v[i], square_inverse, random, 16, 1);
                square_codes[i + SHARED] = code_of(v[i + SHARED], square_inverse, random, 0, 1);
            }
        }
    }
}
