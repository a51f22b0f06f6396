"""The experts file as Serve's config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from capyra.deployments.expert import ExpertSettings
from capyra.deployments.experts_file import load
from capyra.deployments.frontdoor import GatewaySettings
from capyra.deployments.serve_config import render

TEXT = """
experts:
  alpha: {engine: echo, pin: true, queue: {running: 3, waiting: 4}}
  beta: {engine: echo, resources: {parked_memory: 64MiB}}
  off: {engine: echo, enabled: false}
server: {port: 9999, replicas: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "experts.yaml"
    path.write_text(TEXT)
    return render(load(path))


def deployment(config: dict[str, Any], app: str) -> dict[str, Any]:
    (found,) = [one for one in config["applications"] if one["name"] == app]
    (only,) = found["deployments"]
    return dict(only)


def test_serve_accepts_it(config: dict[str, Any]) -> None:
    ServeDeploySchema.model_validate(config)


def test_one_application_each_and_none_for_what_is_off(config: dict[str, Any]) -> None:
    names = [application["name"] for application in config["applications"]]
    assert names == ["control", "gateway", "alpha", "beta"]


def test_no_settings_travel_as_arguments(config: dict[str, Any]) -> None:
    # Serve hashes arguments into the code version: a change would restart the application.
    for application in config["applications"]:
        assert not application.get("args")
        assert "runtime_env" not in application


def test_only_experts_are_scaled_from_outside(config: dict[str, Any]) -> None:
    scaled = {a["name"] for a in config["applications"] if a.get("external_scaler_enabled")}
    assert scaled == {"alpha", "beta"}


def test_only_the_gateway_has_a_route(config: dict[str, Any]) -> None:
    routes = {a["name"]: a["route_prefix"] for a in config["applications"]}
    assert {name: route for name, route in routes.items() if route} == {"gateway": "/"}


def test_on_loopback_the_gateways_are_beside_the_one_proxy(
    config: dict[str, Any], tmp_path: Path
) -> None:
    assert config["proxy_location"] == "HeadOnly"
    assert deployment(config, "gateway")["ray_actor_options"]["resources"]
    file = load(tmp_path / "experts.yaml")
    server = file.server.model_copy(update={"host": "0.0.0.0"})
    exposed = render(file.model_copy(update={"server": server}))
    assert exposed["proxy_location"] == "EveryNode"
    assert not deployment(exposed, "gateway")["ray_actor_options"]["resources"]


def test_experts_reserve_their_parked_footprint_and_no_cpu(config: dict[str, Any]) -> None:
    options = deployment(config, "beta")["ray_actor_options"]
    assert (options["num_cpus"], options["memory"]) == (0, 64 * 2**20)


def test_serves_own_limit_stands_behind_the_waiting_room(config: dict[str, Any]) -> None:
    assert deployment(config, "alpha")["max_ongoing_requests"] > 3 + 4


def test_settings_come_out_as_they_went_in(config: dict[str, Any], tmp_path: Path) -> None:
    file = load(tmp_path / "experts.yaml")
    expert = ExpertSettings.model_validate(deployment(config, "alpha")["user_config"])
    assert expert.config == file.experts["alpha"]
    gateway = deployment(config, "gateway")
    settings = GatewaySettings.model_validate(gateway["user_config"])
    assert settings.experts == {name: file.experts[name] for name in ("alpha", "beta")}
    assert settings.server == file.server
    assert gateway["num_replicas"] == 2
