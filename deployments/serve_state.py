"""What only Serve's controller knows. The one file that leans on its internal interface."""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from capyra.deployments.names import EXPERT_DEPLOYMENT


async def read_targets() -> dict[str, int]:
    """The replicas that Serve is asked for, by expert (each is an application of that name)."""
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    details: dict[str, Any] = await controller.get_serve_instance_details.remote()
    targets = {}
    for name, application in details["applications"].items():
        deployment = application["deployments"].get(EXPERT_DEPLOYMENT)
        if deployment is not None:
            targets[name] = deployment["target_num_replicas"]
    return targets
