/* What is no matrix product in a decode step, and the log-probabilities of taken tokens, for CPUs. What takes
   torch dozens of passes is one pass here. kernels.py calls these functions and says what goes into them.

   Everything is row-major and contiguous. Sums are float or double, whatever is stored; the body is compiled
   once for each type that is stored. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef uint16_t bfloat16;

INLINE float load_float(const float *x) { return *x; }
INLINE void store_float(float *x, float value) { *x = value; }

INLINE float load_bfloat16(const bfloat16 *x) {
    uint32_t bits = (uint32_t)*x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounds to the nearest, ties to even; what is not a number stays none. */
INLINE void store_bfloat16(bfloat16 *x, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + (bits >> 16 & 1);
    *x = value == value ? bits >> 16 : 0x7fc0;
}

/* e^x for x <= 0: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes), within two units in the last place;
   exactly 1 at 0, and nothing below -87. */
INLINE float exponential(float x) {
    float bounded = x < -87.0f ? -87.0f : x;
    float n = rintf(bounded * 1.44269504f);
    float f = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : p * power;
}

#define LANES 64  /* running maxima side by side */
#define BLOCK 256 /* words whose probabilities are summed together first when one is drawn */

/* What the attention of one step has in common for all layers, and what a layer adds to it; see kernels.py. */
struct attention {
    const float *cosine, *sine;       /* [C, D]; the first half of the sines negated */
    const int64_t *position;           /* [n] */
    const void *query_norm, *key_norm; /* [D] each, or none */
    int64_t num_rows, num_queries, num_groups;
    int64_t capacity; /* positions of a row of the cache */
    int32_t head_dim;
    float scaling, epsilon;
};

#define STORED float
#define NAME(x) x##_float
#include "kernels_body.h"
#include "layers_body.h"
#undef STORED
#undef NAME

#define STORED bfloat16
#define NAME(x) x##_bfloat16
#include "kernels_body.h"
#include "layers_body.h"
#undef STORED
#undef NAME

#include "attention.h"
#include "products.h"
#include "branches.h"
