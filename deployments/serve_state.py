"""Serve's side of things that its public interface does not tell. The one file that leans on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve._private.common import DeploymentID
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.storage.kv_store import RayInternalKVStore
from ray.serve.handle import DeploymentHandle

from capyra.deployments.names import EXPERT_DEPLOYMENT
from capyra.deployments.reports import Asked, Poll
from capyra.deployments.rest import failure_of

KEY = "residency"


def open_handle(deployment: str, app: str) -> DeploymentHandle[Any]:
    """A handle, also to what is not deployed yet: applications come up in any order."""
    return DeploymentHandle(deployment, app)


async def ask(method: Any, *arguments: object, patience_s: float) -> Any:
    """Call a handle's method; `TimeoutError` after that long, and then the call is cancelled."""
    response = method.remote(*arguments)
    try:
        async with asyncio.timeout(patience_s):
            return await response
    finally:
        response.cancel()


class ServeCluster:
    """Serve and Ray, as residency reads and moves them.

    What must outlive Control lies in the store of Ray's GCS, beside Serve's own targets: whatever
    takes the one takes the other.
    """

    def __init__(self) -> None:
        self._store = RayInternalKVStore("capyra")
        self._names: dict[str, str] = {}

    async def read(self) -> str | None:
        """What was written last."""
        found = await asyncio.to_thread(self._store.get, KEY)
        return None if found is None else found.decode()

    async def write(self, text: str) -> None:
        await asyncio.to_thread(self._store.put, KEY, text.encode())

    async def poll(self) -> Poll:
        """What Serve is asked for, by expert (each is an application of that name)."""
        controller = await asyncio.to_thread(_controller)
        details: dict[str, Any] = await controller.get_serve_instance_details.remote()
        asked, stopping, names = {}, set(), {}
        for name, application in details["applications"].items():
            deployment = application["deployments"].get(EXPERT_DEPLOYMENT)
            if deployment is None:
                continue
            # One whose replica died is UNHEALTHY: Serve starts another.
            failed = application["status"] == "DEPLOY_FAILED"
            asked[name] = Asked(
                deployment["target_num_replicas"],
                failure_of(application) if failed else None,
                application["last_deployed_time_s"],
                application["status"] == "DEPLOYING",
            )
            for replica in deployment["replicas"]:
                names[replica["replica_id"]] = replica["actor_name"]
                if replica["state"] == "STOPPING":
                    stopping.add(replica["replica_id"])
        self._names = names
        return Poll(asked, frozenset(names), frozenset(stopping))

    async def nodes(self) -> Mapping[str, int]:
        """The nodes that are up, with the bytes that Ray was given there."""
        found = await asyncio.to_thread(ray.nodes)
        return {
            node["NodeID"]: int(node["Resources"].get("memory", 0))
            for node in found
            if node["Alive"]
        }

    async def set_target(self, expert: str, replicas: int) -> None:
        controller = await asyncio.to_thread(_controller)
        target = DeploymentID(EXPERT_DEPLOYMENT, expert)
        await controller.update_deployment_replicas.remote(target, replicas)

    async def kill(self, replica: str) -> None:
        """End a replica's process, if there is one still."""
        if (name := self._names.get(replica)) is not None:
            await asyncio.to_thread(_kill, name)


def _controller() -> Any:
    return ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)


def _kill(name: str) -> None:
    try:
        ray.kill(ray.get_actor(name, namespace=SERVE_NAMESPACE), no_restart=True)
    except (ValueError, RayError):
        return  # it has ended
