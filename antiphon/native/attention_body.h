/* Included by attention.h once for each type STORED; NAME(x) is x with the type's name behind it. */

/* One head at its position; normalised first if there is a weight. */
INLINE void NAME(turn)(const STORED *head, const STORED *weight, float epsilon, const float *cosine,
                       const float *sine, int width, float *turned) {
    int half = width / 2;
    float x[width];
    float scale = weight ? NAME(inverse_rms)(head, width, epsilon) : 1.0f;
    for (int d = 0; d < width; d++) x[d] = NAME(load)(head + d) * scale;
    if (weight)
        for (int d = 0; d < width; d++) x[d] *= NAME(load)(weight + d);
    for (int d = 0; d < half; d++) {
        turned[d] = x[d] * cosine[d] + x[d + half] * sine[d];
        turned[d + half] = x[d + half] * cosine[d + half] + x[d] * sine[d + half];
    }
}

/* seen [width] = softmax(keys · query) · values, over `length` positions. */
INLINE void NAME(look)(const float *query, const STORED *keys, const STORED *values, long length, int width,
                       float *weight, float *seen) {
    float total = 0;
    for (long l = 0; l < length; l++) {
        float sum = 0;
        for (int d = 0; d < width; d += 64 / sizeof(STORED)) __builtin_prefetch(values + l * width + d);
        for (int d = 0; d < width; d++) sum += query[d] * NAME(load)(keys + l * width + d);
        weight[l] = sum;
    }
    const float highest = highest_float(weight, 1.0f, length);
    for (long l = 0; l < length; l++) total += weight[l] = exponential(weight[l] - highest);
    for (int d = 0; d < width; d++) seen[d] = 0;
    for (long l = 0; l < length; l++)
        for (int d = 0; d < width; d++) seen[d] += weight[l] * NAME(load)(values + l * width + d);
    for (int d = 0; d < width; d++) seen[d] /= total;
}

#ifdef __AVX512F__
/* Keys l..l+3 · queries: sum[q], of which lane i, 4 + i, 8 + i, 12 + i add up to that of key l + i. */
INLINE void NAME(score)(const float *queries, const STORED *keys, const STORED *values, long l, long last,
                        __m512 *sum, const int num, const int width) {
    __m512 part[FEW][4];
    for (int i = 0; i < 4; i++) {
        /* Beyond the last key it is read again, and its score not used. */
        const long at = (l + i < last ? l + i : last) * width;
        for (int d = 0; d < width; d += 64 / sizeof(STORED)) __builtin_prefetch(values + at + d);
        for (int d = 0; d < width; d += 16) {
            const __m512 key = NAME(load_wide)(keys + at + d);
            for (int q = 0; q < num; q++) {
                const __m512 query = _mm512_loadu_ps(queries + q * width + d);
                part[q][i] = d ? _mm512_fmadd_ps(query, key, part[q][i]) : _mm512_mul_ps(query, key);
            }
        }
    }
    for (int q = 0; q < num; q++) sum[q] = four_sums(part[q][0], part[q][1], part[q][2], part[q][3]);
}

/* As look, of a few queries at once, whose number and width the compiler knows. Weights are num rows of `room`. */
INLINE void NAME(look_few)(const float *queries, const STORED *keys, const STORED *values, long length, float *weight,
                           long room, float *seen, const STORED *next, const int num, const int width) {
    for (long l = 0; l < length; l += 16) {
        __m512 sum[4][FEW];
        for (int i = 0; i < 4; i++) NAME(score)(queries, keys, values, l + 4 * i, length - 1, sum[i], num, width);
        for (int q = 0; q < num; q++)
            _mm512_storeu_ps(weight + q * room + l, sixteen_sums(sum[0][q], sum[1][q], sum[2][q], sum[3][q]));
    }
    __m512 mean[FEW][WIDEST / 16], total[FEW];
    for (int q = 0; q < num; q++) {
        total[q] = _mm512_set1_ps(soften(weight + q * room, length));
        for (int d = 0; d < width / 16; d++) mean[q][d] = _mm512_setzero_ps();
    }
    for (long l = 0; l < length; l++) {
        for (int d = 0; d < width; d += 64 / sizeof(STORED)) __builtin_prefetch(next + l * width + d, 0, 2);
        for (int d = 0; d < width / 16; d++) {
            const __m512 value = NAME(load_wide)(values + l * width + 16 * d);
            for (int q = 0; q < num; q++)
                mean[q][d] = _mm512_fmadd_ps(_mm512_set1_ps(weight[q * room + l]), value, mean[q][d]);
        }
    }
    for (int q = 0; q < num; q++)
        for (int d = 0; d < width / 16; d++)
            _mm512_storeu_ps(seen + q * width + 16 * d, _mm512_div_ps(mean[q][d], total[q]));
}
#endif

/* What the queries of a group see, [share][width]; as many at once as there are registers for. */
INLINE void NAME(look_all)(const float *queries, const STORED *keys, const STORED *values, long length, long share,
                           float *weight, float *seen, const STORED *next, const int width, const int is_known) {
    long q = 0;
#ifdef __AVX512F__
    const long room = (length + 15) / 16 * 16;
#define AT_ONCE(num) NAME(look_few)(queries + q * width, keys, values, length, weight, room, seen + q * width, next, num, width)
    if (is_known) {
        for (; q + 2 < share && q + 4 != share; q += 3) AT_ONCE(3);
        for (; q + 1 < share; q += 2) AT_ONCE(2);
        if (q < share) AT_ONCE(1);
        return;
    }
#undef AT_ONCE
#endif
    for (; q < share; q++) NAME(look)(queries + q * width, keys, values, length, width, weight, seen + q * width);
}

/* A token's key and value of a group go to its place. */
INLINE void NAME(keep)(const struct attention *a, const STORED *heads, STORED *keys, STORED *values, long here,
                       long group) {
    const long width = a->head_dim;
    const STORED *key = heads + (a->num_queries + group) * width, *value = key + a->num_groups * width;
    const float *cosine = a->cosine + here * width, *sine = a->sine + here * width;
    float turned[width];
    NAME(turn)(key, a->key_norm, a->epsilon, cosine, sine, width, turned);
    for (int d = 0; d < width; d++) NAME(store)(keys + here * width + d, turned[d]);
    memcpy(values + here * width, value, width * sizeof(STORED));
}

/* The queries of a token in a group look at what there is up to its place. */
INLINE void NAME(look_from)(const struct attention *a, const STORED *heads, const STORED *keys, const STORED *values,
                            STORED *seen, long here, long group, const int width, const int is_known) {
    const long share = a->num_queries / a->num_groups, first = group * share;
    const float *cosine = a->cosine + here * width, *sine = a->sine + here * width;
    float turned[share * width], mean[share * width], *weight = malloc(FEW * (here + 16) * sizeof(float));
    for (long q = 0; q < share; q++)
        NAME(turn)(heads + (first + q) * width, a->query_norm, a->epsilon, cosine, sine, width, turned + q * width);
    for (long d = 0; d < share * width; d++) turned[d] *= a->scaling;
    NAME(look_all)(turned, keys, values, here + 1, share, weight, mean, keys + a->capacity * width, width, is_known);
    for (long d = 0; d < share * width; d++) NAME(store)(seen + first * width + d, mean[d]);
    free(weight);
}

/* The width is a constant for the compiler where it is a common one: loops over it become few instructions. The
   choice stands within whatever is run in parallel, which is a function by itself. */
static __attribute__((noinline)) void NAME(look_of)(const struct attention *a, const STORED *heads,
                                                    const STORED *keys, const STORED *values, STORED *seen,
                                                    long here, long group) {
    switch (a->head_dim) {
    case 64: NAME(look_from)(a, heads, keys, values, seen, here, group, 64, 1); break;
    case 128: NAME(look_from)(a, heads, keys, values, seen, here, group, 128, 1); break;
    default: NAME(look_from)(a, heads, keys, values, seen, here, group, a->head_dim, 0);
    }
}

/* One token of each row: its new key and value go into the cache, then its queries look. */
void NAME(attend)(const struct attention *a, const STORED *heads, STORED *keys, STORED *values, STORED *seen) {
    const long width = a->head_dim, size = a->capacity * width, num_heads = a->num_queries + 2 * a->num_groups;
    #pragma omp parallel for schedule(dynamic, 3)
    for (long task = 0; task < a->num_rows * a->num_groups; task++) {
        const long row = task / a->num_groups, group = task % a->num_groups, here = a->position[row];
        const STORED *own = heads + row * num_heads * width;
        NAME(keep)(a, own, keys + task * size, values + task * size, here, group);
        NAME(look_of)(a, own, keys + task * size, values + task * size, seen + row * a->num_queries * width, here, group);
    }
}

/* Many tokens of whole sequences: first all keys and values, then all queries. */
void NAME(read)(const struct attention *a, const int64_t *rows, const STORED *heads, STORED *keys, STORED *values,
                STORED *seen) {
    const long width = a->head_dim, size = a->capacity * width, num_heads = a->num_queries + 2 * a->num_groups;
    const long num_chunks = (a->num_rows + CHUNK - 1) / CHUNK;
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (long token = 0; token < a->num_rows; token++)
            for (long group = 0; group < a->num_groups; group++) {
                const long block = (rows[token] * a->num_groups + group) * size;
                NAME(keep)(a, heads + token * num_heads * width, keys + block, values + block, a->position[token], group);
            }
        #pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < num_chunks * a->num_groups; task++) {
            const long first = task / a->num_groups * CHUNK, group = task % a->num_groups;
            for (long token = first; token < first + CHUNK && token < a->num_rows; token++) {
                const long block = (rows[token] * a->num_groups + group) * size;
                NAME(look_of)(a, heads + token * num_heads * width, keys + block, values + block,
                              seen + token * a->num_queries * width, a->position[token], group);
            }
        }
    }
}
