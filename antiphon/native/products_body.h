/* Matrix products, included by products.h once for each type STORED. A weight lies in panels of PANEL outputs, each
   [K / STEP][PANEL][STEP], filled up with zeros; packing is done in products.py. */

/* num_rows x num_vectors · 16 outputs, in registers from the first to the last input. The lines of `ahead` are
   fetched meanwhile, `fetch` for eight steps. */
INLINE void NAME(tile)(const STORED *x, long depth, const STORED *panel, const STORED *bias, STORED *y, long width,
                       const char *ahead, long fetch, long num_outputs, const int num_rows, const int num_vectors) {
    __m512 sum[TILE][PANEL / 16];
    for (int v = 0; v < num_vectors; v++) {
        __m512 start = bias ? NAME(load_some)(bias + 16 * v, num_outputs - 16 * v) : _mm512_setzero_ps();
        for (int r = 0; r < num_rows; r++) sum[r][v] = start;
    }
    for (long k = 0; k < depth; k += 8 * STEP) {
        for (long line = 0; line < fetch; line++, ahead += 64) __builtin_prefetch(ahead, 0, 2);
        const long end = k + 8 * STEP < depth ? k + 8 * STEP : depth;
        for (long at = k; at < end; at += STEP) {
            NAME(vector) w[PANEL / 16];
            for (int v = 0; v < num_vectors; v++) w[v] = NAME(load_vector)(panel + at * PANEL + v * 16 * STEP);
            for (int r = 0; r < num_rows; r++) {
                NAME(vector) one = NAME(repeat)(x + r * depth + at);
                for (int v = 0; v < num_vectors; v++) sum[r][v] = NAME(multiply_add)(sum[r][v], one, w[v]);
            }
        }
    }
    for (int r = 0; r < num_rows; r++)
        for (int v = 0; v < num_vectors; v++)
            NAME(store_some)(y + r * width + 16 * v, sum[r][v], num_outputs - 16 * v);
}

/* The same with numbers of rows and vectors that the compiler knows. */
#define ROWS(r) case r: NAME(tile)(x, depth, panel, bias, y, width, ahead, fetch, num_outputs, r, num_vectors); break;
INLINE void NAME(strip)(const STORED *x, long num_rows, long depth, const STORED *panel, const STORED *bias, STORED *y,
                        long width, const char *ahead, long fetch, long num_outputs, const int num_vectors) {
    switch (num_rows) { ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) }
}
#undef ROWS

/* y [n, width] = x [n, depth] · Wᵀ + bias (unless there is none). Each output is summed in the same order whatever
   n is. A thread's share is cut within panels, so that none has more than a tile more than another; while it
   multiplies with a panel, the next one comes into its cache. */
void NAME(multiply)(const STORED *x, const STORED *weight, const STORED *bias, STORED *y, long num_rows, long depth,
                    long width) {
    const long num_panels = (width + PANEL - 1) / PANEL, size = depth * PANEL;
    for (long first = 0; first < num_rows; first += MANY) {
        const long many = num_rows - first < MANY ? num_rows - first : MANY, num_tiles = (many + TILE - 1) / TILE;
        /* Few tiles wait for the panel itself: then the processor sees by itself what comes next. */
        const long fetch = num_tiles < 3 ? 0 : (PANEL * STEP * 8 * (long)sizeof(STORED) / 64 + num_tiles - 1) / num_tiles;
        const long stretch = fetch * ((depth + 8 * STEP - 1) / (8 * STEP)) * 64;
        #pragma omp parallel for schedule(static)
        for (long task = 0; task < num_panels * num_tiles; task++) {
            const long number = task / num_tiles, tile = task % num_tiles, row = first + tile * TILE;
            const long height = first + many - row < TILE ? first + many - row : TILE, left = width - number * PANEL;
            const STORED *panel = weight + number * size, *own = bias ? bias + number * PANEL : NULL;
            const char *ahead = (const char *)(panel + size) + tile * stretch;
            const long lines = number + 1 < num_panels ? fetch : 0;
            STORED *to = y + row * width + number * PANEL;
            if (left > 32)
                NAME(strip)(x + row * depth, height, depth, panel, own, to, width, ahead, lines, left, 3);
            else if (left > 16)
                NAME(strip)(x + row * depth, height, depth, panel, own, to, width, ahead, lines, left, 2);
            else
                NAME(strip)(x + row * depth, height, depth, panel, own, to, width, ahead, lines, left, 1);
        }
    }
}
