"""The environment that Ray and Serve read once, when their processes start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_LOST = (
    r'"{\"error\":{\"message\":\"the gateway was lost: send the request again\",'
    r'\"type\":\"server_error\",\"param\":null,\"code\":\"unavailable\"}}"'
)
HAPROXY_DEFAULTS = (
    # A client that leaves before its answer begins is to be noticed (tests/cluster/test_abuse.py).
    # Serve's `splice-request` hides it from HAProxy 2.8 when head and body came one after the
    # other, as from most clients: the answer was then made to its end.
    "no option splice-request",
    # In all, for headers. `timeout client` counts silence, which a byte now and then breaks.
    "timeout http-request 30s",
    # What HAProxy says itself, in the shape that clients read.
    *(
        f"http-error status {status} content-type application/json hdr retry-after 1 string {_LOST}"
        for status in (502, 503)
    ),
)
"""What Serve's settings for HAProxy have no name for."""

MODE: Mapping[str, str] = {
    # HAProxy in front and gRPC between replicas: three times the requests, a fifth of the
    # latency of Serve's own proxy (bench/gateway.py measures in this mode).
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Images travel in a request: Serve's 4 MB would answer them with a 500.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 2**20),
    # A client that neither sends nor takes anything is dropped after so long. Answers are not
    # touched: heartbeats keep them lively, and waiting for the server does not count.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    # The last line of the defaults in Serve's template: more lines may follow it.
    "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "\n    ".join(("leastconn", *HAPROXY_DEFAULTS)),
    # A request is given to another gateway, or to the next, when the one that had it died before
    # the first byte of the answer. Nothing is done twice that matters: it is only computed again.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    # HAProxy reloads when gateways come and go; streams on the old one may end in peace.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""On every node of every cluster; `cluster.yaml` sets the same."""


def local_environment(
    directory: Path, metrics_port: int, stats_port: int, gateways: range
) -> dict[str, str]:
    """`MODE`, and what lets several clusters live on one machine. `gateways` are ports."""
    fallback_http, fallback_grpc, *direct = gateways
    half = len(direct) // 2
    http, grpc = direct[:half], direct[half:]
    # HAProxy's sockets lie below a node's name of 56 letters, and a socket's path has 107 at
    # most: what surrounds it is short.
    return {
        **MODE,
        # What the shell says already is what its owner wants.
        **{name: os.environ[name] for name in MODE if name in os.environ},
        # A token file in the home directory must not lock the local cluster's owner out.
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "m.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        # By default every cluster has the same ports for its gateways, and for the proxy that
        # HAProxy turns to while it holds them for lost. It is told a port before that is bound:
        # where another cluster has it, that one answers.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http[-1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc[-1]),
        # Nobody else balances over this machine's gateways: a stop need not wait for them.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }
