#pragma once

#include "capyra_kernels.h"
#include "exp.h"
#include "rows.h"
#include "vector.h"

namespace capyra::CAPYRA_ISA {

// Two vectors go through each step together: one alone is a chain of some 25 dependent
// instructions, longer than a processor looks ahead. Measured on AVX2, bf16: 0.84 ns an element
// instead of 0.98; three and four gained nothing more.
constexpr int kChains = 2;

// Both are gate * sigmoid(s): s is the gate for SiLU, and twice the argument of tanh for GELU.
template <int activation, int chains>
ALWAYS_INLINE void activate(Floats (&gate)[chains]) {
    Floats e[chains];
    for (int c = 0; c < chains; ++c) {
        e[c] = -gate[c];
        if constexpr (activation == CAPYRA_GELU_TANH)
            e[c] *= 1.5957691216f + gate[c] * gate[c] * (1.5957691216f * 0.044715f);
    }
    exp(e);
    for (int c = 0; c < chains; ++c) gate[c] /= 1.0f + e[c];
}

template <class T, int activation>
ALWAYS_INLINE void glu_row(T *y, const T *gate, const T *up, int64_t size) {
    const auto step = [=](int64_t i, auto part, auto &values) __attribute__((always_inline)) {
        for (auto &v : values) v = load(gate + i + (&v - values) * kLanes, part);
        activate<activation>(values);
        for (auto &v : values) {
            const int64_t j = i + (&v - values) * kLanes;
            store(y + j, v * load(up + j, part), part);
        }
    };
    int64_t i = 0;
    for (; i + kChains * kLanes <= size; i += kChains * kLanes) {
        Floats values[kChains];
        step(i, Whole{}, values);
    }
    each_vector(i, size, [=](int64_t j, auto part) __attribute__((always_inline)) {
        Floats values[1];
        step(j, part, values);
    });
}

template <class T>
void glu(void *y, const void *gate, const void *up, int64_t rows, int64_t size, int64_t gate_row,
         int64_t up_row, int32_t activation, int32_t threads) {
    split_rows(rows, size, 16384, threads, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const T *g = static_cast<const T *>(gate) + row * gate_row;
            const T *u = static_cast<const T *>(up) + row * up_row;
            T *out = static_cast<T *>(y) + row * size;
            if (activation == CAPYRA_GELU_TANH)
                glu_row<T, CAPYRA_GELU_TANH>(out, g, u, size);
            else
                glu_row<T, CAPYRA_SILU>(out, g, u, size);
        }
    });
}

}  // namespace capyra::CAPYRA_ISA
