"""What an operator decides for all experts together: memory, routing, panels.

The experts themselves are described by `engine.config.ExpertConfig`.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from capyra.engine.config import Bytes, ExpertName, KeepAlive, Seconds, Settings, Text

BUILT_IN_MODELS = frozenset({"auto", "consensus"})
"""Virtual models that are there without being named."""


class Residency(Settings):
    """How many experts are in memory, and for how long. The narrower of two limits holds."""

    max_resident: int = Field(
        default=5, ge=1, le=4096, description="Most experts with weights in memory on one node"
    )
    node_memory: Bytes | None = Field(
        default=None,
        gt=0,
        description="Bytes of weights and K/V on one node; by default what the node can spare",
    )
    total_memory: Bytes | None = Field(
        default=None, gt=0, description="The same on all nodes together; by default no limit"
    )
    warm: int = Field(
        default=2,
        ge=0,
        le=4096,
        description="Experts kept ready without requests, the likeliest to be asked next; "
        "never more than `max_resident`",
    )
    keep_alive: KeepAlive = Field(
        default=300.0, description="`keep_alive` of the experts that do not say"
    )
    parked: int = Field(
        default=5, ge=0, le=4096, description="Most processes without weights kept on one node"
    )
    parked_keep_alive: Seconds = Field(
        default=1800, description="How long a process without weights is kept"
    )
    stay: Seconds = Field(
        default=5, description="How long an expert stays at least before another takes its room"
    )
    turn: Seconds = Field(
        default=30,
        gt=0,
        description="How long a request waits at most before a busy expert that had its room as "
        "long makes way",
    )
    waiting: int = Field(
        default=4096, ge=1, le=65536, description="Most requests that wait for experts to be ready"
    )
    start_deadline: Seconds = Field(
        default=300,
        gt=0,
        description="Longest a process may take to come up, which may need a new node first",
    )
    load_deadline: Seconds = Field(default=600, gt=0, description="Longest a load may take")

    @model_validator(mode="after")
    def _consistent(self) -> Residency:
        if "warm" in self.model_fields_set and self.warm > self.max_resident:
            raise ValueError(
                f"warm ({self.warm}) is more than max_resident ({self.max_resident}); "
                "lower one or raise the other"
            )
        if self.node_memory and self.total_memory and self.node_memory > self.total_memory:
            raise ValueError("node_memory is more than total_memory; lower one or raise the other")
        return self


class Weights(Settings):
    """An expert's score for a request is its expected quality less its price."""

    quality: float = Field(default=1.0, ge=0, le=1000, description="Worth of a surely good answer")
    wait: float = Field(
        default=0.05, ge=0, le=1000, description="Price of each second until the first token"
    )


class Rule(Settings):
    """What holds for the prompts that a pattern matches, whatever the scores."""

    pattern: Text = Field(description="Regular expression, searched in the prompt's text")
    allow: tuple[ExpertName, ...] = Field(default=(), description="Only these may answer")
    deny: tuple[ExpertName, ...] = Field(default=(), description="These may not")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{pattern!r:.60} is no regular expression ({error}); mend it, or escape its marks"
            ) from error
        return pattern

    @model_validator(mode="after")
    def _one_effect(self) -> Rule:
        if bool(self.allow) == bool(self.deny):
            raise ValueError("a rule has one effect; write either `allow` or `deny`")
        return self


class Routing(Settings):
    """How `auto`, and virtual models with a route, find their expert."""

    weights: Weights = Field(default=Weights(), description="What counts for how much")
    rules: tuple[Rule, ...] = Field(default=(), description="Hard rules; all that match hold")


class Route(Settings):
    """One expert answers, chosen for each request."""

    experts: tuple[ExpertName, ...] = Field(
        default=(), description="Those to choose from; by default all"
    )
    strategy: Literal["best", "fast", "cheap", "cascade"] = Field(
        default="best", description="What the choice is for; cascade: cheap first, then better"
    )


class Panel(Settings):
    """Several experts answer, one answer comes out."""

    members: tuple[ExpertName, ...] = Field(
        default=(), description="Who is asked; by default the router picks"
    )
    size: int = Field(
        default=3, ge=2, le=16, description="How many the router picks if no members are named"
    )
    quorum: int | None = Field(
        default=None, ge=1, le=16, description="Answers that must agree; by default more than half"
    )
    deadline: Seconds = Field(default=60, gt=0, description="Longest a member is waited for")
    strategy: Literal["vote", "weighted", "medoid", "rank", "synthesis", "debate", "self"] = Field(
        default="vote", description="How one answer is made of several"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Panel:
        if len(set(self.members)) < len(self.members):
            raise ValueError("a member is named twice; remove one of the two")
        seats = len(self.members) or self.size
        if self.quorum is not None and self.quorum > seats:
            raise ValueError(f"quorum ({self.quorum}) is more than are asked ({seats}); lower it")
        return self


class VirtualModel(Settings):
    """A route or a panel under a model name."""

    description: str = Field(default="", description="A sentence for `/v1/models` and people")
    route: Route | None = Field(default=None, description="One expert answers")
    panel: Panel | None = Field(default=None, description="Several answer")

    @model_validator(mode="after")
    def _one_of_two(self) -> VirtualModel:
        if (self.route is None) == (self.panel is None):
            raise ValueError("a virtual model is one of two things; write `route` or `panel`")
        return self
