#pragma once

#include "rows.h"
#include "vector.h"

namespace capyra::CAPYRA_ISA {

ALWAYS_INLINE Pair turn(Pair x, Floats cos, Floats sin) {
    return {x.a * cos - x.b * sin, x.b * cos + x.a * sin};
}

// Pairs (i, i + pairs).
template <class T>
ALWAYS_INLINE void turn_halves(T *head, const float *cos, const float *sin, int64_t pairs) {
    each_vector(0, pairs, [=](int64_t i, auto part) __attribute__((always_inline)) {
        const Pair x = {load(head + i, part), load(head + pairs + i, part)};
        const Pair y = turn(x, load(cos + i, part), load(sin + i, part));
        store(head + i, y.a, part);
        store(head + pairs + i, y.b, part);
    });
}

template <class T>
ALWAYS_INLINE void turn_neighbours(T *x, Floats cos, Floats sin) {
    const typename CountLanes<kLanes>::type lanes;
    const Pair in = unzip(Pair{load(x, Whole{}), load(x + kLanes, Whole{})}, lanes);
    const Pair out = zip(turn(in, cos, sin), lanes);
    store(x, out.a, Whole{});
    store(x + kLanes, out.b, Whole{});
}

// Pairs (2i, 2i + 1).
template <class T>
ALWAYS_INLINE void turn_interleaved(T *head, const float *cos, const float *sin, int64_t pairs) {
    int64_t i = 0;
    for (; i + kLanes <= pairs; i += kLanes)
        turn_neighbours(head + 2 * i, load(cos + i, Whole{}), load(sin + i, Whole{}));
    if (i < pairs) {
        const Part part{pairs - i};
        T buffer[2 * kLanes] = {};
        __builtin_memcpy(buffer, head + 2 * i, 2 * part.count * sizeof(T));
        turn_neighbours(buffer, load(cos + i, part), load(sin + i, part));
        __builtin_memcpy(head + 2 * i, buffer, 2 * part.count * sizeof(T));
    }
}

template <class T>
ALWAYS_INLINE void turn_heads(T *heads, int64_t count, int64_t stride, const float *cos,
                              const float *sin, int64_t pairs, bool interleaved) {
    for (int64_t h = 0; h < count; ++h) {
        if (interleaved)
            turn_interleaved(heads + h * stride, cos, sin, pairs);
        else
            turn_halves(heads + h * stride, cos, sin, pairs);
    }
}

template <class T>
void rope(void *q, void *k, const float *cos, const float *sin, int64_t tokens, int64_t q_heads,
          int64_t k_heads, int64_t pairs, int64_t q_token, int64_t q_head, int64_t k_token,
          int64_t k_head, int64_t angle_token, int32_t interleaved, int32_t threads) {
    const int64_t size = (q_heads + k_heads) * 2 * pairs;
    split_rows(tokens, size, 32768, threads, [=](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const float *c = cos + t * angle_token;
            const float *s = sin + t * angle_token;
            T *q_row = static_cast<T *>(q) + t * q_token;
            T *k_row = static_cast<T *>(k) + t * k_token;
            turn_heads(q_row, q_heads, q_head, c, s, pairs, interleaved);
            turn_heads(k_row, k_heads, k_head, c, s, pairs, interleaved);
        }
    });
}

}  // namespace capyra::CAPYRA_ISA
