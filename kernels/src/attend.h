#pragma once

#include "capyra_kernels.h"
#include "exp.h"
#include "rows.h"
#include "vector.h"

namespace capyra::CAPYRA_ISA {

// Attention of single queries over paged K/V, block by block: scores of a block's tokens, their
// exponentials against the largest score so far, and the values they weigh. K and V are read
// once for all heads that share them, up to four at a time, and nothing is gathered.

constexpr int kHeads = 4;        // queries that share a pass over K/V
constexpr int64_t kBlock = CAPYRA_BLOCK;
constexpr int64_t kPass = CAPYRA_PASS;  // elements of the queries that go over K/V together

template <class T>
struct Attention {
    T *y;
    const T *q, *k, *v;
    const int64_t *tables, *seen;
    int64_t width, heads, kv_heads, size, q_row;
    float scale, softcap;
};

// sums[t * heads + h]: the products of K's row t with query h, not yet summed over lanes.
template <int heads, int tokens, class T>
ALWAYS_INLINE void score(Floats *sums, const float *q, const T *k, int64_t k_token, int64_t size) {
    Floats sum[heads * tokens] = {};
    each_vector(0, size, [&](int64_t i, auto part) __attribute__((always_inline)) {
        Floats key[tokens];
        UNROLL for (int t = 0; t < tokens; ++t) key[t] = load(k + t * k_token + i, part);
        UNROLL for (int h = 0; h < heads; ++h) {
            const Floats query = load(q + h * size + i, part);
            UNROLL for (int t = 0; t < tokens; ++t) sum[t * heads + h] += query * key[t];
        }
    });
    UNROLL for (int i = 0; i < heads * tokens; ++i) sums[i] = sum[i];
}

// out[h] = out[h] * shrink[h] + the sum of V's rows by their weights.
template <int heads, class T>
ALWAYS_INLINE void weigh(float *out, const float *weights, const float *shrink, const T *v,
                         int64_t v_token, int64_t count, int64_t size) {
    constexpr int chains = heads > 2 ? 1 : 4 / heads;
    const auto step = [=](int64_t i, auto part, auto many) __attribute__((always_inline)) {
        constexpr int wide = decltype(many)::value;
        Floats sum[heads * wide];
        UNROLL for (int h = 0; h < heads; ++h)
            UNROLL for (int c = 0; c < wide; ++c)
                sum[h * wide + c] = load(out + h * size + i + c * kLanes, part) * shrink[h];
        for (int64_t t = 0; t < count; ++t)
            UNROLL for (int c = 0; c < wide; ++c) {
                const Floats value = load(v + t * v_token + i + c * kLanes, part);
                UNROLL for (int h = 0; h < heads; ++h)
                    sum[h * wide + c] += weights[h * kBlock + t] * value;
            }
        UNROLL for (int h = 0; h < heads; ++h)
            UNROLL for (int c = 0; c < wide; ++c)
                store(out + h * size + i + c * kLanes, sum[h * wide + c], part);
    };
    int64_t i = 0;
    for (; i + chains * kLanes <= size; i += chains * kLanes) step(i, Whole{}, Count<chains>{});
    each_vector(i, size, [=](int64_t j, auto part) __attribute__((always_inline)) {
        step(j, part, Count<1>{});
    });
}

// scores become weights, e^(score - largest); what was summed before shrinks by what is returned.
ALWAYS_INLINE float soften(float *scores, int64_t count, float softcap, float &largest,
                           float &total) {
    constexpr int chains = kBlock / kLanes;
    Floats x[chains];
    if (softcap > 0) {
        UNROLL for (int c = 0; c < chains; ++c)
            x[c] = load(scores + c * kLanes, Whole{}) * (2.0f / softcap);
        exp(x);
        UNROLL for (int c = 0; c < chains; ++c)
            store(scores + c * kLanes, softcap - 2.0f * softcap / (x[c] + 1.0f), Whole{});
    }
    float most = largest;
    for (int64_t t = 0; t < count; ++t) most = scores[t] > most ? scores[t] : most;
    UNROLL for (int c = 0; c < chains; ++c) x[c] = load(scores + c * kLanes, Whole{}) - most;
    exp(x);
    UNROLL for (int c = 0; c < chains; ++c) store(scores + c * kLanes, x[c], Whole{});
    Floats shrink[1] = {splat(largest - most)};
    exp(shrink);
    const float less = total == 0 ? 0.0f : shrink[0][0];
    float sum = 0;
    for (int64_t t = 0; t < count; ++t) sum += scores[t];
    largest = most;
    total = total * less + sum;
    return less;
}

// What is known of one pass's heads before the tokens that come next.
struct Passed {
    float q[kPass], out[kPass];
    float largest[kPass], total[kPass];
};

// One block's tokens, `first` to `first + count`, for `heads` queries that share a head of K/V.
template <int heads, class T>
ALWAYS_INLINE void attend_block(Passed &p, int64_t head, int64_t size, const T *k, const T *v,
                                int64_t token, int64_t count, float softcap) {
    constexpr int some = heads > 2 ? 2 : 4;
    Floats sums[kBlock * heads] = {};
    int64_t t = 0;
    for (; t + some <= count; t += some)
        score<heads, some>(sums + t * heads, p.q + head * size, k + t * token, token, size);
    for (; t < count; ++t)
        score<heads, 1>(sums + t * heads, p.q + head * size, k + t * token, token, size);
    float found[kBlock * heads], weights[heads * kBlock], shrink[heads];
    UNROLL for (int i = 0; i < kBlock * heads; i += kLanes)
        store(found + i, sum_each(sums + i), Whole{});
    UNROLL for (int h = 0; h < heads; ++h) {
        UNROLL for (int i = 0; i < kBlock; ++i) weights[h * kBlock + i] = found[i * heads + h];
        shrink[h] = soften(weights + h * kBlock, count, softcap, p.largest[head + h],
                           p.total[head + h]);
    }
    weigh<heads>(p.out + head * size, weights, shrink, v, token, count, size);
}

// One row's queries on the K/V heads `begin` to `end`. A block is used by all of them before the
// next one is touched: its heads lie side by side.
template <class T>
void attend_pass(const Attention<T> &a, int64_t row, int64_t begin, int64_t end) {
    const int64_t group = a.heads / a.kv_heads, heads = (end - begin) * group;
    Passed p;
    for (int64_t i = 0; i < heads * a.size; ++i) p.out[i] = 0;
    for (int64_t h = 0; h < heads; ++h) p.largest[h] = -__builtin_inff(), p.total[h] = 0;
    const T *from = a.q + row * a.q_row + begin * group * a.size;
    each_vector(0, heads * a.size, [&](int64_t i, auto part) __attribute__((always_inline)) {
        store(p.q + i, load(from + i, part) * a.scale, part);
    });
    const int64_t token = a.kv_heads * a.size;
    const int64_t last = a.seen[2 * row + 1];
    for (int64_t first = a.seen[2 * row], count; first < last; first += count) {
        const int64_t start = first % kBlock;
        count = kBlock - start < last - first ? kBlock - start : last - first;
        const int64_t at = (a.tables[row * a.width + first / kBlock] * kBlock + start) * token;
        for (int64_t h = 0, some; h < heads; h += some) {
            const int64_t left = group - h % group;
            some = left < kHeads ? left : kHeads;
            const T *k = a.k + at + (begin + h / group) * a.size;
            const T *v = a.v + at + (begin + h / group) * a.size;
            if (some == 4)
                attend_block<4>(p, h, a.size, k, v, token, count, a.softcap);
            else if (some == 3)
                attend_block<3>(p, h, a.size, k, v, token, count, a.softcap);
            else if (some == 2)
                attend_block<2>(p, h, a.size, k, v, token, count, a.softcap);
            else
                attend_block<1>(p, h, a.size, k, v, token, count, a.softcap);
        }
    }
    for (int64_t h = 0; h < heads; ++h) {
        T *to = a.y + (row * a.heads + begin * group + h) * a.size;
        each_vector(0, a.size, [&](int64_t i, auto part) __attribute__((always_inline)) {
            store(to + i, load(p.out + h * a.size + i, part) / p.total[h], part);
        });
    }
}

template <class T>
void attend(void *y, const void *q, const void *k, const void *v, const int64_t *tables,
            const int64_t *seen, int64_t rows, int64_t width, int64_t heads, int64_t kv_heads,
            int64_t size, int64_t q_row, float scale, float softcap, int32_t threads) {
    const Attention<T> a = {static_cast<T *>(y),       static_cast<const T *>(q),
                            static_cast<const T *>(k), static_cast<const T *>(v),
                            tables,                    seen,
                            width,                     heads,
                            kv_heads,                  size,
                            q_row,                     scale,
                            softcap};
    if (!rows) return;
    const int64_t group = heads / kv_heads;
    int64_t pass = kPass / (group * size);
    // One row alone is shared out by its heads.
    const int64_t shares = rows < threads ? (threads + rows - 1) / rows : 1;
    if (pass > (kv_heads + shares - 1) / shares) pass = (kv_heads + shares - 1) / shares;
    const int64_t passes = (kv_heads + pass - 1) / pass;
    split_rows(rows * passes, width * kBlock * pass * group * size, 65536, threads,
               [=](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
            const int64_t first = part % passes * pass;
            const int64_t last = first + pass < kv_heads ? first + pass : kv_heads;
            attend_pass(a, part / passes, first, last);
        }
    });
}

}  // namespace capyra::CAPYRA_ISA
