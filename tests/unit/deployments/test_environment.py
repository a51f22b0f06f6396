"""Two servers on one machine have nothing in common."""

from __future__ import annotations

from pathlib import Path

from capyra.deployments.environment import local_environment

INGRESS = "RAY_SERVE_DIRECT_INGRESS_"
FALLBACK = "RAY_SERVE_FALLBACK_PROXY_"


def test_every_port_of_serve_is_of_the_servers_own_block() -> None:
    block = range(10_000, 10_020)
    found = local_environment(Path("/run"), 1, 2, block)
    fallback = [int(found[f"{FALLBACK}{kind}_PORT"]) for kind in ("HTTP", "GRPC")]
    direct = [
        range(int(found[f"{INGRESS}MIN_{kind}_PORT"]), int(found[f"{INGRESS}MAX_{kind}_PORT"]) + 1)
        for kind in ("HTTP", "GRPC")
    ]
    used = [*fallback, *direct[0], *direct[1]]
    assert sorted(used) == list(block)
