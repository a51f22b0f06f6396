// Rows split over threads. Rows are independent, so the result does not depend on the split.
#pragma once

#include <stdint.h>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace capyra::CAPYRA_ISA {

// Calls body(begin, end) over parts of 0..rows, on at most `threads` threads and with at least
// `grain` elements to a thread, which is some 10 µs of work: fork and join cost about 1 µs on an
// idle machine, and a whole time slice where another process holds the core of one's helper.
template <class Body>
inline void split_rows(int64_t rows, int64_t size, int64_t grain, int32_t threads, Body body) {
#ifdef _OPENMP
    const int64_t worth = rows * size / grain;
    int64_t use = worth < rows ? worth : rows;
    if (use > threads) use = threads;
    if (use > 1) {
#pragma omp parallel num_threads(static_cast<int>(use))
        {
            const int64_t part = omp_get_thread_num();
            const int64_t parts = omp_get_num_threads();
            body(rows * part / parts, rows * (part + 1) / parts);
        }
        return;
    }
#else
    (void)size, (void)grain, (void)threads;
#endif
    body(0, rows);
}

}  // namespace capyra::CAPYRA_ISA
