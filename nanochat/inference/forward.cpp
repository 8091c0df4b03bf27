// The forward pass of nanochat/model/gpt.py in C++, for a few tokens at a time on a CPU, in float32.
//
// A step of a small model is a few hundred thousand multiplications in about a hundred operations. Called one by one
// from Python, each operation costs more in overhead than in arithmetic. Here all of them are one call, and the time is
// that of reading the weights, each once for all rows. native.py compiles this file and passes the data.
//
// A row is a token at its position in a stream. The sums of a row are taken in the same order whichever rows are in the
// batch, so that a text does not depend on the texts that are generated with it. Hence no -ffast-math, which would
// allow the compiler to reorder sums.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, MAX_ROWS = 6;
#elif defined(__AVX__)
constexpr int LANES = 8, MAX_ROWS = 3;
#else
constexpr int LANES = 4, MAX_ROWS = 4;  // SSE, NEON
#endif
typedef float Vector __attribute__((vector_size(LANES * 4)));  // GCC's and Clang's own vectors: no intrinsics needed
constexpr int VECTORS = 4;                // of sums for each row; for MAX_ROWS rows as many as there are registers
constexpr int BLOCK = VECTORS * LANES;    // outputs of a matrix that lie together in memory

constexpr float EPS = 1.1920929e-07f;  // float32's, as torch's rms_norm adds it
constexpr float SOFTCAP = 15.0f;

Vector load(const float* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);  // unaligned
    return v;
}

void store(float* to, Vector v) { std::memcpy(to, &v, sizeof v); }

float dot(const float* a, const float* b, int size) {
    Vector total = {};
    int i = 0;
    for (; i + LANES <= size; i += LANES) total += load(a + i) * load(b + i);
    float lanes[LANES];
    store(lanes, total);
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int lane = 0; lane < n; lane++) lanes[lane] += lanes[lane + n];
    for (; i < size; i++) lanes[0] += a[i] * b[i];
    return lanes[0];
}

// e^x for x <= 0, to a few units in the last place: 2^(whole + part), the whole into the exponent's bits, and for the
// part, at most a half, the series of e^(part ln 2). A loop of it becomes vector instructions; calls of expf do not.
float exponential(float x) {
    float scaled = std::max(x, -87.0f) * 1.44269504f;
    float whole = std::rint(scaled);
    float y = (scaled - whole) * 0.693147181f;
    float series = 1 + y * (1 + y * (1 / 2.f + y * (1 / 6.f + y * (1 / 24.f + y * (1 / 120.f + y / 720.f)))));
    int32_t bits = (int32_t(whole) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return series * power;
}

// A block of outputs for ROWS rows: each input is a number for a row, to multiply a vector of weights with.
template <int ROWS>
void multiply_block(const float* block, const float* in, float* out, int inputs, int in_stride, int out_stride, int valid) {
    Vector total[ROWS][VECTORS] = {};
    for (int i = 0; i < inputs; i++) {
        Vector weights[VECTORS];
        for (int v = 0; v < VECTORS; v++) weights[v] = load(block + int64_t(i) * BLOCK + v * LANES);
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) total[r][v] += weights[v] * in[int64_t(r) * in_stride + i];
    }
    for (int r = 0; r < ROWS; r++) {
        float* y = out + int64_t(r) * out_stride;
        if (valid == BLOCK)
            for (int v = 0; v < VECTORS; v++) store(y + v * LANES, total[r][v]);
        else
            std::memcpy(y, total[r], valid * sizeof(float));
    }
}

template <int ROWS>
void multiply_rows(int rows, const float* block, const float* in, float* out, int inputs, int in_stride, int out_stride, int valid) {
    if (rows == ROWS) return multiply_block<ROWS>(block, in, out, inputs, in_stride, out_stride, valid);
    if constexpr (ROWS > 1) multiply_rows<ROWS - 1>(rows, block, in, out, inputs, in_stride, out_stride, valid);
}

// out[row] = matrix in[row] for all rows, of the outputs this thread's share. The matrix is (blocks, inputs, BLOCK):
// for each block of outputs what they take of the first input, of the second, and so on, as it is read.
void multiply(const float* matrix, const float* in, float* out, int rows, int inputs, int outputs, int thread, int team) {
    int blocks = (outputs + BLOCK - 1) / BLOCK;
    for (int n = blocks * thread / team; n < blocks * (thread + 1) / team; n++)
        for (int r = 0; r < rows; r += MAX_ROWS)
            multiply_rows<MAX_ROWS>(
                std::min(MAX_ROWS, rows - r), matrix + int64_t(n) * inputs * BLOCK, in + int64_t(r) * inputs,
                out + int64_t(r) * outputs + n * BLOCK, inputs, inputs, outputs, std::min(BLOCK, outputs - n * BLOCK));
}

// y = the mean of the values, weighted by the shares: (seen, dim), contiguous.
void average(const float* shares, const float* values, float* y, int seen, int dim, float total) {
    int i = 0;
    for (; i + BLOCK <= dim; i += BLOCK) {
        Vector sums[VECTORS] = {};
        for (int t = 0; t < seen; t++)
            for (int v = 0; v < VECTORS; v++) sums[v] += shares[t] * load(values + int64_t(t) * dim + i + v * LANES);
        for (int v = 0; v < VECTORS; v++) store(y + i + v * LANES, sums[v] / total);
    }
    for (; i < dim; i++) {
        float sum = 0;
        for (int t = 0; t < seen; t++) sum += shares[t] * values[int64_t(t) * dim + i];
        y[i] = sum / total;
    }
}

void norm(const float* x, float* y, int size) {  // RMSNorm
    float scale = 1 / std::sqrt(dot(x, x, size) / size + EPS);
    for (int i = 0; i < size; i++) y[i] = x[i] * scale;
}

void rotate_and_norm(const float* x, float* y, const float* cos, const float* sin, int size) {
    int half = size / 2;
    float scale = 1 / std::sqrt(dot(x, x, size) / size + EPS);  // a rotation changes no length
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[half + i];
        y[i] = (a * cos[i] + b * sin[i]) * scale;
        y[half + i] = (b * cos[i] - a * sin[i]) * scale;
    }
}

}  // namespace

extern "C" {

// Matrices are as multiply() reads them.
struct Layer {
    const float *c_qkv, *c_proj, *mlp_c_fc, *mlp_c_proj;
};

struct Model {
    int32_t n_layer, n_embd, n_head, n_kv_head, head_dim, vocab_size;
    const float *wte, *lm_head, *cos, *sin;
    const Layer* layers;
};

struct Row {
    const int64_t* ids;  // of the stream's text, from its first token on
    float* cache;        // of the stream: (n_layer, n_kv_head, 2, length, head_dim), keys before values
    int32_t position;    // of the row's token in the stream
    int32_t length;      // of the cache
};

int32_t nanochat_block() { return BLOCK; }

// Size of the working memory that nanochat_read needs, in floats.
int64_t nanochat_memory(const Model* m, int32_t rows, int32_t longest, int32_t threads) {
    return int64_t(rows) * (9 * m->n_embd + 2 * m->n_kv_head * m->head_dim) + int64_t(threads) * longest;
}

// Reads rows: writes their keys and values into the caches, and the logits of the `asked` rows at `indices` into
// `logits`, (asked, vocab_size). Several rows of one stream may come in one call if every earlier row of that stream has
// been read or is in the call. `longest` is the largest position plus 1.
void nanochat_read(
    const Model* model, const Row* rows, int32_t count, const int32_t* indices, int32_t asked, float* logits, float* memory,
    int32_t longest, int32_t threads) {
    const Model m = *model;
    const int width = m.n_embd, dim = m.head_dim, inner = 4 * width, group = m.n_head / m.n_kv_head;
    const int projected = (m.n_head + 2 * m.n_kv_head) * dim;
    float* const stream = memory;
    float* const normed = stream + int64_t(count) * width;
    float* const vectors = normed + int64_t(count) * width;  // queries, keys, values of each row
    float* const attended = vectors + int64_t(count) * projected;
    float* const added = attended + int64_t(count) * width;
    float* const hidden = added + int64_t(count) * width;  // takes 4 * width; with what is above, 9 * width and the rest
    float* const scores = hidden + int64_t(count) * inner;
    const float root = 1 / std::sqrt(float(dim));

#pragma omp parallel num_threads(threads)
    {
        int thread = 0, team = 1;
#ifdef _OPENMP
        thread = omp_get_thread_num(), team = omp_get_num_threads();
#endif
        float* const thread_scores = scores + int64_t(thread) * longest;
        auto add_and_norm = [&] {  // adds the result of attention or MLP to the stream, and norms the stream for the next one
#pragma omp for
            for (int r = 0; r < count; r++) {
                float* x = stream + int64_t(r) * width;
                for (int i = 0; i < width; i++) x[i] += added[int64_t(r) * width + i];
                norm(x, normed + int64_t(r) * width, width);
            }
        };

#pragma omp for
        for (int r = 0; r < count; r++) {  // the token's vector, normed
            float* x = stream + int64_t(r) * width;
            norm(m.wte + rows[r].ids[rows[r].position] * width, x, width);
            norm(x, normed + int64_t(r) * width, width);
        }
        for (int layer = 0; layer < m.n_layer; layer++) {
            const Layer& w = m.layers[layer];
            multiply(w.c_qkv, normed, vectors, count, width, projected, thread, team);
#pragma omp barrier
#pragma omp for
            for (int n = 0; n < count * m.n_kv_head; n++) {  // keys and values go into the caches before any row attends
                const int r = n / m.n_kv_head, h = n % m.n_kv_head;
                const Row& row = rows[r];
                float* qkv = vectors + int64_t(r) * projected;
                float* slot = row.cache + ((int64_t(layer) * m.n_kv_head + h) * 2 * row.length + row.position) * dim;
                const float *cos = m.cos + int64_t(row.position) * (dim / 2), *sin = m.sin + int64_t(row.position) * (dim / 2);
                rotate_and_norm(qkv + (m.n_head + h) * dim, slot, cos, sin, dim);
                std::memcpy(slot + int64_t(row.length) * dim, qkv + (m.n_head + m.n_kv_head + h) * dim, dim * sizeof(float));
                for (int q = h * group; q < (h + 1) * group; q++) rotate_and_norm(qkv + q * dim, qkv + q * dim, cos, sin, dim);
            }
#pragma omp for schedule(dynamic)
            for (int n = 0; n < count * m.n_head; n++) {  // attention of one head of one row
                const int r = n / m.n_head, h = n % m.n_head;
                const Row& row = rows[r];
                const float* query = vectors + int64_t(r) * projected + h * dim;
                const float* keys = row.cache + (int64_t(layer) * m.n_kv_head + h / group) * 2 * row.length * dim;
                const int seen = row.position + 1;
                float highest = -INFINITY, total = 0;
                for (int t = 0; t < seen; t++) {
                    thread_scores[t] = dot(query, keys + int64_t(t) * dim, dim) * root;
                    highest = std::max(highest, thread_scores[t]);
                }
                for (int t = 0; t < seen; t++) thread_scores[t] = exponential(thread_scores[t] - highest);
                for (int t = 0; t < seen; t++) total += thread_scores[t];
                average(thread_scores, keys + int64_t(row.length) * dim, attended + int64_t(r) * width + h * dim, seen, dim, total);
            }
            multiply(w.c_proj, attended, added, count, width, width, thread, team);
#pragma omp barrier
            add_and_norm();
            multiply(w.mlp_c_fc, normed, hidden, count, width, inner, thread, team);
#pragma omp barrier
#pragma omp for
            for (int64_t i = 0; i < int64_t(count) * inner; i++) hidden[i] = hidden[i] > 0 ? hidden[i] * hidden[i] : 0;
            multiply(w.mlp_c_proj, hidden, added, count, inner, width, thread, team);
#pragma omp barrier
            add_and_norm();
        }
#pragma omp for
        for (int a = 0; a < asked; a++)
            std::memcpy(attended + int64_t(a) * width, normed + int64_t(indices[a]) * width, width * sizeof(float));
        multiply(m.lm_head, attended, logits, asked, width, m.vocab_size, thread, team);
#pragma omp barrier
#pragma omp for
        for (int64_t i = 0; i < int64_t(asked) * m.vocab_size; i++) {
            float e = exponential(-2 / SOFTCAP * std::fabs(logits[i]));  // tanh x = (1 - e^-2x) / (1 + e^-2x)
            logits[i] = std::copysign(SOFTCAP * (1 - e) / (1 + e), logits[i]);
        }
    }
}
}
