"""Serve's side of things that its public interface does not tell. The one file that leans on it."""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.handle import DeploymentHandle

from capyra.deployments.names import EXPERT_DEPLOYMENT
from capyra.deployments.reports import Asked
from capyra.deployments.rest import failure_of


def open_handle(deployment: str, app: str) -> DeploymentHandle[Any]:
    """A handle, also to what is not deployed yet: applications come up in any order."""
    return DeploymentHandle(deployment, app)


async def read_asked() -> dict[str, Asked]:
    """What Serve is asked for, by expert (each is an application of that name)."""
    controller: Any = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    details: dict[str, Any] = await controller.get_serve_instance_details.remote()
    found = {}
    for name, application in details["applications"].items():
        deployment = application["deployments"].get(EXPERT_DEPLOYMENT)
        if deployment is not None:
            # One whose replica died is UNHEALTHY: Serve starts another.
            failed = application["status"] == "DEPLOY_FAILED"
            found[name] = Asked(
                deployment["target_num_replicas"], failure_of(application) if failed else None
            )
    return found
