#pragma once

#include "vector.h"

namespace capyra::CAPYRA_ISA {

// x becomes e^x, to about 2 units in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, a
// polynomial for e^r (minimax, degree 5 after 1 + r), and 2^n put into the exponent. From 88.4 up
// it is infinite, from -87.3 down it stays at 1e-38, which is nothing where it is used: in
// 1 / (1 + e^x), and beside the largest term of a softmax. A NaN stays one.
template <int chains>
ALWAYS_INLINE void exp(Floats (&x)[chains]) {
    const Floats magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    Floats shifted[chains], n[chains], p[chains];
    for (auto &v : x) v = v > 89.0f ? splat(89.0f) : v;
    for (auto &v : x) v = v < -87.3f ? splat(-87.3f) : v;
    for (int c = 0; c < chains; ++c) shifted[c] = x[c] * 1.44269504f + magic;
    for (int c = 0; c < chains; ++c) n[c] = shifted[c] - magic;
    for (int c = 0; c < chains; ++c) x[c] -= n[c] * 0.693359375f;
    for (int c = 0; c < chains; ++c) x[c] += n[c] * 2.12194440e-4f;
    for (int c = 0; c < chains; ++c) p[c] = x[c] * 1.9875691500e-4f + 1.3981999507e-3f;
    constexpr float rest[] = {8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                              5.0000001201e-1f};
    for (const float next : rest)
        for (int c = 0; c < chains; ++c) p[c] = p[c] * x[c] + next;
    for (int c = 0; c < chains; ++c) p[c] = p[c] * (x[c] * x[c]) + (x[c] + 1.0f);
    for (int c = 0; c < chains; ++c) {
        const Words exponent = bits_as<Words>(shifted[c]) - bits_as<Words>(magic) + 127;
        x[c] = p[c] * bits_as<Floats>(exponent << 23);
    }
}

}  // namespace capyra::CAPYRA_ISA
