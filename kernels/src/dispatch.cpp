// Which tables this machine can run. The only code that asks the processor.
#include "capyra_kernels.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace capyra {

// Best first.
#if defined(__x86_64__)
#define CAPYRA_TABLES TABLE(avx512bf16) TABLE(avx512) TABLE(avx2) TABLE(scalar)
#elif defined(__aarch64__)
#define CAPYRA_TABLES TABLE(neonbf16) TABLE(neon) TABLE(scalar)
#else
#define CAPYRA_TABLES TABLE(scalar)
#endif

#define TABLE(isa)                       \
    namespace isa {                      \
    extern const capyra_kernels kernels; \
    }
CAPYRA_TABLES
#undef TABLE

namespace {

// The features that each instruction set's file was compiled for (CMakeLists.txt).
#if defined(__x86_64__)
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#elif defined(__aarch64__)
bool has_neon() { return true; }
bool has_neonbf16() { return getauxval(AT_HWCAP2) & HWCAP2_BF16; }
#endif
bool has_scalar() { return true; }

struct Candidate {
    const capyra_kernels *kernels;
    bool (*runs_here)();
};

const Candidate candidates[] = {
#define TABLE(isa) {&isa::kernels, has_##isa},
    CAPYRA_TABLES
#undef TABLE
};

}  // namespace
}  // namespace capyra

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int32_t capyra_kernels_abi(void) { return CAPYRA_KERNELS_ABI; }

EXPORTED const capyra_kernels *capyra_kernels_at(int32_t number) {
    for (const capyra::Candidate &candidate : capyra::candidates)
        if (candidate.runs_here() && number-- == 0) return candidate.kernels;
    return nullptr;
}
