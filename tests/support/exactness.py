"""How tests of kernels make tensors, and how close to exact a result has to be."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
ROUNDING = {"f32": 2.0**-24, "bf16": 2.0**-8}
"""Half a unit in the last place, relative: what the one rounding at the end may cost."""
ARITHMETIC = 3e-6
"""What sums and exp in float32 may cost, relative to the largest term."""
TINY = 2.0**-126
"""AVX-512's and the emulator's bf16 conversions flush what is smaller to zero."""

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
lengths = st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 256, 1000, 1024]))
dtypes = st.sampled_from(["f32", "bf16"])
seeds = st.integers(0, 2**31)
scales = st.sampled_from([2.0**-40, 2.0**-6, 1.0, 30.0, 2.0**40])
SPECIAL = [torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1e-42, -1e-40, 1e-38, 88.5, -88.5, -104.0]


class Memory:
    """Makes tensors that start at an odd element and are surrounded by NaN, which a kernel that
    reads too far would carry into its result and one that writes too far would overwrite."""

    def __init__(self, seed: int, dtype: str) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._dtype = DTYPES[dtype]
        self._made: list[tuple[Tensor, Tensor]] = []

    def __call__(
        self, *shape: int, scale: float = 1.0, gap: int = 0, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Normal numbers; `gap` elements lie between the rows of the last dimension."""
        padded = (*shape[:-1], shape[-1] + gap)
        count = torch.Size(padded).numel()
        guard = int(torch.randint(1, 20, (), generator=self._random))
        around = torch.full((count + 2 * guard,), torch.nan, dtype=dtype or self._dtype)
        tensor = around[guard : guard + count].view(padded)[..., : shape[-1]]
        tensor.copy_(torch.randn(shape, generator=self._random) * scale)
        self._made.append((around, tensor))
        return tensor

    def check_guards(self) -> None:
        for around, tensor in self._made:
            inside = torch.zeros_like(around, dtype=torch.bool)
            inside.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
            assert around[~inside].isnan().all(), "written outside of the tensor"


def assert_close(got: Tensor, want: Tensor, dtype: str, terms: Tensor) -> None:
    """`want` is exact; `terms` is how large the numbers were that it was summed from."""
    allowed = want.abs() * ROUNDING[dtype] * 1.01 + terms * ARITHMETIC + TINY
    error = (got.double() - want).abs()
    wrong = ~(error <= allowed)
    assert not wrong.any(), f"{got[wrong][:5]} instead of {want[wrong][:5]}"


def assert_same(got: Tensor, want: Tensor, dtype: str) -> None:
    """Close to the scalar twin's; NaN and infinity in the same places."""
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.isinf(), want.isinf())
    finite = want.isfinite()
    assert torch.equal(got[got.isinf()], want[want.isinf()])
    torch.testing.assert_close(
        got[finite].double(), want[finite].double(), rtol=max(2 * ROUNDING[dtype], 1e-5), atol=1e-30
    )
