"""What the gateway counts. `docs/metrics.md` lists the names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Record:
    """One request, filled in while it is served and handed over once, at its end."""

    route: str = ""
    expert: str = ""
    """Empty until an expert of that name was found: names that clients invent never get here."""
    status: int = 0
    """0: the client went away before it got one."""
    code: str = ""
    """The error's code; empty if nothing failed."""
    seconds: float = 0.0
    first_token_s: float | None = None
    last_token_s: float = 0.0
    longest_gap_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def token(self, at: float) -> None:
        """Tokens came, `at` seconds after the request."""
        if self.first_token_s is None:
            self.first_token_s = at
        elif at - self.last_token_s > self.longest_gap_s:
            self.longest_gap_s = at - self.last_token_s
        self.last_token_s = at

    @property
    def token_gap_s(self) -> float | None:
        """Mean time between tokens."""
        if self.first_token_s is None or self.completion_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.completion_tokens - 1)


class Meters(Protocol):
    """Counts requests. Called on the loop, once at each end of a request, so it may cost some
    microseconds and must not wait."""

    def began(self, route: str) -> None: ...

    def ended(self, record: Record) -> None: ...

    def exposition(self) -> bytes:
        """Everything counted, as Prometheus reads it."""


@dataclass(frozen=True, slots=True)
class _Answers:
    """What is counted of one expert's answers. Kept, because finding a metric by its labels
    takes longer than counting."""

    prompt: Counter
    cached: Counter
    completion: Counter
    first: Histogram
    gap: Histogram
    longest: Histogram

    def count(self, record: Record) -> None:
        self.prompt.inc(record.prompt_tokens)
        self.cached.inc(record.cached_tokens)
        self.completion.inc(record.completion_tokens)
        if record.first_token_s is not None:
            self.first.observe(record.first_token_s)
        if (gap := record.token_gap_s) is not None:
            self.gap.observe(gap)
            self.longest.observe(record.longest_gap_s)


class PrometheusMeters:
    """Meters of one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        by_expert = ("expert",)
        self._in_flight = Gauge(
            "capyra_requests_in_flight", "Requests being served", ("route",), registry=registry
        )
        self._requests = Counter(
            "capyra_requests",
            "Requests served, by HTTP status",
            ("route", "expert", "status"),
            registry=registry,
        )
        self._errors = Counter(
            "capyra_errors",
            "Requests that failed, also after headers, by error code",
            ("route", "expert", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "capyra_request_seconds",
            "Whole requests",
            ("route", "expert"),
            buckets=SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "capyra_first_token_seconds",
            "From the request to its first token",
            by_expert,
            buckets=SECONDS,
            registry=registry,
        )
        self._gap = Histogram(
            "capyra_token_gap_seconds",
            "Mean time between the tokens of an answer",
            by_expert,
            buckets=SECONDS,
            registry=registry,
        )
        self._longest = Histogram(
            "capyra_longest_token_gap_seconds",
            "Longest time between two tokens of an answer",
            by_expert,
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "capyra_tokens",
            "Tokens of prompts, of prompts found in the K/V cache, of answers",
            ("expert", "kind"),
            registry=registry,
        )

        self._answers: dict[str, _Answers] = {}

    def began(self, route: str) -> None:
        self._in_flight.labels(route).inc()

    def ended(self, record: Record) -> None:
        expert = record.expert
        self._in_flight.labels(record.route).dec()
        self._requests.labels(record.route, expert, str(record.status)).inc()
        self._seconds.labels(record.route, expert).observe(record.seconds)
        if record.code:
            self._errors.labels(record.route, expert, record.code).inc()
        if record.prompt_tokens or record.first_token_s is not None:
            self._answer(expert).count(record)

    def _answer(self, expert: str) -> _Answers:
        if expert not in self._answers:
            self._answers[expert] = _Answers(
                self._tokens.labels(expert, "prompt"),
                self._tokens.labels(expert, "cached"),
                self._tokens.labels(expert, "completion"),
                self._first.labels(expert),
                self._gap.labels(expert),
                self._longest.labels(expert),
            )
        return self._answers[expert]

    def exposition(self) -> bytes:
        return generate_latest(self._registry)
