"""Serve's side of things that its public interface does not tell. The one file that leans on it."""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.handle import DeploymentHandle

from capyra.deployments.names import EXPERT_DEPLOYMENT


def open_handle(deployment: str, app: str) -> DeploymentHandle[Any]:
    """A handle, also to what is not deployed yet: applications come up in any order."""
    return DeploymentHandle(deployment, app)


async def read_targets() -> dict[str, int]:
    """The replicas that Serve is asked for, by expert (each is an application of that name)."""
    controller: Any = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    details: dict[str, Any] = await controller.get_serve_instance_details.remote()
    targets = {}
    for name, application in details["applications"].items():
        deployment = application["deployments"].get(EXPERT_DEPLOYMENT)
        if deployment is not None:
            targets[name] = deployment["target_num_replicas"]
    return targets
