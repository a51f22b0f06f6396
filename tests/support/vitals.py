"""What a server holds: requests, memory, open files. After abuse all are as before."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from capyra.deployments.processes import command_of, mentioning
from serving import Server


def busy(server: Server) -> dict[str, float]:
    """Requests that the gateway or an expert still holds, by place; empty when all is quiet."""
    with server.client() as client:
        counted = client.get("/metrics").text
        models = client.get("/v1/models").raise_for_status().json()["data"]
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(counted):
        if family.name == "capyra_requests_in_flight":
            for sample in family.samples:
                if sample.value and sample.labels["route"] != "/metrics":
                    found[sample.labels["route"]] = sample.value
    for model in models:
        for replica in model["capyra"]["replicas"]:
            for name in ("in_flight", "running", "waiting"):
                if replica[name]:
                    found[f"{model['id']}.{name}"] = replica[name]
    return found


def await_quiet(server: Server, seconds: float = 20.0) -> float:
    """Wait until nothing is held; how long that took."""
    began = time.monotonic()
    while held := busy(server):
        assert time.monotonic() - began < seconds, f"still held after {seconds:g} s: {held}"
        time.sleep(0.1)
    return time.monotonic() - began


def served(server: Server) -> Counter[tuple[str, str]]:
    """Requests that the gateway has answered, by route and status."""
    with server.client() as client:
        counted = client.get("/metrics").text
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(counted):
        for sample in family.samples:
            if sample.name == "capyra_requests_total":
                labels = sample.labels
                found[labels["route"], labels["status"]] += int(sample.value)
    return found


def private_bytes(pid: int) -> int:
    """Memory of the process that is no file's: where leaks are."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def proxies(server: Server) -> list[int]:
    """HAProxy's processes of this server."""
    found = mentioning(server.directory)
    return [
        pid
        for pid in found
        if "haproxy.cfg" in command_of(pid) and "haproxy" in command_of(pid).split()[0]
    ]
