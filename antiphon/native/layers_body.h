/* What is no product in a layer that learns: forward and backward in one pass each. Included by kernels.c once for
   each type STORED; NAME(x) is x with the type's name behind it. layers.py says what goes into the functions. */

#define NORM_ROWS 64 /* whose part of a weight's gradient is summed together: the sum is the same with any threads */

/* normed = x / rms(x) * weight; what x was multiplied by is kept. */
void NAME(norm)(const STORED *x, const STORED *weight, float epsilon, STORED *normed, float *inverse, long num_rows,
                long width) {
    #pragma omp parallel for schedule(static) if (num_rows * width > 16384)
    for (long row = 0; row < num_rows; row++) {
        const STORED *own = x + row * width;
        const float scale = inverse[row] = NAME(inverse_rms)(own, width, epsilon);
        for (long d = 0; d < width; d++)
            NAME(store)(normed + row * width + d, NAME(load)(own + d) * scale * NAME(load)(weight + d));
    }
}

/* With g the gradient of what was normed and s = 1 / rms(x): dx = s (g weight - x s² mean(g weight x)), and
   dweight = Σ g x s, in parts of NORM_ROWS rows each. */
void NAME(norm_back)(const STORED *x, const STORED *weight, const float *inverse, const STORED *by_normed,
                     STORED *by_x, float *by_weight, long num_rows, long width) {
    #pragma omp parallel for schedule(static) if (num_rows * width > 16384)
    for (long part = 0; part < (num_rows + NORM_ROWS - 1) / NORM_ROWS; part++) {
        const long end = (part + 1) * NORM_ROWS < num_rows ? (part + 1) * NORM_ROWS : num_rows;
        float *sum = by_weight + part * width;
        memset(sum, 0, width * sizeof(float));
        for (long row = part * NORM_ROWS; row < end; row++) {
            const STORED *own = x + row * width, *by = by_normed + row * width;
            const float scale = inverse[row];
            float mean = 0;
            for (long d = 0; d < width; d++) {
                const float slope = NAME(load)(by + d) * NAME(load)(own + d);
                sum[d] += slope * scale;
                mean += slope * NAME(load)(weight + d);
            }
            mean *= scale * scale / width;
            for (long d = 0; d < width; d++)
                NAME(store)(by_x + row * width + d,
                            scale * (NAME(load)(by + d) * NAME(load)(weight + d) - NAME(load)(own + d) * mean));
        }
    }
}

INLINE float NAME(sigmoid)(float x) {
    const float e = exponential(-fabsf(x));
    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

/* product = silu(gate) * up. */
void NAME(gate)(const STORED *gate, const STORED *up, STORED *product, long num) {
    #pragma omp parallel for schedule(static) if (num > 8192)
    for (long i = 0; i < num; i++) {
        const float x = NAME(load)(gate + i);
        NAME(store)(product + i, x * NAME(sigmoid)(x) * NAME(load)(up + i));
    }
}

/* With g the gradient of the product and s = sigmoid(gate): dup = g gate s, dgate = g up s (1 + gate (1 - s)). */
void NAME(gate_back)(const STORED *gate, const STORED *up, const STORED *by_product, STORED *by_gate, STORED *by_up,
                     long num) {
    #pragma omp parallel for schedule(static) if (num > 8192)
    for (long i = 0; i < num; i++) {
        const float x = NAME(load)(gate + i), by = NAME(load)(by_product + i), s = NAME(sigmoid)(x);
        NAME(store)(by_up + i, by * x * s);
        NAME(store)(by_gate + i, by * NAME(load)(up + i) * s * (1.0f + x * (1.0f - s)));
    }
}
