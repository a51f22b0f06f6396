"""The machines of `cluster.yaml`, as the Compute API knows them and as Ray asks for them."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config

CLUSTER = Path(__file__).parents[3] / "cluster.yaml"
NODE_TYPES = ("head", "worker", "worker-spot")

Config = dict[str, Any]


# --- the Compute API ----------------------------------------------------------------------------


def faults(value: Any, schema: Config, schemas: Config, at: str) -> Iterator[str]:
    """Where a value departs from a discovery document's schema."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    if not isinstance(value, kind[schema["type"]]) or (
        schema["type"] == "integer" and isinstance(value, bool)
    ):
        yield f"{at} is {value!r}, not of type {schema['type']}"
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        for key, part in value.items():
            if key in known:
                yield from faults(part, known[key], schemas, f"{at}.{key}")
            elif "additionalProperties" in schema:
                yield from faults(part, schema["additionalProperties"], schemas, f"{at}.{key}")
            else:
                yield f"{at}.{key} is unknown"
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from faults(part, schema["items"], schemas, f"{at}[{index}]")
    elif isinstance(value, str):
        if value not in schema.get("enum", [value]):
            yield f"{at} is {value!r}, not one of {', '.join(schema['enum'])}"
        if schema.get("format") in {"int64", "uint64"} and not value.isdigit():
            yield f"{at} is {value!r}, not a number in quotes"


@pytest.mark.parametrize("node", NODE_TYPES)
def test_machines_are_what_the_compute_api_knows(
    cluster: Config, schemas: Config, node: str
) -> None:
    config = cluster["available_node_types"][node]["node_config"]
    assert not list(faults(config, {"$ref": "Instance"}, schemas, node))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"scheduling": [{"preemptible": True}]}, "worker.scheduling is"),
        ({"machinetype": "c4a-standard-32"}, "worker.machinetype is unknown"),
        ({"scheduling": {"provisioningModel": "CHEAP"}}, "not one of FLEX_START"),
        ({"disks": [{"initializeParams": {"diskSizeGb": 250}}]}, "not of type string"),
        ({"disks": [{"initializeParams": {"diskSizeGb": "big"}}]}, "not a number in quotes"),
        ({"disks": [{"boot": "yes"}]}, r"worker.disks\[0\].boot is 'yes'"),
        ({"labels": {"app": 1}}, "worker.labels.app is 1"),
    ],
)
def test_the_schema_check_sees_what_is_wrong(
    cluster: Config, schemas: Config, change: Config, fault: str
) -> None:
    config = {**cluster["available_node_types"]["worker"]["node_config"], **change}
    found = "\n".join(faults(config, {"$ref": "Instance"}, schemas, "worker"))
    assert re.search(fault, found)


def test_every_mention_of_project_and_zone_agrees(cluster: Config) -> None:
    provider = cluster["provider"]
    text = CLUSTER.read_text()
    assert provider["availability_zone"].startswith(provider["region"] + "-")
    assert set(re.findall(r"zones/([^/\s]+)/", text)) == {provider["availability_zone"]}
    assert set(re.findall(r"@(\S+)\.iam\.gserviceaccount", text)) == {provider["project_id"]}


# --- `ray up`, with Google played by a fake -----------------------------------------------------


@pytest.fixture
def bodies(cluster: Config, google: Any) -> dict[str, Config]:
    """The bodies of `instances.insert`, by node type, as Ray makes them out of the file."""
    from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

    config = prepare_config(copy.deepcopy(cluster))
    config["provider"]["gcp_credentials"] = {"type": "credentials_token", "credentials": "none"}
    config = GCPNodeProvider.bootstrap_config(config)
    provider = GCPNodeProvider(config["provider"], config["cluster_name"])
    for name, node in config["available_node_types"].items():
        # As commands.py does for the head, and NodeProviderAdapter for the others.
        given = config["head_node"] if name == config["head_node_type"] else {}
        kind = "head" if given else "worker"
        tags = {"ray-node-name": f"ray-{config['cluster_name']}-{kind}", "ray-node-type": kind}
        provider.create_node({**given, **node["node_config"]}, tags, 1)
    return dict(zip(config["available_node_types"], google.inserted, strict=True))


def test_machines_that_ray_asks_for_are_axion_on_hyperdisk(bodies: dict[str, Config]) -> None:
    assert set(bodies) == set(NODE_TYPES)
    for body in bodies.values():
        zone = "zones/us-central1-a"
        assert re.fullmatch(rf"{zone}/machineTypes/c4a-standard-\d+", body["machineType"])
        (disk,) = body["disks"]
        assert disk["boot"]
        assert disk["autoDelete"]
        assert disk["initializeParams"]["diskType"] == f"{zone}/diskTypes/hyperdisk-balanced"
        assert disk["initializeParams"]["sourceImage"].endswith("-arm64")


def test_what_ray_asks_for_is_still_what_the_api_knows(
    bodies: dict[str, Config], schemas: Config
) -> None:
    for name, body in bodies.items():
        assert not list(faults(body, {"$ref": "Instance"}, schemas, name))


def test_hyperdisk_has_the_operations_that_its_throughput_needs(bodies: dict[str, Config]) -> None:
    disk = bodies["worker"]["disks"][0]["initializeParams"]
    assert int(disk["provisionedIops"]) >= 4 * int(disk["provisionedThroughput"])


def test_only_the_head_can_be_reached_from_outside(bodies: dict[str, Config]) -> None:
    for name, body in bodies.items():
        (interface,) = body["networkInterfaces"]
        assert interface["nicType"] == "GVNIC"
        assert ("accessConfigs" in interface) == (name == "head")


def test_only_the_head_may_call_google_and_only_for_machines(bodies: dict[str, Config]) -> None:
    (account,) = bodies["head"]["serviceAccounts"]
    assert account["email"].startswith("ray-autoscaler-sa-v1@")
    assert account["scopes"] == ["https://www.googleapis.com/auth/compute"]
    assert "serviceAccounts" not in bodies["worker"]
    assert "serviceAccounts" not in bodies["worker-spot"]


def test_machines_carry_names_labels_and_metadata(bodies: dict[str, Config]) -> None:
    for name, body in bodies.items():
        kind = "head" if name == "head" else "worker"
        assert body["name"].startswith(f"ray-capyra-{kind}-")
        assert body["labels"]["app"] == "capyra"
        assert body["labels"]["ray-cluster-name"] == "capyra"
        assert body["metadata"] == {"items": [{"key": "enable-oslogin", "value": "FALSE"}]}


def test_only_spot_machines_may_be_taken_away(bodies: dict[str, Config]) -> None:
    assert "scheduling" not in bodies["head"]
    assert "scheduling" not in bodies["worker"]
    assert bodies["worker-spot"]["scheduling"] == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "onHostMaintenance": "TERMINATE",
        "automaticRestart": False,
    }


def test_ray_makes_its_account_and_key_without_a_network(
    bodies: dict[str, Config], google: Any, tmp_path: Path
) -> None:
    roles = {binding["role"] for binding in google.policies[0]["bindings"]}
    assert "roles/compute.admin" in roles
    assert list((tmp_path / ".ssh").glob("ray-autoscaler_gcp_*_capyra_0.pub"))
