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

/* Every head of B sequences of T tokens: queries and keys turned, values as they are, each head's side by side. */
void NAME(spread)(const struct attention *a, const STORED *heads, STORED *queries, STORED *keys, STORED *values) {
    const long num_turned = a->num_queries + a->num_groups, num_heads = num_turned + a->num_groups;
    const long length = a->capacity, width = a->head_dim;
    #pragma omp parallel for schedule(static)
    for (long task = 0; task < a->num_rows * num_heads; task++) {
        long row = task / num_heads, head = task % num_heads, group = head - a->num_queries;
        const STORED *own = heads + (row * length * num_heads + head) * width;
        const STORED *norm = head < a->num_queries ? a->query_norm : a->key_norm;
        STORED *to = head < a->num_queries ? queries + (row * a->num_queries + head) * length * width
                   : head < num_turned     ? keys + (row * a->num_groups + group) * length * width
                                           : values + (row * a->num_groups + group - a->num_groups) * length * width;
        float turned[width];
        for (long t = 0; t < length; t++, own += num_heads * width, to += width) {
            if (head >= num_turned) {
                memcpy(to, own, width * sizeof(STORED));
                continue;
            }
            NAME(turn)(own, norm, a->epsilon, a->cosine + t * width, a->sine + t * width, width, turned);
            for (long d = 0; d < width; d++) NAME(store)(to + d, turned[d]);
        }
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
        for (; q + 3 < share && q + 6 != share; q += 4) AT_ONCE(4);
        for (; q + 2 < share; q += 3) AT_ONCE(3);
        for (; q + 1 < share; q += 2) AT_ONCE(2);
        if (q < share) AT_ONCE(1);
        return;
    }
#undef AT_ONCE
#endif
    for (; q < share; q++) NAME(look)(queries + q * width, keys, values, length, width, weight, seen + q * width);
}

/* A row's heads of one group of keys and values: its new key and value go into the cache, then its queries look. */
INLINE void NAME(attend_group)(const struct attention *a, const STORED *heads, STORED *keys, STORED *values,
                               STORED *seen, long here, long group, const int width, const int is_known) {
    const long share = a->num_queries / a->num_groups, first = group * share;
    const float *cosine = a->cosine + here * width, *sine = a->sine + here * width;
    const STORED *key = heads + (a->num_queries + group) * width, *value = key + a->num_groups * width;
    float turned[share * width], mean[share * width], *weight = malloc(4 * (here + 16) * sizeof(float));
    NAME(turn)(key, a->key_norm, a->epsilon, cosine, sine, width, turned);
    for (int d = 0; d < width; d++) NAME(store)(keys + here * width + d, turned[d]);
    memcpy(values + here * width, value, width * sizeof(STORED));
    for (long q = 0; q < share; q++)
        NAME(turn)(heads + (first + q) * width, a->query_norm, a->epsilon, cosine, sine, width, turned + q * width);
    for (long d = 0; d < share * width; d++) turned[d] *= a->scaling;
    NAME(look_all)(turned, keys, values, here + 1, share, weight, mean, keys + a->capacity * width, width, is_known);
    for (long d = 0; d < share * width; d++) NAME(store)(seen + first * width + d, mean[d]);
    free(weight);
}

/* The width is a constant for the compiler where it is a common one: loops over it become few instructions. The
   choice stands within the loop, because what is run in parallel is a function by itself. */
void NAME(attend)(const struct attention *a, const STORED *heads, STORED *keys, STORED *values, STORED *seen) {
    const long width = a->head_dim;
    #pragma omp parallel for schedule(dynamic, 3)
    for (long task = 0; task < a->num_rows * a->num_groups; task++) {
        const long row = task / a->num_groups, group = task % a->num_groups, block = task * a->capacity * width;
        const STORED *own = heads + row * (a->num_queries + 2 * a->num_groups) * width;
        STORED *to = seen + row * a->num_queries * width;
#define OF_WIDTH(width, is_known) \
    NAME(attend_group)(a, own, keys + block, values + block, to, a->position[row], group, width, is_known)
        switch (width) {
        case 64: OF_WIDTH(64, 1); break;
        case 128: OF_WIDTH(128, 1); break;
        default: OF_WIDTH(width, 0);
        }
#undef OF_WIDTH
    }
}
