#pragma once

#include "rows.h"
#include "vector.h"

namespace capyra::CAPYRA_ISA {

// y = x wᵀ (+ bias) for matrices of bfloat16 as they are stored, outputs × inputs.
//
// A word of memory is two elements. Where the processor multiplies words, pair by pair, x is only
// brought into the order of its use. Elsewhere a word shifted up is the even element as a float,
// masked the odd one, two cheap instructions for two vectors: x is widened once for each block,
// into vectors of even and of odd elements; w in registers, whenever it is used.
//
// An element of y is one chain of sums over the inputs, whatever rows and outputs are computed
// beside it: its bits depend on its row of x and its row of w alone.

constexpr int kPair = 2 * kLanes;          // elements that one load of w brings
constexpr int kTileRows = 6;               // of x at a time
constexpr int64_t kInputs = 1024;          // of a tile of x: they fit the first cache
constexpr int kBlockRows = 96;             // go over a block of w before the next one is touched;
constexpr int kBlockOutputs = 96;          // times kInputs, it fits the second cache
constexpr int64_t kBlockAlign = 8;
constexpr int64_t kAhead = 16;             // rows of w that are fetched ahead of the ones in use

#if defined(CAPYRA_DOT)
constexpr int kSteps = 1;                  // to multiply a vector of words
typedef Words Piece;
ALWAYS_INLINE void split(Piece *pieces, Words pair) { pieces[0] = pair; }
ALWAYS_INLINE Floats product(Floats sum, Piece x, Piece w) { return dot(sum, x, w); }
#else
constexpr int kSteps = 2;
typedef Floats Piece;
ALWAYS_INLINE void split(Piece *pieces, Words pair) {
    pieces[0] = bits_as<Floats>(pair << 16);
    pieces[1] = bits_as<Floats>(pair & 0xffff0000u);
}
ALWAYS_INLINE Floats product(Floats sum, Piece x, Piece w) { return sum + x * w; }
#endif

ALWAYS_INLINE Words load_pairs(const bf16 *from, Whole) {
    Words words;
    __builtin_memcpy(&words, from, sizeof words);
    return words;
}
ALWAYS_INLINE Words load_pairs(const bf16 *from, Part part) {
    Words words = {};
    __builtin_memcpy(&words, from, part.count * sizeof(bf16));
    return words;
}

// Calls body(i, Whole) for each whole pair of vectors and body(i, Part) for what is left.
template <class Body>
ALWAYS_INLINE void each_pair(int64_t size, Body body) {
    int64_t i = 0;
    for (; i + kPair <= size; i += kPair) body(i, Whole{});
    if (i < size) body(i, Part{size - i});
}

// Adds to sums[r][o] the products of `rows` rows of x and `outputs` rows of w. A vector of x is
// loaded once for all outputs: with a load to each product the loads would be the limit. Elements
// of w that lie `ahead` are fetched into the second cache, or, if there are none, those of the next
// outputs into the first one; past the end of w that does nothing.
template <int rows, int outputs, bool near>
ALWAYS_INLINE void multiply(float *sums, const Piece *x, const bf16 *w, int64_t w_row,
                            int64_t inputs, int64_t ahead) {
    constexpr int count = rows * outputs;
    constexpr int whole = (count + kLanes - 1) / kLanes * kLanes;
    Floats sum[whole] = {};
    each_pair(inputs, [&](int64_t i, auto part) __attribute__((always_inline)) {
        Piece value[outputs][kSteps];
        UNROLL for (int o = 0; o < outputs; ++o)
            split(value[o], load_pairs(w + o * w_row + i, part));
        UNROLL for (int o = 0; o < outputs; ++o)
            __builtin_prefetch(w + o * w_row + i + (near ? outputs * w_row : ahead), 0,
                               near ? 3 : 2);
        UNROLL for (int s = 0; s < kSteps; ++s)
            UNROLL for (int r = 0; r < rows; ++r) {
                Piece row = *x++;
                hold(row);
                UNROLL for (int o = 0; o < outputs; ++o)
                    sum[r * outputs + o] = product(sum[r * outputs + o], row, value[o][s]);
            }
    });
    float found[whole];
    UNROLL for (int c = 0; c < whole; c += kLanes) store(found + c, sum_each(sum + c), Whole{});
    UNROLL for (int r = 0; r < rows; ++r)
        UNROLL for (int o = 0; o < outputs; ++o)
            sums[r * kBlockOutputs + o] += found[r * outputs + o];
}

// Few rows take many outputs at a time, so that enough sums are under way to hide their latency,
// and many streams of w.
template <int rows>
constexpr int kTileOutputs = rows == 1   ? 8
                             : rows == 2 ? 5
                             : rows == 3 ? 4
                             : rows == 4 ? 3
                                         : 2 * kRegisters / 16;

template <int rows, bool near>
void multiply_tile(float *sums, const Piece *x, const bf16 *w, int64_t w_row, int64_t inputs,
                   int64_t outputs, int64_t ahead) {
    constexpr int wide = kTileOutputs<rows>;
    int64_t o = 0;
    for (; o + wide <= outputs; o += wide)
        multiply<rows, wide, near>(sums + o, x, w + o * w_row, w_row, inputs, ahead);
    for (; o < outputs; ++o)
        multiply<rows, 1, near>(sums + o, x, w + o * w_row, w_row, inputs, ahead);
}

typedef void MultiplyTile(float *, const Piece *, const bf16 *, int64_t, int64_t, int64_t,
                          int64_t);
#define TILES(near)                                                          \
    {multiply_tile<1, near>, multiply_tile<2, near>, multiply_tile<3, near>, \
     multiply_tile<4, near>, multiply_tile<5, near>, multiply_tile<6, near>}
constexpr MultiplyTile *kMultiplyTile[2][kTileRows] = {TILES(false), TILES(true)};
#undef TILES

// A tile of x in the order in which it is used.
inline void lay_out(Piece *to, const bf16 *x, int64_t x_row, int64_t rows, int64_t inputs) {
    for (int64_t r = 0; r < rows; ++r)
        each_pair(inputs, [=](int64_t i, auto part) __attribute__((always_inline)) {
            Piece pieces[kSteps];
            split(pieces, load_pairs(x + r * x_row + i, part));
            UNROLL for (int s = 0; s < kSteps; ++s)
                to[(i / kPair * kSteps + s) * rows + r] = pieces[s];
        });
}

// Some rows and some outputs, all inputs.
inline void linear_block(bf16 *y, const bf16 *x, const bf16 *w, const bf16 *bias, int64_t rows,
                         int64_t inputs, int64_t outputs, int64_t y_row, int64_t x_row) {
    float sums[kBlockRows * kBlockOutputs];
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t o = 0; o < outputs; ++o)
            sums[r * kBlockOutputs + o] =
                bias ? bits_as<float>(static_cast<uint32_t>(bias[o].bits) << 16) : 0.0f;
    Piece laid[kTileRows * kSteps * kInputs / kPair];
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    for (int64_t i = 0; i < inputs; i += kInputs) {
        const int64_t count = inputs - i < kInputs ? inputs - i : kInputs;
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t begin = rows * tile / tiles;
            const int64_t some = rows * (tile + 1) / tiles - begin;
            // While the last tile is multiplied, the memory brings what comes next.
            int64_t ahead = 0;
            if (tiles == 1)
                ahead = kAhead * inputs;
            else if (tile == tiles - 1)
                ahead = i + kInputs < inputs ? kInputs : outputs * inputs;
            lay_out(laid, x + begin * x_row + i, x_row, some, count);
            kMultiplyTile[ahead == 0][some - 1](sums + begin * kBlockOutputs, laid, w + i, inputs, count,
                                    outputs, ahead);
        }
    }
    for (int64_t r = 0; r < rows; ++r)
        each_vector(0, outputs, [=, &sums](int64_t o, auto part) __attribute__((always_inline)) {
            store(y + r * y_row + o, load(sums + r * kBlockOutputs + o, part), part);
        });
}

inline void linear(void *y, const void *x, const void *w, const void *bias, int64_t rows,
                   int64_t inputs, int64_t outputs, int64_t x_row, int32_t threads) {
    // As many blocks as every thread gets equally many of.
    int64_t blocks = (outputs + kBlockOutputs - 1) / kBlockOutputs;
    if (threads > 1) blocks = (blocks + threads - 1) / threads * threads;
    const int64_t units = (outputs + kBlockAlign - 1) / kBlockAlign;
    const int64_t block = (units + blocks - 1) / blocks * kBlockAlign;
    // A row costs little beside reading w for the first one.
    const int64_t work = block * inputs * (rows < 4 ? 1 : rows / 4);
    split_rows(blocks, work, 65536, threads, [=](int64_t begin, int64_t end) {
        for (int64_t r = 0; r < rows; r += kBlockRows) {
            const int64_t some = rows - r < kBlockRows ? rows - r : kBlockRows;
            for (int64_t o = begin * block; o < end * block && o < outputs; o += block) {
                const int64_t count = outputs - o < block ? outputs - o : block;
                linear_block(static_cast<bf16 *>(y) + r * outputs + o,
                             static_cast<const bf16 *>(x) + r * x_row,
                             static_cast<const bf16 *>(w) + o * inputs,
                             bias ? static_cast<const bf16 *>(bias) + o : nullptr, some, inputs,
                             count, outputs, x_row);
            }
        }
    });
}

}  // namespace capyra::CAPYRA_ISA
