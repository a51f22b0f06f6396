/* Capyra's kernels behind a plain C ABI.
 *
 * One table of functions for each instruction set; the library holds no state. A kernel
 * allocates nothing and keeps nothing: every buffer is the caller's, every call stands alone,
 * and any number of threads may call at once. Sizes and strides count elements, not bytes.
 * Buffers need the alignment of one element only. bfloat16 is passed as its raw 16 bits;
 * sums and functions are computed in float32 and rounded once, to nearest even.
 *
 * `threads` is the most threads that a call may use. It uses fewer where the rows are too few
 * to pay for the fork, and one where the library was built without OpenMP.
 */
#ifndef CAPYRA_KERNELS_H
#define CAPYRA_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every change to the table below; a caller refuses a library of another number. */
#define CAPYRA_KERNELS_ABI 2

/* y = x / rms(x) * (weight + shift), row by row.
 *
 * Row (i, j), i < outer and j < inner, starts at x + i * x_outer + j * x_inner; y is dense.
 * With a residual (dense, else NULL) the row's x is first added into it, and the sum, rounded
 * to the element type, is what is normalised. y may be x when x is dense. `shift` is 0, or 1
 * for weights that are stored as their distance from one.
 */
typedef void capyra_rms_norm(void *y, const void *x, void *residual, const void *weight,
                             int64_t outer, int64_t inner, int64_t size, int64_t x_outer,
                             int64_t x_inner, float eps, float shift, int32_t threads);

/* y = activation(gate) * up, row by row; y is dense. `activation` is one of the below. */
enum { CAPYRA_SILU = 0, CAPYRA_GELU_TANH = 1 };
typedef void capyra_glu(void *y, const void *gate, const void *up, int64_t rows, int64_t size,
                        int64_t gate_row, int64_t up_row, int32_t activation, int32_t threads);

/* Turns `pairs` pairs of each head of q and k, in place, by the token's angles.
 *
 * Head h of token t starts at q + t * q_token + h * q_head. A pair is (i, i + pairs), or
 * (2i, 2i + 1) if interleaved; elements from 2 * pairs on are left alone. cos and sin hold
 * `pairs` values a token, `angle_token` apart.
 */
typedef void capyra_rope(void *q, void *k, const float *cos, const float *sin, int64_t tokens,
                         int64_t q_heads, int64_t k_heads, int64_t pairs, int64_t q_token,
                         int64_t q_head, int64_t k_token, int64_t k_head, int64_t angle_token,
                         int32_t interleaved, int32_t threads);

/* y = x wT (+ bias): `rows` rows of x, `x_row` apart, times a dense matrix, outputs x inputs, as
 * it is stored; y is dense. bias has one element an output, or is NULL. The bits of an element of
 * y depend on its row of x, its row of w and its bias alone: not on what else is computed.
 */
typedef void capyra_linear(void *y, const void *x, const void *w, const void *bias, int64_t rows,
                           int64_t inputs, int64_t outputs, int64_t x_row, int32_t threads);

/* Attention of single queries over paged K/V; y is dense, `rows` x heads x size.
 *
 * Row r's query of head h starts at q + r * q_row + h * size, and sees the tokens seen[2r] up to
 * and without seen[2r + 1], at least one, counted from the first of the blocks that its table
 * lists, at tables + r * width. A block of k and of v is dense, CAPYRA_BLOCK tokens x kv_heads x
 * size; kv_heads divides heads. Scores are multiplied by `scale` and, unless `softcap` is 0,
 * become softcap * tanh(score / softcap). heads / kv_heads * size is at most CAPYRA_PASS.
 */
enum { CAPYRA_BLOCK = 16, CAPYRA_PASS = 4096 };
typedef void capyra_attend(void *y, const void *q, const void *k, const void *v,
                           const int64_t *tables, const int64_t *seen, int64_t rows, int64_t width,
                           int64_t heads, int64_t kv_heads, int64_t size, int64_t q_row,
                           float scale, float softcap, int32_t threads);

typedef struct capyra_kernels {
    const char *isa;
    capyra_rms_norm *rms_norm_f32;
    capyra_rms_norm *rms_norm_bf16;
    capyra_glu *glu_f32;
    capyra_glu *glu_bf16;
    capyra_rope *rope_f32;
    capyra_rope *rope_bf16;
    capyra_linear *linear_bf16;
    capyra_attend *attend_f32;
    capyra_attend *attend_bf16;
} capyra_kernels;

int32_t capyra_kernels_abi(void);

/* The tables that this machine can run, best first: number 0 is the one to use, the last is
 * "scalar", and NULL comes after it. */
const capyra_kernels *capyra_kernels_at(int32_t number);

#ifdef __cplusplus
}
#endif

#endif
