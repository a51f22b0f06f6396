// The scalar twins: each kernel once more, as plainly as it can be said, for machines that have
// none of our instruction sets and as what the others are tested against. They sum in double and
// share no arithmetic with the vector kernels.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "capyra_kernels.h"

namespace capyra::scalar {
namespace {

struct bf16 {
    uint16_t bits;
};

float load(float value) { return value; }
float load(bf16 value) {
    const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
    float result;
    memcpy(&result, &word, sizeof result);
    return result;
}

void store(float *to, double value) { *to = static_cast<float>(value); }
void store(bf16 *to, double value) {
    const float single = static_cast<float>(value);
    uint32_t word;
    memcpy(&word, &single, sizeof word);
    if (single != single)
        word |= 0x400000;
    else
        word += 0x7fff + ((word >> 16) & 1);
    to->bits = static_cast<uint16_t>(word >> 16);
}

template <class T>
void rms_norm(void *y, const void *x, void *residual, const void *weight, int64_t outer,
              int64_t inner, int64_t size, int64_t x_outer, int64_t x_inner, float eps, float shift,
              int32_t) {
    const T *w = static_cast<const T *>(weight);
    for (int64_t row = 0; row < outer * inner; ++row) {
        const T *in = static_cast<const T *>(x) + row / inner * x_outer + row % inner * x_inner;
        T *out = static_cast<T *>(y) + row * size;
        if (residual) {
            T *sum = static_cast<T *>(residual) + row * size;
            for (int64_t i = 0; i < size; ++i) store(sum + i, load(in[i]) + load(sum[i]));
            in = sum;
        }
        double squares = 0;
        for (int64_t i = 0; i < size; ++i) {
            const double value = load(in[i]);
            squares += value * value;
        }
        const double scale = 1 / sqrt(squares / static_cast<double>(size) + eps);
        for (int64_t i = 0; i < size; ++i) store(out + i, load(in[i]) * scale * (load(w[i]) + shift));
    }
}

double activate(double gate, int32_t activation) {
    if (activation == CAPYRA_GELU_TANH) {
        const double s = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate);
        return gate / (1 + exp(-s));
    }
    return gate / (1 + exp(-gate));
}

template <class T>
void glu(void *y, const void *gate, const void *up, int64_t rows, int64_t size, int64_t gate_row,
         int64_t up_row, int32_t activation, int32_t) {
    for (int64_t row = 0; row < rows; ++row) {
        const T *g = static_cast<const T *>(gate) + row * gate_row;
        const T *u = static_cast<const T *>(up) + row * up_row;
        T *out = static_cast<T *>(y) + row * size;
        for (int64_t i = 0; i < size; ++i)
            store(out + i, activate(load(g[i]), activation) * load(u[i]));
    }
}

template <class T>
void turn(T *head, const float *cos, const float *sin, int64_t pairs, bool interleaved) {
    for (int64_t i = 0; i < pairs; ++i) {
        T *a = interleaved ? head + 2 * i : head + i;
        T *b = interleaved ? a + 1 : a + pairs;
        const double x = load(*a);
        const double y = load(*b);
        store(a, x * cos[i] - y * sin[i]);
        store(b, y * cos[i] + x * sin[i]);
    }
}

template <class T>
void rope(void *q, void *k, const float *cos, const float *sin, int64_t tokens, int64_t q_heads,
          int64_t k_heads, int64_t pairs, int64_t q_token, int64_t q_head, int64_t k_token,
          int64_t k_head, int64_t angle_token, int32_t interleaved, int32_t) {
    for (int64_t t = 0; t < tokens; ++t) {
        const float *c = cos + t * angle_token;
        const float *s = sin + t * angle_token;
        for (int64_t h = 0; h < q_heads; ++h)
            turn(static_cast<T *>(q) + t * q_token + h * q_head, c, s, pairs, interleaved);
        for (int64_t h = 0; h < k_heads; ++h)
            turn(static_cast<T *>(k) + t * k_token + h * k_head, c, s, pairs, interleaved);
    }
}

void linear(void *y, const void *x, const void *w, const void *bias, int64_t rows, int64_t inputs,
            int64_t outputs, int64_t x_row, int32_t) {
    for (int64_t row = 0; row < rows; ++row) {
        const bf16 *in = static_cast<const bf16 *>(x) + row * x_row;
        for (int64_t o = 0; o < outputs; ++o) {
            const bf16 *weights = static_cast<const bf16 *>(w) + o * inputs;
            double sum = bias ? load(static_cast<const bf16 *>(bias)[o]) : 0.0f;
            for (int64_t i = 0; i < inputs; ++i)
                sum += static_cast<double>(load(in[i])) * load(weights[i]);
            store(static_cast<bf16 *>(y) + row * outputs + o, sum);
        }
    }
}

// In two passes, each token's score computed in both.
template <class T>
void attend(void *y, const void *q, const void *k, const void *v, const int64_t *tables,
            const int64_t *seen, int64_t rows, int64_t width, int64_t heads, int64_t kv_heads,
            int64_t size, int64_t q_row, float scale, float softcap, int32_t) {
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t head = 0; head < heads; ++head) {
            const T *query = static_cast<const T *>(q) + row * q_row + head * size;
            const int64_t kv_head = head / (heads / kv_heads);
            const auto place = [&](int64_t token) {
                const int64_t block = tables[row * width + token / CAPYRA_BLOCK];
                const int64_t at = block * CAPYRA_BLOCK + token % CAPYRA_BLOCK;
                return (at * kv_heads + kv_head) * size;
            };
            const auto score = [&](int64_t token) {
                const T *key = static_cast<const T *>(k) + place(token);
                double sum = 0;
                for (int64_t i = 0; i < size; ++i)
                    sum += static_cast<double>(load(query[i])) * load(key[i]);
                sum *= scale;
                return softcap > 0 ? softcap * tanh(sum / softcap) : sum;
            };
            double most = -INFINITY, total = 0;
            for (int64_t t = seen[2 * row]; t < seen[2 * row + 1]; ++t) most = fmax(most, score(t));
            for (int64_t t = seen[2 * row]; t < seen[2 * row + 1]; ++t) total += exp(score(t) - most);
            for (int64_t i = 0; i < size; ++i) {
                double sum = 0;
                for (int64_t t = seen[2 * row]; t < seen[2 * row + 1]; ++t)
                    sum += exp(score(t) - most) * load(static_cast<const T *>(v)[place(t) + i]);
                store(static_cast<T *>(y) + (row * heads + head) * size + i, sum / total);
            }
        }
    }
}

}  // namespace

extern const capyra_kernels kernels;
const capyra_kernels kernels = {
    "scalar",    rms_norm<float>, rms_norm<bf16>, glu<float>,    glu<bf16>,
    rope<float>, rope<bf16>,      linear,         attend<float>, attend<bf16>,
};

}  // namespace capyra::scalar
