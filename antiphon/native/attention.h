/* Attention of rows that each have their own length, over a cache. With AVX-512 several queries look at once at the
   keys and values that they share. */

#define FEW 3      /* queries at once */
#define WIDEST 128 /* heads for which there are as many registers */
#define CHUNK 16   /* tokens of a prompt that one thread takes */

#ifdef __AVX512F__
#include <immintrin.h>

INLINE __m512 load_wide_float(const float *x) { return _mm512_loadu_ps(x); }
INLINE __m512 load_wide_bfloat16(const bfloat16 *x) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* Sums within each quarter of four vectors: lane 4 j + i is that of quarter j of vector i. */
INLINE __m512 four_sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    return _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)) + _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
}

/* The sums of the quarters of four vectors, side by side. */
INLINE __m512 sixteen_sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
    __m512 cd = _mm512_shuffle_f32x4(c, d, 0x88) + _mm512_shuffle_f32x4(c, d, 0xdd);
    return _mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xdd);
}

/* As exponential, of sixteen. */
INLINE __m512 exponential_wide(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    f = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), f);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, f), f, _mm512_add_ps(f, _mm512_set1_ps(1.0f)));
    /* What is not a number is not below either, and stays none. */
    return _mm512_mask_mov_ps(_mm512_scalef_ps(p, n), _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_LT_OQ),
                              _mm512_setzero_ps());
}

/* x = e^(x - max x), whose sum is returned. There is room for a multiple of 16 numbers. */
INLINE float soften(float *x, long num) {
    for (long i = num; i % 16; i++) x[i] = -INFINITY;
    __m512 top = _mm512_loadu_ps(x), sum = _mm512_setzero_ps();
    for (long i = 16; i < num; i += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(x + i));
    const __m512 highest = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (long i = 0; i < num; i += 16) {
        const __m512 e = exponential_wide(_mm512_sub_ps(_mm512_loadu_ps(x + i), highest));
        _mm512_storeu_ps(x + i, e);
        sum = _mm512_add_ps(sum, e);
    }
    return _mm512_reduce_add_ps(sum);
}
#endif

#define STORED float
#define NAME(x) x##_float
#include "attention_body.h"
#undef STORED
#undef NAME

#define STORED bfloat16
#define NAME(x) x##_bfloat16
#include "attention_body.h"
#undef STORED
#undef NAME
