// The vector kernels as one table. Compiled once for each instruction set, with CAPYRA_ISA as
// its name and the compiler's flags to match.
#include "vector.h"

#include "attend.h"
#include "capyra_kernels.h"
#include "glu.h"
#include "linear.h"
#include "rms_norm.h"
#include "rope.h"

#define STRING(name) #name
#define NAME(isa) STRING(isa)

namespace capyra::CAPYRA_ISA {

extern const capyra_kernels kernels;
const capyra_kernels kernels = {
    NAME(CAPYRA_ISA), rms_norm<float>, rms_norm<bf16>, glu<float>,    glu<bf16>,
    rope<float>,      rope<bf16>,      linear,         attend<float>, attend<bf16>,
};

}  // namespace capyra::CAPYRA_ISA
