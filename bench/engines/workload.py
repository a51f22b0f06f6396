"""What the engines are asked, the same for all of them, and what is read from their answers."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

from bench.engines.lines import Answer, Request
from bench.engines.model import VOCABULARY

PREFIX = 1024
QUESTION = 8
"""Tokens that follow a shared prefix."""


class Workload:
    """Prompts of random tokens; no two are equal unless they are meant to be."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._salts = 0

    def prompt(self, length: int) -> list[int]:
        return [self._random.randrange(2, VOCABULARY) for _ in range(length)]

    def salt(self) -> str:
        self._salts += 1
        return f"{self._random.random()}/{self._salts}"

    def first(self) -> list[Request]:
        """The smallest request there is: what a cold start waits for."""
        return [Request(self.prompt(16), 1)]

    def prefill(self, length: int) -> list[Request]:
        return [Request(self.prompt(length), 1)]

    def decode(self, batch: int, length: int, count: int) -> list[Request]:
        return [Request(self.prompt(length), count) for _ in range(batch)]

    def prefix(self, count: int) -> tuple[list[Request], list[Request], list[Request]]:
        """Who leaves the prefix behind, who finds it, and the same for somebody else's tenant,
        who does not."""
        shared, salt = self.prompt(PREFIX), self.salt()
        asked = shared + self.prompt(QUESTION)
        return (
            [Request(shared + self.prompt(QUESTION), 1, salt)],
            [Request(asked, count, salt)],
            [Request(asked, count, self.salt())],
        )

    def poisson(self, count: int, rate: float) -> list[Request]:
        """Short answers to questions after one of four prefixes of 256 tokens."""
        salt = self.salt()
        shared = [self.prompt(256) for _ in range(4)]
        moment = 0.0
        found = []
        for _ in range(count):
            tokens = self._random.choice(shared) + self.prompt(32)
            found.append(Request(tokens, 16, salt, moment))
            moment += self._random.expovariate(rate)
        return found


def first_tokens(requests: Sequence[Request], answers: Sequence[Answer]) -> list[float]:
    """Seconds from each arrival to its first token."""
    return [a.stamps[0] - r.at for r, a in zip(requests, answers, strict=True)]


def decode_rate(answers: Sequence[Answer]) -> float:
    """Tokens a second of all, from the moment when all are being written to the end of the first
    of them that ends."""
    begin = max(answer.stamps[0] for answer in answers)
    end = min(answer.stamps[-1] for answer in answers)
    return sum(begin < s <= end for answer in answers for s in answer.stamps) / (end - begin)


def step(answer: Answer) -> float:
    """Seconds between two tokens, the median."""
    pairs = zip(answer.stamps, answer.stamps[1:], strict=False)
    return statistics.median(after - before for before, after in pairs)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
