/* Matrix products for processors with AVX-512, in float, and with its bfloat16 instructions. Where a processor has
   those of AMX, oneDNN, which uses them, is faster for bfloat16; and without AVX-512 everywhere. */

#define PANEL 48 /* outputs side by side */
#define TILE 8   /* rows at once: 24 of 32 registers hold sums */
#define MANY 256 /* rows whose inputs stay in the cache while all panels pass */

#ifdef __AVX512F__
#include <immintrin.h>

INLINE __mmask16 some(long num) { return num >= 16 ? 0xffff : num <= 0 ? 0 : (1u << num) - 1; }

typedef __m512 vector_float;
INLINE vector_float load_vector_float(const float *x) { return _mm512_loadu_ps(x); }
INLINE vector_float repeat_float(const float *x) { return _mm512_set1_ps(*x); }
INLINE __m512 multiply_add_float(__m512 sum, vector_float x, vector_float w) { return _mm512_fmadd_ps(x, w, sum); }
INLINE __m512 load_some_float(const float *x, long num) { return _mm512_maskz_loadu_ps(some(num), x); }
INLINE void store_some_float(float *x, __m512 value, long num) { _mm512_mask_storeu_ps(x, some(num), value); }

#define STORED float
#define STEP 1
#define NAME(x) x##_float
#include "products_body.h"
#undef STORED
#undef STEP
#undef NAME
#endif

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && !defined(__AMX_BF16__)
typedef __m512bh vector_bfloat16;
INLINE vector_bfloat16 load_vector_bfloat16(const bfloat16 *x) { return (__m512bh)_mm512_loadu_si512(x); }
INLINE vector_bfloat16 repeat_bfloat16(const bfloat16 *x) {
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}
INLINE __m512 multiply_add_bfloat16(__m512 sum, vector_bfloat16 x, vector_bfloat16 w) {
    return _mm512_dpbf16_ps(sum, x, w);
}
INLINE __m512 load_some_bfloat16(const bfloat16 *x, long num) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some(num), x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
INLINE void store_some_bfloat16(bfloat16 *x, __m512 value, long num) {
    _mm256_mask_storeu_epi16(x, some(num), (__m256i)_mm512_cvtneps_pbh(value));
}

#define STORED bfloat16
#define STEP 2
#define NAME(x) x##_bfloat16
#include "products_body.h"
#undef STORED
#undef STEP
#undef NAME
#endif
