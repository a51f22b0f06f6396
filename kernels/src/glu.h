#pragma once

#include "capyra_kernels.h"
#include "rows.h"
#include "vector.h"

namespace capyra::CAPYRA_ISA {

// e^x to about 2 units in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for
// e^r (minimax, degree 5), and 2^n put into the exponent. From 88.4 up it is infinite, from
// -87.3 down it stays at 1e-38: both are exact where it is used, in 1 / (1 + e^x). A NaN passes.
ALWAYS_INLINE Floats exp(Floats x) {
    x = x > 89.0f ? splat(89.0f) : x;
    x = x < -87.3f ? splat(-87.3f) : x;
    const Floats magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Floats shifted = x * 1.44269504f + magic;
    const Floats n = shifted - magic;
    const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.0f);
    const Words exponent = (bits_as<Words>(shifted) - bits_as<Words>(magic) + 127) << 23;
    return p * bits_as<Floats>(exponent);
}

// Both are gate * sigmoid(s): s is the gate for SiLU, and twice the argument of tanh for GELU.
template <int activation>
ALWAYS_INLINE Floats activate(Floats gate) {
    Floats s = gate;
    if constexpr (activation == CAPYRA_GELU_TANH)
        s = gate * (1.5957691216f + gate * gate * (1.5957691216f * 0.044715f));
    return gate / (1.0f + exp(-s));
}

template <class T, int activation>
ALWAYS_INLINE void glu_row(T *y, const T *gate, const T *up, int64_t size) {
    each_vector(0, size, [=](int64_t i, auto part) __attribute__((always_inline)) {
        store(y + i, activate<activation>(load(gate + i, part)) * load(up + i, part), part);
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
