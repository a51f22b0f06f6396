"""Serve's REST interface, as the dashboard offers it: deploy, look, scale."""

from __future__ import annotations

import os
import re
from typing import Any

import httpx

from capyra.deployments import ray_token
from capyra.deployments.errors import Unreachable
from capyra.deployments.names import EXPERT_DEPLOYMENT
from capyra.engine.errors import CapyraError, ConfigError, UnknownExpert

APPLICATIONS = "/api/serve/applications/"
FAILED_STATES = ("DEPLOY_FAILED", "UNHEALTHY")
DEPLOY_DEADLINE_S = 120.0
"""The first deployment on a cluster starts Serve itself, and a busy machine takes its time."""


class ServeRest:
    """A client of one dashboard; every failure is one sentence of the one tree."""

    def __init__(
        self, address: str, timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.address = address.rstrip("/")
        self._http = httpx.Client(
            base_url=self.address,
            timeout=timeout_s,
            headers=ray_token.headers(os.environ),
            transport=transport,
        )

    def deploy(self, config: dict[str, Any]) -> None:
        """Make Serve run this config; returns when it is accepted, not when it runs."""
        answer = self._call("PUT", APPLICATIONS, json=config, timeout=DEPLOY_DEADLINE_S)
        if answer.status_code == 400:
            raise ConfigError(f"Serve refused the config: {_last_line(answer.text)}")
        self._expect_ok(answer)

    def details(self) -> dict[str, Any]:
        """Applications, deployments, replicas, as Serve tells them."""
        answer = self._call("GET", APPLICATIONS)
        self._expect_ok(answer)
        found: dict[str, Any] = answer.json()
        return found

    def scale(self, expert: str, replicas: int) -> None:
        """Set the number of replicas that Serve keeps for an expert."""
        answer = self._call(
            "POST",
            f"/api/v1/applications/{expert}/deployments/{EXPERT_DEPLOYMENT}/scale",
            json={"target_num_replicas": replicas},
        )
        if answer.status_code == 404:
            raise UnknownExpert(f"Serve runs no expert {expert!r}; `capyra ps` lists them")
        self._expect_ok(answer)

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the Ray dashboard at {self.address} does not answer ({error}); is the cluster "
                "running, and is the address right?"
            ) from error

    def _expect_ok(self, answer: httpx.Response) -> None:
        if answer.status_code == 404:
            raise Unreachable(
                f"there is no Ray dashboard at {self.address}: its address ends in :8265 unless "
                "it was chosen otherwise; the endpoint's is another"
            )
        if answer.is_error:
            raise CapyraError(
                f"the Ray dashboard at {self.address} answered {answer.status_code}: "
                f"{_last_line(answer.text)}"
            )


def failure_of(application: dict[str, Any]) -> str:
    """Why an application does not run, as Serve knows it: the end of the longest message is what
    the replica itself raised."""
    told = [str(each.get("message") or "") for each in application.get("deployments", {}).values()]
    reason = _last_line(max([*told, str(application.get("message") or "")], key=len))
    return re.sub(r"^capyra\.[\w.]+: ", "", reason)


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else "(nothing)"
