"""The Serve applications: `control`, `gateway`, and one for each expert.

Each takes all it needs from its `user_config`, never from arguments: Serve hashes those into a
code version, and a change would restart every replica of the application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ray.serve import Application, Deployment

# Serve runs each builder in a process of its own: it imports its own deployment and no other.


def control(_: dict[str, str]) -> Application:
    from capyra.deployments.control import Control

    return _bound(Control)


def gateway(_: dict[str, str]) -> Application:
    from capyra.deployments.frontdoor import Gateway

    return _bound(Gateway)


def expert(_: dict[str, str]) -> Application:
    from capyra.deployments.expert import Expert

    return _bound(Expert)


def _bound(deployment: object) -> Application:
    # Serve's decorator is typed as if it left the class as it was.
    return cast("Deployment", deployment).bind()
