/* Included by kernels.c once for each type STORED; NAME(x) is x with the type's name behind it. */

/* The highest of scale · x, in lanes: as one running maximum the compiler may not split it. */
INLINE float NAME(highest)(const STORED *x, float scale, long num) {
    float lane[LANES], top = -INFINITY;
    long i = 0;
    for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
    for (; i + LANES <= num; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float value = NAME(load)(x + i + j) * scale;
            lane[j] = value > lane[j] ? value : lane[j];
        }
    for (; i < num; i++) top = NAME(load)(x + i) * scale > top ? NAME(load)(x + i) * scale : top;
    for (int j = 0; j < LANES; j++) top = lane[j] > top ? lane[j] : top;
    return top;
}

/* Root of the mean square, inverted. */
INLINE float NAME(inverse_rms)(const STORED *x, long width, float epsilon) {
    float sum = 0;
    for (long d = 0; d < width; d++) sum += NAME(load)(x + d) * NAME(load)(x + d);
    return 1.0f / sqrtf(sum / width + epsilon);
}

/* hidden += delta (unless there is none); normed = hidden / rms(hidden) * weight. */
void NAME(add_norm)(STORED *hidden, const STORED *delta, const STORED *weight, float epsilon, STORED *normed,
                    long num_rows, long width) {
    #pragma omp parallel for schedule(static) if (num_rows * width > 16384)
    for (long row = 0; row < num_rows; row++) {
        STORED *own = hidden + row * width;
        if (delta)
            for (long d = 0; d < width; d++)
                NAME(store)(own + d, NAME(load)(own + d) + NAME(load)(delta + row * width + d));
        float scale = NAME(inverse_rms)(own, width, epsilon);
        for (long d = 0; d < width; d++)
            NAME(store)(normed + row * width + d, NAME(load)(own + d) * scale * NAME(load)(weight + d));
    }
}

/* product = silu(gate) * up, of rows that hold first the gates and then the ups. */
void NAME(gated)(const STORED *gate_up, STORED *product, long num_rows, long width) {
    #pragma omp parallel for schedule(static) if (num_rows * width > 8192)
    for (long row = 0; row < num_rows; row++) {
        const STORED *gate = gate_up + 2 * row * width, *up = gate + width;
        for (long d = 0; d < width; d++) {
            float x = NAME(load)(gate + d), e = exponential(-fabsf(x));
            float sigmoid = (x < 0 ? e : 1.0f) / (1.0f + e);
            NAME(store)(product + row * width + d, x * sigmoid * NAME(load)(up + d));
        }
    }
}

/* exp((logits - highest) / T) of a few words, and their sum, in which words of a faint tail are not lost. */
INLINE double NAME(weigh)(const STORED *logits, long num, float highest, float cold, float *weight) {
    double sum = 0;
    for (long w = 0; w < num; w++) {
        weight[w] = exponential((NAME(load)(logits + w) - highest) * cold);
        sum += weight[w];
    }
    return sum;
}

/* The word at which the running sum of exp(logits / T) first exceeds this share of its end: first its block,
   then itself. What is not finite makes the log-probability so. */
INLINE void NAME(draw_row)(const STORED *logits, float temperature, double uniform, int64_t *token,
                           float *logprob, long num_words) {
    const long num_blocks = (num_words + BLOCK - 1) / BLOCK;
    const float cold = 1.0f / temperature;
    const float highest = NAME(highest)(logits, 1.0f, num_words);
    float weight[BLOCK];
    double total = 0, *mass = malloc(num_blocks * sizeof(double));
    for (long b = 0; b < num_blocks; b++) {
        long num = b + 1 < num_blocks ? BLOCK : num_words - b * BLOCK;
        mass[b] = total += NAME(weigh)(logits + b * BLOCK, num, highest, cold, weight);
    }
    long block = 0, last = num_blocks - 1, word = 0;
    while (block < last && !(mass[block] > uniform * total)) block++;
    const long first = block * BLOCK, num = block < last ? BLOCK : num_words - first;
    NAME(weigh)(logits + first, num, highest, cold, weight);
    double sum = block ? mass[block - 1] : 0;
    for (long w = 0; w < num; w++) {
        /* The sum in this order may end below that of the block: then it is the last word that has any mass. */
        if (weight[w] > 0) word = w;
        sum += weight[w];
        if (sum > uniform * total) break;
    }
    *token = first + word;
    *logprob = log(weight[word] / total);
    free(mass);
}

void NAME(draw)(const STORED *logits, const float *temperature, const double *uniform, int64_t *token,
                float *logprob, long num_rows, long num_words) {
    #pragma omp parallel for schedule(static)
    for (long row = 0; row < num_rows; row++)
        NAME(draw_row)(logits + row * num_words, temperature[row], uniform[row], token + row, logprob + row,
                       num_words);
}

/* Of z = scale · logits: log Σ exp z, the log-probability of the taken word, and the entropy. */
INLINE void NAME(token_logprob)(const STORED *logits, float scale, int64_t token, float *logprob, float *entropy,
                           float *log_norm, long num_words) {
    const float highest = NAME(highest)(logits, scale, num_words);
    double total = 0, moment = 0;
    for (long first = 0; first < num_words; first += BLOCK) {
        long end = first + BLOCK < num_words ? first + BLOCK : num_words;
        float sum = 0, weighted = 0;
        for (long w = first; w < end; w++) {
            float below = NAME(load)(logits + w) * scale - highest, e = exponential(below);
            sum += e;
            /* What is infinitely unlikely counts nothing, and not 0 * infinity. */
            weighted += e * (below < -87.0f ? -87.0f : below);
        }
        total += sum;
        moment += weighted;
    }
    *log_norm = highest + log(total);
    *logprob = NAME(load)(logits + token) * scale - *log_norm;
    *entropy = log(total) - moment / total;
}

void NAME(token_logprobs)(const STORED *logits, float scale, const int64_t *token, float *logprob, float *entropy,
                float *log_norm, long num_rows, long num_words) {
    #pragma omp parallel for schedule(static)
    for (long row = 0; row < num_rows; row++)
        NAME(token_logprob)(logits + row * num_words, scale, token[row], logprob + row, entropy + row,
                       log_norm + row, num_words);
}

/* The gradient of the two with respect to the logits: with p = softmax(z), H its entropy and a the taken word,
   d log p_a / dz = onehot(a) - p and dH / dz = -p (log p + H). */
void NAME(token_logprobs_back)(const STORED *logits, float scale, const int64_t *token, const float *entropy,
                     const float *log_norm, const float *by_logprob, const float *by_entropy, STORED *grad,
                     long num_rows, long num_words) {
    #pragma omp parallel for schedule(static)
    for (long row = 0; row < num_rows; row++) {
        const STORED *own = logits + row * num_words;
        const float a = by_logprob[row], b = by_entropy[row], norm = log_norm[row], H = entropy[row];
        for (long w = 0; w < num_words; w++) {
            float log_p = NAME(load)(own + w) * scale - norm, p = exponential(log_p);
            float slope = p > 0 ? a + b * (log_p + H) : 0;
            NAME(store)(grad + row * num_words + w, -scale * p * slope);
        }
        STORED *taken = grad + row * num_words + token[row];
        float log_p = NAME(load)(own + token[row]) * scale - norm, p = exponential(log_p);
        NAME(store)(taken, scale * (a - p * (a + b * (log_p + H))));
    }
}
