"""The experts file as Serve's config: what `serve deploy` and Serve's REST understand."""

from __future__ import annotations

from typing import Any

from capyra.deployments.experts_file import ExpertsFile
from capyra.deployments.names import (
    CONTROL_APP,
    CONTROL_DEPLOYMENT,
    EXPERT_DEPLOYMENT,
    GATEWAY_APP,
    GATEWAY_DEPLOYMENT,
)
from capyra.engine.config import ExpertConfig

ON_HEAD = {"node:__internal_head__": 0.001}
DRAIN_POLL_S = 0.2
GATEWAY_DRAIN_S = 35.0
"""Serve holds an ingress replica open for at least 30 s while HAProxy lets go of it."""


def render(file: ExpertsFile) -> dict[str, Any]:
    """One application for control, one for the gateway, one for each active expert."""
    server = file.server
    experts = {name: expert for name, expert in file.experts.items() if expert.active}
    return {
        # Proxies reach gateways at the server's own address: on loopback, only those of their
        # own node. So there is one proxy, and the gateways are beside it.
        "proxy_location": "EveryNode" if server.exposed else "HeadOnly",
        "http_options": {"host": server.host, "port": server.port},
        "logging_config": {"encoding": "JSON", "enable_access_log": False},
        "applications": [
            _control(file, experts),
            _gateway(file, experts),
            *(_expert(file, name, expert) for name, expert in experts.items()),
        ],
    }


def _control(file: ExpertsFile, experts: dict[str, ExpertConfig]) -> dict[str, Any]:
    deployment = {
        "name": CONTROL_DEPLOYMENT,
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0},
        "user_config": {
            "experts": {
                name: {"config": expert.model_dump(mode="json"), "model": _model(file, name)}
                for name, expert in experts.items()
            },
            "residency": file.residency.model_dump(mode="json", exclude_unset=True),
        },
    }
    return _application(CONTROL_APP, "control", None, deployment)


def _gateway(file: ExpertsFile, experts: dict[str, ExpertConfig]) -> dict[str, Any]:
    deployment = {
        "name": GATEWAY_DEPLOYMENT,
        "num_replicas": file.server.replicas,
        "ray_actor_options": {
            "num_cpus": 0,
            "resources": {} if file.server.exposed else ON_HEAD,
        },
        "graceful_shutdown_wait_loop_s": DRAIN_POLL_S,
        "graceful_shutdown_timeout_s": GATEWAY_DRAIN_S,
        "user_config": {
            "server": file.server.model_dump(mode="json"),
            "experts": {name: expert.model_dump(mode="json") for name, expert in experts.items()},
        },
    }
    return _application(GATEWAY_APP, "gateway", "/", deployment)


def _expert(file: ExpertsFile, name: str, expert: ExpertConfig) -> dict[str, Any]:
    room = expert.queue.running + expert.queue.waiting
    deployment = {
        "name": EXPERT_DEPLOYMENT,
        "num_replicas": max(1, expert.replicas.initial),
        "ray_actor_options": {
            # Weights are admitted by byte leases, not by CPUs: a static reservation for every
            # expert would leave most of them pending.
            "num_cpus": 0,
            "num_gpus": expert.resources.gpus,
            "memory": expert.resources.parked_memory,
        },
        # The replica refuses what is over its waiting room, with a reason; Serve's own limit
        # stands behind it, so that probes and tokenizing still get through.
        "max_ongoing_requests": 2 * room + 16,
        # While it has no replica yet, or none that takes more, each gateway holds so many.
        "max_queued_requests": room,
        "graceful_shutdown_wait_loop_s": DRAIN_POLL_S,
        "graceful_shutdown_timeout_s": expert.queue.deadline + 5,
        "health_check_period_s": 2,
        "user_config": {
            "name": name,
            "config": expert.model_dump(mode="json"),
            "model": _model(file, name),
        },
    }
    return {
        **_application(name, "expert", None, deployment),
        "external_scaler_enabled": True,
    }


def _model(file: ExpertsFile, name: str) -> str | None:
    path = file.model_path(name)
    return None if path is None else str(path)


def _application(
    name: str, builder: str, route: str | None, deployment: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": route,
        "import_path": f"capyra.deployments.apps:{builder}",
        "deployments": [deployment],
    }
