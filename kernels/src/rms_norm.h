#pragma once

#include "rows.h"
#include "vector.h"

namespace capyra::CAPYRA_ISA {

// The sum of the squares of x, or of the residual after x is added into it. Four sums hide the
// latency of the multiply-add.
template <bool add, class T>
ALWAYS_INLINE float squares(const T *x, T *residual, int64_t size) {
    Floats sums[4] = {};
    const auto square = [&](Floats &sum, int64_t i, auto part) __attribute__((always_inline)) {
        Floats value = load(x + i, part);
        if constexpr (add) {
            store(residual + i, value + load(residual + i, part), part);
            value = load(residual + i, part);  // as rounded
        }
        sum += value * value;
    };
    int64_t i = 0;
    for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
        square(sums[0], i, Whole{});
        square(sums[1], i + kLanes, Whole{});
        square(sums[2], i + 2 * kLanes, Whole{});
        square(sums[3], i + 3 * kLanes, Whole{});
    }
    each_vector(i, size, [&](int64_t j, auto part) __attribute__((always_inline)) {
        square(sums[0], j, part);
    });
    return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class T>
void rms_norm(void *y, const void *x, void *residual, const void *weight, int64_t outer,
              int64_t inner, int64_t size, int64_t x_outer, int64_t x_inner, float eps, float shift,
              int32_t threads) {
    const T *w = static_cast<const T *>(weight);
    split_rows(outer * inner, size, 32768, threads, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const T *in = static_cast<const T *>(x) + row / inner * x_outer + row % inner * x_inner;
            T *sum = residual ? static_cast<T *>(residual) + row * size : nullptr;
            T *out = static_cast<T *>(y) + row * size;
            const float square = sum ? squares<true>(in, sum, size) : squares<false>(in, sum, size);
            const float mean = square / static_cast<float>(size);
            const float scale = 1.0f / __builtin_sqrtf(mean + eps);
            const T *from = sum ? sum : in;
            each_vector(0, size, [=](int64_t i, auto part) __attribute__((always_inline)) {
                store(out + i, load(from + i, part) * scale * (load(w + i, part) + shift), part);
            });
        }
    });
}

}  // namespace capyra::CAPYRA_ISA
