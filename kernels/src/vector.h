// A vector of floats as wide as the registers of the instruction set that this is compiled for,
// and the ways between it and memory.
//
// Everything lives in a namespace named after the instruction set, and nothing here or in the
// kernels calls a library's inline function: the linker keeps one copy of those, and could keep
// the one that was compiled for instructions which the machine lacks.
#pragma once

#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

namespace capyra::CAPYRA_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kRegisters = 16;
#else
constexpr int kRegisters = 32;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

struct bf16 {
    uint16_t bits;
};

// How many elements of a vector are in memory: all of them, or, at the end of a row, some.
struct Whole {};
struct Part {
    int64_t count;
};

// A number as a type, for a lambda's argument.
template <int count>
struct Count {
    static constexpr int value = count;
};

template <class To, class From>
ALWAYS_INLINE To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

// Keeps a value in its register: g++ would rather load it again for every use.
template <class Vector>
ALWAYS_INLINE void hold(Vector &vector) {
#if defined(__AVX512F__)
    asm("" : "+v"(vector));
#elif defined(__x86_64__)
    asm("" : "+x"(vector));
#elif defined(__aarch64__)
    asm("" : "+w"(vector));
#endif
}

ALWAYS_INLINE Floats splat(float value) { return value - Floats{}; }

// Intrinsics where g++ 12 makes five instructions (AVX2) or goes element by element (NEON).
ALWAYS_INLINE Floats widen(Halves halves) {
#if defined(__ARM_NEON)
    return bits_as<Floats>(vshll_n_u16(bits_as<uint16x4_t>(halves), 16));
#elif defined(__AVX2__) && !defined(__AVX512F__)
    const Words words = bits_as<Words>(_mm256_cvtepu16_epi32(bits_as<__m128i>(halves)));
    return bits_as<Floats>(words << 16);
#else
    return bits_as<Floats>(__builtin_convertvector(halves, Words) << 16);
#endif
}

// Two products of bfloat16 added to each lane, where the processor has that in one instruction.
#if defined(__AVX512BF16__)
#define CAPYRA_DOT
ALWAYS_INLINE Floats dot(Floats sum, Words x, Words y) {
    return bits_as<Floats>(_mm512_dpbf16_ps(bits_as<__m512>(sum), bits_as<__m512bh>(x),
                                            bits_as<__m512bh>(y)));
}
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define CAPYRA_DOT
ALWAYS_INLINE Floats dot(Floats sum, Words x, Words y) {
    return bits_as<Floats>(vbfdotq_f32(bits_as<float32x4_t>(sum), bits_as<bfloat16x8_t>(x),
                                       bits_as<bfloat16x8_t>(y)));
}
#endif

// To nearest even; a NaN stays a NaN.
ALWAYS_INLINE Halves narrow(Floats floats) {
#if defined(__AVX512BF16__)
    return bits_as<Halves>(_mm512_cvtneps_pbh(bits_as<__m512>(floats)));
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    return bits_as<Halves>(vcvt_bf16_f32(bits_as<float32x4_t>(floats)));
#else
    const Words word = bits_as<Words>(floats);
    const Words rounded = word + (((word >> 16) & 1) + 0x7fff);
    const Words quiet = word | 0x400000;
    const Words high = (floats == floats ? rounded : quiet) >> 16;
#if defined(__ARM_NEON)
    return bits_as<Halves>(vmovn_u32(bits_as<uint32x4_t>(high)));
#elif defined(__AVX2__) && !defined(__AVX512F__)
    const __m256i packed = _mm256_packus_epi32(bits_as<__m256i>(high), bits_as<__m256i>(high));
    return bits_as<Halves>(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0xd8)));
#else
    return __builtin_convertvector(high, Halves);
#endif
#endif
}

ALWAYS_INLINE Floats load(const float *from, Whole) {
    Floats floats;
    __builtin_memcpy(&floats, from, sizeof floats);
    return floats;
}
ALWAYS_INLINE Floats load(const bf16 *from, Whole) {
    Halves halves;
    __builtin_memcpy(&halves, from, sizeof halves);
    return widen(halves);
}
ALWAYS_INLINE void store(float *to, Floats floats, Whole) {
    __builtin_memcpy(to, &floats, sizeof floats);
}
ALWAYS_INLINE void store(bf16 *to, Floats floats, Whole) {
    const Halves halves = narrow(floats);
    __builtin_memcpy(to, &halves, sizeof halves);
}

// Missing elements are loaded as zero and not stored.
template <class T>
ALWAYS_INLINE Floats load(const T *from, Part part) {
    T buffer[kLanes] = {};
    __builtin_memcpy(buffer, from, part.count * sizeof(T));
    return load(buffer, Whole{});
}
template <class T>
ALWAYS_INLINE void store(T *to, Floats floats, Part part) {
    T buffer[kLanes];
    store(buffer, floats, Whole{});
    __builtin_memcpy(to, buffer, part.count * sizeof(T));
}

// Calls body(i, Whole) for each whole vector of a row and body(i, Part) for what is left.
template <class Body>
ALWAYS_INLINE void each_vector(int64_t begin, int64_t size, Body body) {
    int64_t i = begin;
    for (; i + kLanes <= size; i += kLanes) body(i, Whole{});
    if (i < size) body(i, Part{size - i});
}

ALWAYS_INLINE float sum_lanes(Floats floats) {
    float buffer[kLanes];
    __builtin_memcpy(buffer, &floats, sizeof buffer);
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) buffer[i] += buffer[i + width];
    return buffer[0];
}

struct Pair {
    Floats a, b;
};

template <int... i>
struct Lanes {};
template <int count, int... i>
struct CountLanes : CountLanes<count - 1, count - 1, i...> {};
template <int... i>
struct CountLanes<0, i...> {
    using type = Lanes<i...>;
};

// Even elements of two adjoining vectors and odd ones, and back.
template <int... i>
ALWAYS_INLINE Pair unzip(Pair x, Lanes<i...>) {
    return {__builtin_shufflevector(x.a, x.b, (2 * i)...),
            __builtin_shufflevector(x.a, x.b, (2 * i + 1)...)};
}
template <int... i>
ALWAYS_INLINE Pair zip(Pair x, Lanes<i...>) {
    return {__builtin_shufflevector(x.a, x.b, (i / 2 + i % 2 * kLanes)...),
            __builtin_shufflevector(x.a, x.b, ((kLanes + i) / 2 + i % 2 * kLanes)...)};
}

// Where lane i of a fold comes from, in the first vector or, from kLanes on, in the second one.
// Both hold pieces of `width` lanes, and the fold holds a half of each: low or high ones. Pieces
// of up to four stay in their quarter, because shuffles across are slow.
constexpr int folded(int i, int width, int high) {
    if (width > 4) {
        const int half = width / 2, piece = i / half;
        return piece % 2 * kLanes + piece / 2 * width + i % half + high * half;
    }
    return i % 4 / 2 * kLanes + i / 4 * 4 + i % 2 * (width == 4 ? 1 : 2) + high * width / 2;
}
template <int width, int... i>
ALWAYS_INLINE Floats fold(Floats a, Floats b, Lanes<i...>) {
    return __builtin_shufflevector(a, b, folded(i, width, 0)...) +
           __builtin_shufflevector(a, b, folded(i, width, 1)...);
}

template <int count>
ALWAYS_INLINE void fold_all(Floats *x) {
    const typename CountLanes<kLanes>::type lanes;
    UNROLL for (int i = 0; i < count / 2; ++i) x[i] = fold<count>(x[2 * i], x[2 * i + 1], lanes);
    if constexpr (count > 2) fold_all<count / 2>(x);
}

// The sums of kLanes vectors' lanes, one in each lane of the result, all added in the same order.
ALWAYS_INLINE Floats sum_each(const Floats *x) {
    constexpr int quarters = kLanes / 4;
    Floats folds[kLanes];
    UNROLL for (int i = 0; i < kLanes; ++i) {
        const int quarter = i / 4;
        const int place = quarters == 4 ? quarter % 2 * 2 + quarter / 2 : quarter;
        folds[i % 4 * quarters + place] = x[i];
    }
    fold_all<kLanes>(folds);
    return folds[0];
}

}  // namespace capyra::CAPYRA_ISA
