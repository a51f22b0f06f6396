"""`/v1/experts`: what operators see of residency, and say about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from capyra.deployments.experts import ExpertStatus, ExpertView
from capyra.deployments.gateway.fields import Body, KeepAlive
from capyra.engine.errors import CapacityError, InvalidValue
from capyra.orchestrator.residency.events import Hold, Release


class KeepAliveBody(Body):
    """What an operator may say of an expert's keep-alive."""

    keep_alive: KeepAlive | None = Field(
        description="How long weights stay after the last request; null: as the experts file says"
    )


class ScaleBody(Body):
    """What an operator may say of an expert's number of replicas."""

    replicas: int | Literal["auto"] = Field(
        description="How many there shall be until another word, 0 to stop it; auto: as its load "
        "needs"
    )

    def word(self, view: ExpertView) -> Hold | Release:
        if self.replicas == "auto":
            return Release(view.name)
        most = view.config.replicas.max
        if not 0 <= self.replicas <= most:
            raise InvalidValue(
                f"{view.name!r} may have 0 to {most} replicas: raise its `replicas.max` in the "
                "experts file and deploy it",
                param="replicas",
            )
        return Hold(view.name, self.replicas)


def listing(statuses: Iterable[ExpertStatus]) -> dict[str, Any]:
    ordered = sorted(statuses, key=lambda each: each.name)
    return {"object": "list", "data": [asdict(each) for each in ordered]}


def one(statuses: Iterable[ExpertStatus], name: str) -> dict[str, Any]:
    for each in statuses:
        if each.name == name:
            return asdict(each)
    raise CapacityError(f"Control does not know {name!r} yet: try again shortly", retry_after_s=1)
