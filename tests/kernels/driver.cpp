// Runs kernels for a test on another machine: reads calls on stdin, answers with the buffers as
// the kernel left them. So the tests of this folder run unchanged on an emulated processor.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "capyra_kernels.h"

namespace {

struct Call {
    char isa[16];
    char kernel[16];
    uint32_t buffers, pointers, ints, floats;
};

struct Pointer {
    int64_t buffer;  // -1 is NULL
    int64_t offset;  // in bytes
};

bool read(void *to, size_t size) { return fread(to, 1, size, stdin) == size; }

template <class T>
std::vector<T> read_many(size_t count) {
    std::vector<T> values(count);
    if (!read(values.data(), count * sizeof(T))) exit(2);
    return values;
}

void answer(const void *from, size_t size) { fwrite(from, 1, size, stdout); }

const capyra_kernels *find(const char *isa) {
    for (int32_t i = 0; const capyra_kernels *kernels = capyra_kernels_at(i); ++i)
        if (!strcmp(kernels->isa, isa)) return kernels;
    exit(3);
}

// In the order of the header's parameters: pointers, then integers, with the floats apart.
void run(const capyra_kernels *k, const std::string &name, void **p, const int64_t *i,
         const float *f) {
    const bool half = name.size() > 5 && name.compare(name.size() - 5, 5, "_bf16") == 0;
    if (name.compare(0, 8, "rms_norm") == 0)
        (half ? k->rms_norm_bf16 : k->rms_norm_f32)(p[0], p[1], p[2], p[3], i[0], i[1], i[2], i[3],
                                                    i[4], f[0], f[1], i[5]);
    else if (name.compare(0, 3, "glu") == 0)
        (half ? k->glu_bf16 : k->glu_f32)(p[0], p[1], p[2], i[0], i[1], i[2], i[3], i[4], i[5]);
    else if (name.compare(0, 6, "linear") == 0)
        k->linear_bf16(p[0], p[1], p[2], p[3], i[0], i[1], i[2], i[3], i[4]);
    else if (name.compare(0, 6, "attend") == 0)
        (half ? k->attend_bf16 : k->attend_f32)(
            p[0], p[1], p[2], p[3], static_cast<int64_t *>(p[4]), static_cast<int64_t *>(p[5]),
            i[0], i[1], i[2], i[3], i[4], i[5], f[0], f[1], i[6]);
    else
        (half ? k->rope_bf16 : k->rope_f32)(p[0], p[1], static_cast<float *>(p[2]),
                                            static_cast<float *>(p[3]), i[0], i[1], i[2], i[3],
                                            i[4], i[5], i[6], i[7], i[8], i[9], i[10]);
}

}  // namespace

int main() {
    for (int32_t i = 0; const capyra_kernels *kernels = capyra_kernels_at(i); ++i)
        printf("%s ", kernels->isa);
    printf("\n");
    fflush(stdout);
    for (Call call; read(&call, sizeof call);) {
        std::vector<std::vector<char>> buffers(call.buffers);
        for (auto &buffer : buffers) buffer = read_many<char>(read_many<int64_t>(1)[0]);
        std::vector<void *> pointers;
        for (const Pointer &p : read_many<Pointer>(call.pointers))
            pointers.push_back(p.buffer < 0 ? nullptr : buffers[p.buffer].data() + p.offset);
        const auto ints = read_many<int64_t>(call.ints);
        const auto floats = read_many<float>(call.floats);
        run(find(call.isa), call.kernel, pointers.data(), ints.data(), floats.data());
        for (const auto &buffer : buffers) answer(buffer.data(), buffer.size());
        fflush(stdout);
    }
}
