"""The environment that Ray and Serve read once, when their processes start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MODE: Mapping[str, str] = {
    # HAProxy in front and gRPC between replicas: three times the requests, a fifth of the
    # latency of Serve's own proxy (bench/gateway.py measures in this mode).
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Images travel in a request: Serve's 4 MB would answer them with a 500.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 2**20),
    # A client that sends its headers a byte at a time is dropped after so long. Answers are not
    # touched: heartbeats keep them lively, and waiting for the server does not count.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    # HAProxy reloads when gateways come and go; streams on the old one may end in peace.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""On every node of every cluster; `cluster.yaml` sets the same."""


def local_environment(directory: Path, metrics_port: int, stats_port: int) -> dict[str, str]:
    """`MODE`, and what lets several clusters live on one machine."""
    # HAProxy's sockets lie below a node's name of 56 letters, and a socket's path has 107 at
    # most: what surrounds it is short.
    return {
        **MODE,
        # A token file in the home directory must not lock the local cluster's owner out.
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "m.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        # Nobody else balances over this machine's gateways: a stop need not wait for them.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }
