/* Attention over rows that hold a prompt and then completions of it, forward and backward, in float: a token sees
   the prompt up to itself, and of the completions its own up to itself. Pairs that may not see each other are not
   computed, but for a causal corner. branches.py calls the two functions at the end and says what goes into them.
   A task is the heads of a row that share keys and values, which are copied side by side first. What remains are
   small products of matrices, and a softmax between two of them. */

#ifdef __AVX512F__
#define WIDE 16   /* floats of a vector */
#define VECTORS 4 /* of a tile's rows; a tile and its right side fit into registers */
#else
#define WIDE 8
#define VECTORS 2
#endif
#define ROWS 6     /* of a tile */
#define QUERIES 24 /* looked from together: few, so that little of the causal corner is computed in vain */
typedef float vector __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));

struct heads {
    float *at; /* [R, A or G, S, D] in any order of the first three; the last lies side by side */
    int64_t row, head, token; /* from one to the next, in floats */
};

struct branches {
    struct heads queries, keys, values, seen, by_seen, by_queries, by_keys, by_values;
    const int64_t *ends; /* [R, K] of the prompt and of each completion; the last one is repeated */
    float *log_norm;     /* [R, A, S] log Σ exp of the scores */
    int64_t num_rows, num_ends, length, num_queries, num_groups, head_dim;
    float scaling;
};

/* c (+)= a b, where c is a tile and a is a[i * down + k * along]. */
INLINE void multiply_tile(float *c, long c_down, const float *a, long down, long along, const float *b, long b_down,
                          long steps, int is_added, const int rows, const int vectors) {
    vector sum[ROWS][VECTORS], right[VECTORS];
    #pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[i][v] = is_added ? *(const vector *)(c + i * c_down + v * WIDE) : (vector){0};
    for (long k = 0; k < steps; k++) {
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) right[v] = *(const vector *)(b + k * b_down + v * WIDE);
        #pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            #pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[i][v] += a[i * down + k * along] * right[v];
    }
    #pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) *(vector *)(c + i * c_down + v * WIDE) = sum[i][v];
}

/* The same for all of c, [rows, columns] with whole vectors of columns. */
static void multiply(float *c, long c_down, const float *a, long down, long along, const float *b, long b_down,
                     long rows, long columns, long steps, int is_added) {
    for (long j = 0, wide; j < columns; j += wide) {
        wide = columns - j >= VECTORS * WIDE ? VECTORS * WIDE : WIDE;
        for (long i = 0, tall; i < rows; i += tall) {
            float *to = c + i * c_down + j;
            const float *left = a + i * down, *right = b + j;
            tall = rows - i >= ROWS ? ROWS : 1;
            switch ((tall > 1) * 2 + (wide > WIDE)) {
            case 3: multiply_tile(to, c_down, left, down, along, right, b_down, steps, is_added, ROWS, VECTORS); break;
            case 2: multiply_tile(to, c_down, left, down, along, right, b_down, steps, is_added, ROWS, 1); break;
            case 1: multiply_tile(to, c_down, left, down, along, right, b_down, steps, is_added, 1, VECTORS); break;
            default: multiply_tile(to, c_down, left, down, along, right, b_down, steps, is_added, 1, 1);
            }
        }
    }
}

/* What a thread works with. L is the tokens of a row, and so many more that a vector may begin at the last one;
   W is D in whole vectors. What lies in between is never initialised, and reaches nothing. */
struct room {
    long down, wide;                              /* L, W */
    float *keys, *values, *by_keys, *by_values;   /* [L, W] */
    float *turned_keys, *turned_values;           /* [D, L] */
    float *weights, *slopes;                      /* [QUERIES, 2 L]: of the prompt, and from L on of the own part */
    float *queries, *by_seen, *block;             /* [QUERIES, W] */
};

INLINE struct room make_room(const struct branches *x) {
    struct room t = {.down = (x->length + WIDE - 1) / WIDE * WIDE + WIDE,
                     .wide = (x->head_dim + WIDE - 1) / WIDE * WIDE};
    const long tokens = t.down * t.wide, scores = QUERIES * 2 * t.down, block = QUERIES * t.wide;
    t.keys = malloc((6 * tokens + 2 * scores + 3 * block) * sizeof(float));
    t.values = t.keys + tokens, t.by_keys = t.values + tokens, t.by_values = t.by_keys + tokens;
    t.turned_keys = t.by_values + tokens, t.turned_values = t.turned_keys + tokens;
    t.weights = t.turned_values + tokens, t.slopes = t.weights + scores;
    t.queries = t.slopes + scores, t.by_seen = t.queries + block, t.block = t.by_seen + block;
    return t;
}

INLINE float *head_of(const struct heads *x, long row, long head) { return x->at + row * x->row + head * x->head; }

INLINE void copy_tokens(float *to, long to_down, const float *from, long from_down, long num, long width) {
    for (long i = 0; i < num; i++)
        for (long d = 0; d < width; d++) to[i * to_down + d] = from[i * from_down + d];
}

/* [num, width] -> [width, num]; some tokens at a time, so that what is written lies together, too. */
INLINE void turn_tokens(float *to, long to_down, const float *from, long from_down, long num, long width) {
    for (long first = 0; first < num; first += WIDE)
        for (long d = 0; d < width; d++)
            for (long i = first; i < first + WIDE && i < num; i++) to[d * to_down + i] = from[i * from_down + d];
}

INLINE void clear_tokens(const struct heads *x, long row, long head, long first, long length, long width) {
    for (long i = first; i < length; i++) memset(head_of(x, row, head) + i * x->token, 0, width * sizeof(float));
}

/* Queries first .. first + num - 1 of the part of a row that begins at `start`; `prompt` keys before that part,
   from the row's beginning, are seen by all of them, and `own` ones of the part by some. */
struct block {
    long start, first, num, prompt, own;
};

/* scores = left · turned, for the keys of the prompt and the own ones. */
INLINE void score(const struct room *t, struct block b, const float *left, const float *turned, long head_dim,
                  float *scores) {
    const long down = 2 * t->down;
    multiply(scores, down, left, t->wide, 1, turned, t->down, b.num, (b.prompt + WIDE - 1) / WIDE * WIDE, head_dim, 0);
    multiply(scores + t->down, down, left, t->wide, 1, turned + b.start, t->down, b.num,
             (b.own + WIDE - 1) / WIDE * WIDE, head_dim, 0);
}

/* to = weights · tokens, over the same keys. */
INLINE void gather(const struct room *t, struct block b, const float *weights, const float *tokens, float *to) {
    const long down = 2 * t->down, wide = t->wide;
    multiply(to, wide, weights, down, 1, tokens, wide, b.num, wide, b.prompt, 0);
    multiply(to, wide, weights + t->down, down, 1, tokens + b.start * wide, wide, b.num, wide, b.own, 1);
}

/* tokens += weightsᵀ · from. */
INLINE void scatter(const struct room *t, struct block b, const float *weights, const float *from, float *tokens) {
    const long down = 2 * t->down, wide = t->wide;
    multiply(tokens, wide, weights, 1, down, from, wide, b.prompt, wide, b.num, 1);
    multiply(tokens + b.start * wide, wide, weights + t->down, 1, down, from, wide, b.own, wide, b.num, 1);
}

/* Scores of query i become weights; returns log Σ exp. */
INLINE float weigh_scores(const struct room *t, struct block b, long i, float scaling) {
    float *part[2] = {t->weights + i * 2 * t->down, t->weights + i * 2 * t->down + t->down};
    const long num[2] = {b.prompt, b.first + i - b.start + 1};
    float highest = -INFINITY, total = 0;
    for (int p = 0; p < 2; p++) {
        const float other = highest_float(part[p], 1.0f, num[p]);
        highest = other > highest ? other : highest;
    }
    for (int p = 0; p < 2; p++)
        for (long j = 0; j < num[p]; j++) total += part[p][j] = exponential((part[p][j] - highest) * scaling);
    for (int p = 0; p < 2; p++)
        for (long j = 0; j < num[p]; j++) part[p][j] *= 1.0f / total;
    for (long j = num[1]; j < b.own; j++) part[1][j] = 0;
    return highest * scaling + logf(total);
}

/* Scores of query i become weights again, and gradients of weights become those of scores:
   ds = w (dw - Σ w dw) scaling, where Σ w dw is the gradient of what was seen times it. */
INLINE void slope_scores(const struct room *t, struct block b, long i, float scaling, float log_norm, float mean) {
    for (int p = 0; p < 2; p++) {
        float *weight = t->weights + i * 2 * t->down + p * t->down, *by = t->slopes + (weight - t->weights);
        const long num = p ? b.first + i - b.start + 1 : b.prompt;
        for (long j = 0; j < num; j++) {
            weight[j] = exponential(weight[j] * scaling - log_norm);
            by[j] = weight[j] * (by[j] - mean) * scaling;
        }
        for (long j = num; p && j < b.own; j++) weight[j] = by[j] = 0;
    }
}

INLINE void look_from(const struct branches *x, struct room *t, struct block b, long row, long head) {
    const struct heads *q = &x->queries, *o = &x->seen;
    float *log_norm = x->log_norm + (row * x->num_queries + head) * x->length + b.first;
    copy_tokens(t->queries, t->wide, head_of(q, row, head) + b.first * q->token, q->token, b.num, x->head_dim);
    score(t, b, t->queries, t->turned_keys, x->head_dim, t->weights);
    for (long i = 0; i < b.num; i++) log_norm[i] = weigh_scores(t, b, i, x->scaling);
    gather(t, b, t->weights, t->values, t->block);
    copy_tokens(head_of(o, row, head) + b.first * o->token, o->token, t->block, t->wide, b.num, x->head_dim);
}

INLINE void look_back_from(const struct branches *x, struct room *t, struct block b, long row, long head) {
    const struct heads *q = &x->queries, *o = &x->seen, *g = &x->by_seen, *r = &x->by_queries;
    const float *seen = head_of(o, row, head) + b.first * o->token;
    const float *log_norm = x->log_norm + (row * x->num_queries + head) * x->length + b.first;
    copy_tokens(t->queries, t->wide, head_of(q, row, head) + b.first * q->token, q->token, b.num, x->head_dim);
    copy_tokens(t->by_seen, t->wide, head_of(g, row, head) + b.first * g->token, g->token, b.num, x->head_dim);
    score(t, b, t->queries, t->turned_keys, x->head_dim, t->weights);
    score(t, b, t->by_seen, t->turned_values, x->head_dim, t->slopes);
    for (long i = 0; i < b.num; i++) {
        float mean = 0;
        for (long d = 0; d < x->head_dim; d++) mean += seen[i * o->token + d] * t->by_seen[i * t->wide + d];
        slope_scores(t, b, i, x->scaling, log_norm[i], mean);
    }
    scatter(t, b, t->weights, t->by_seen, t->by_values);
    scatter(t, b, t->slopes, t->queries, t->by_keys);
    gather(t, b, t->slopes, t->keys, t->block);
    copy_tokens(head_of(r, row, head) + b.first * r->token, r->token, t->block, t->wide, b.num, x->head_dim);
}

/* All blocks of a row, from one head. */
INLINE void look_from_all(const struct branches *x, struct room *t, long row, long head, const int is_backward) {
    const int64_t *ends = x->ends + row * x->num_ends;
    for (long part = 0; part < x->num_ends; part++) {
        const long start = part ? ends[part - 1] : 0, end = ends[part];
        for (long first = start; first < end; first += QUERIES) {
            const long num = end - first < QUERIES ? end - first : QUERIES;
            struct block b = {start, first, num, part ? ends[0] : 0, first + num - start};
            if (is_backward) look_back_from(x, t, b, row, head);
            else look_from(x, t, b, row, head);
        }
    }
    clear_tokens(is_backward ? &x->by_queries : &x->seen, row, head, ends[x->num_ends - 1], x->length, x->head_dim);
}

/* The heads of a row that share keys and values. */
INLINE void attend_branch(const struct branches *x, struct room *t, long row, long group, const int is_backward) {
    const struct heads *k = &x->keys, *v = &x->values;
    const long num = x->ends[(row + 1) * x->num_ends - 1], width = x->head_dim, share = x->num_queries / x->num_groups;
    turn_tokens(t->turned_keys, t->down, head_of(k, row, group), k->token, num, width);
    if (is_backward) {
        copy_tokens(t->keys, t->wide, head_of(k, row, group), k->token, num, width);
        turn_tokens(t->turned_values, t->down, head_of(v, row, group), v->token, num, width);
        memset(t->by_keys, 0, 2 * t->down * t->wide * sizeof(float));
    } else
        copy_tokens(t->values, t->wide, head_of(v, row, group), v->token, num, width);
    for (long head = group * share; head < (group + 1) * share; head++) look_from_all(x, t, row, head, is_backward);
    if (!is_backward) return;
    copy_tokens(head_of(&x->by_keys, row, group), x->by_keys.token, t->by_keys, t->wide, num, width);
    copy_tokens(head_of(&x->by_values, row, group), x->by_values.token, t->by_values, t->wide, num, width);
    clear_tokens(&x->by_keys, row, group, num, x->length, width);
    clear_tokens(&x->by_values, row, group, num, x->length, width);
}

INLINE void attend_all_branches(const struct branches *x, const int is_backward) {
    #pragma omp parallel
    {
        struct room t = make_room(x);
        #pragma omp for schedule(dynamic)
        for (long task = 0; task < x->num_rows * x->num_groups; task++)
            attend_branch(x, &t, task / x->num_groups, task % x->num_groups, is_backward);
        free(t.keys);
    }
}

/* seen = softmax(queries · keysᵀ scaling) · values, over the keys that each token sees, and log_norm; then the
   gradients of queries, keys and values from that of what was seen. */
void attend_branches(const struct branches *x) { attend_all_branches(x, 0); }
void attend_branches_back(const struct branches *x) { attend_all_branches(x, 1); }
