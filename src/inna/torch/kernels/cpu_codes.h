/* Momentums and mean squares in codes of one byte, with a scale for each CODED numbers: inna.torch.steps.companding has
   the rule. A code k is scale k|k| in a momentum (KIND_CODES, int8) and scale k^4 in a mean square (`fourth`, uint8). */

enum { CODED = 256 };
static const float SMALLEST_SCALE = 0x1p-126f;

/* The number of a code in units of its scale. `fourth` is a constant where this is called. */
static ALWAYS_INLINE float level_of(const void *codes, int64_t i, int fourth) {
    const float k = fourth ? (float)((const uint8_t *)codes)[i] : (float)((const int8_t *)codes)[i];
    const float square = k * (k < 0 ? -k : k);
    return fourth ? square * square : square;
}

/* The code of a number in units of the scale: one of the two nearest, by 16 random bits. */
static ALWAYS_INLINE int32_t code_of(float x, float inverse, uint32_t random, int fourth) {
    const uint32_t bits = bits_from_float(x);
    const float units = float_from_bits(bits & 0x7fffffffu) * inverse;
    const int32_t sign = -(int32_t)(bits >> 31), largest = fourth ? 255 : 127;
    const int32_t below = (int32_t)sqrtf(fourth ? sqrtf(units) : units);
    const float k = (float)below, next = k + 1;
    const float low = fourth ? (k * k) * (k * k) : k * k;
    const float gap = fourth ? (next * next) * (next * next) - low : k + next;
    int32_t code = below + ((float)(int32_t)random * gap < (units - low) * 65536.0f);
    code = code < largest ? code : largest; /* the scale is rounded */
    return (code ^ sign) - sign;
}

/* Round the numbers of a block, with room for a multiple of 2 HALF, into codes and their scale. `hashes` is where the
   random bits of its first line begin. With a number that is not finite, all become NaN. */
static ALWAYS_INLINE void encode(int64_t n, float *restrict numbers, void *codes, float *scale, uint32_t hashes,
                                 int fourth) {
    enum { HALF = 16 };
    uint32_t peak = 0, peaks[HALF] = {0};
    int32_t wide[CODED];
    uint8_t *const to = codes;
    for (int64_t i = n; i < CODED && i % (2 * HALF) != 0; i++) numbers[i] = 0;
    for (int64_t j = 0; j < n; j += HALF) {
        VECTOR for (int32_t i = 0; i < HALF; i++) {
            const uint32_t magnitude = bits_from_float(numbers[j + i]) & 0x7fffffffu;
            peaks[i] = magnitude > peaks[i] ? magnitude : peaks[i];
        }
    }
    for (int i = 0; i < HALF; i++) peak = peaks[i] > peak ? peaks[i] : peak;
    if (peak >= 0x7f800000u) {
        memset(codes, 0, (size_t)n % (CODED + 1));
        *scale = float_from_bits(0x7fc00000u);
        return;
    }
    const float wanted = float_from_bits(peak) * (float)(1.0 / (fourth ? 4228250625.0 : 16129.0));
    const float unit = wanted > SMALLEST_SCALE ? wanted : SMALLEST_SCALE, inverse = 1.0f / unit;
    for (int64_t j = 0; j < n; j += 2 * HALF, hashes += HALF) {
        const float *const x = numbers + j;
        int32_t *const out = wide + j;
        VECTOR for (int32_t i = 0; i < HALF; i++) {
            const uint32_t random = mix(hashes + (uint32_t)i);
            out[i] = code_of(x[i], inverse, random >> 16, fourth);
            out[i + HALF] = code_of(x[i + HALF], inverse, random & 0xffffu, fourth);
        }
    }
    if (n == CODED) {
        VECTOR for (int32_t i = 0; i < CODED; i++) to[i] = (uint8_t)wide[i];
    } else {
        for (int32_t i = 0; i < n; i++) to[i] = (uint8_t)wide[i];
    }
    *scale = unit;
}
