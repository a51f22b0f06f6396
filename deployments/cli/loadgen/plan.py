"""What is asked, how often and when. Pure and repeatable: one seed, one load."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from capyra.engine.errors import InvalidValue

Endpoint = Literal["chat", "completions"]
PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}

_WORDS = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work government
number night point home water room mother area money story fact month lot right study book
eye job word business issue side kind head house service friend father power hour game line
end member law car city community name president team minute idea body information back
parent face others level office door health person art war history party result change morning
reason research girl guy moment air teacher force education
""".split()  # noqa: SIM905 - a literal of a hundred lines says no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One load. With a `rate` requests come at times of their own, whatever the server does;
    without, `concurrency` clients each ask again when they were answered."""

    model: str
    endpoint: Endpoint = "chat"
    requests: int | None = 100
    seconds: float | None = None
    concurrency: int = 1
    rate: float | None = None
    burst: int = 1
    most_in_flight: int = 1024
    prompt_tokens: int = 128
    prefix_tokens: int = 0
    output_tokens: int = 64
    prompts: tuple[str, ...] = ()
    stream: bool = True
    timeout_s: float = 600.0
    warmup: int = 1
    seed: int = 0
    fields: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.requests is None and self.seconds is None:
            raise InvalidValue("say how long: a number of requests, or a duration")
        if self.rate is None and self.burst != 1:
            raise InvalidValue("bursts need a rate")
        if self.prefix_tokens > self.prompt_tokens:
            raise InvalidValue(
                f"the shared prefix ({self.prefix_tokens} tokens) is longer than the prompt "
                f"({self.prompt_tokens})"
            )

    @property
    def path(self) -> str:
        return PATHS[self.endpoint]


@dataclass(frozen=True, slots=True)
class Words:
    """How many words make a number of tokens: `tokens = each * words + fixed`.

    No tokenizer is needed: the server's own counts of two prompts tell.
    """

    each: float = 1.0
    fixed: float = 0.0
    measured: bool = False

    @classmethod
    def fit(cls, few: int, few_tokens: int, many: int, many_tokens: int) -> Words:
        each = (many_tokens - few_tokens) / (many - few)
        if each <= 0:
            return cls()
        return cls(each, few_tokens - each * few, measured=True)

    def count(self, tokens: int) -> int:
        return max(1, round((tokens - self.fixed) / self.each))


def arrivals(rate: float, burst: int, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests come: `rate` a second on average, `burst` at
    once, bursts as independent of each other as strangers are (Poisson)."""
    dice = random.Random(f"arrivals {seed}")
    at = 0.0
    while True:
        for _ in range(burst):
            yield at
        at += dice.expovariate(rate / burst)


def prompt(plan: Plan, index: int, words: Words) -> str:
    """The text of one request: its own words after the shared ones, so that no cache knows
    more of it than it was meant to."""
    if plan.prompts:
        return plan.prompts[index % len(plan.prompts)]
    shared = 0 if plan.prefix_tokens == 0 else Words(words.each).count(plan.prefix_tokens)
    own = max(1, words.count(plan.prompt_tokens) - shared)
    beginning = sample(f"prefix {plan.seed}", shared) if shared else ""
    return f"{beginning} {sample(f'prompt {plan.seed} {index}', own)}".lstrip()


def sample(seed: str, count: int) -> str:
    """So many common words."""
    return " ".join(random.Random(seed).choices(_WORDS, k=count))


def body(plan: Plan, text: str, *, output_tokens: int | None = None) -> dict[str, Any]:
    """The request for one text."""
    asked: dict[str, Any] = {
        "model": plan.model,
        "max_tokens": output_tokens or plan.output_tokens,
        "stream": plan.stream,
    }
    if plan.stream:
        asked["stream_options"] = {"include_usage": True}
    if plan.endpoint == "chat":
        asked["messages"] = [{"role": "user", "content": text}]
    else:
        asked["prompt"] = text
    return asked | plan.fields
