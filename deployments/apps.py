"""The Serve applications: `control`, `gateway`, and one for each expert.

Each takes all it needs from its `user_config`, never from arguments: Serve hashes those into a
code version, and a change would restart every replica of the application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve import Application

# Serve runs each builder in a process of its own: it imports its own deployment and no other.


def control(_: dict[str, str]) -> Application:
    from capyra.deployments.control import Control

    return Control.bind()


def gateway(_: dict[str, str]) -> Application:
    from capyra.deployments.frontdoor import Gateway

    return Gateway.bind()


def expert(_: dict[str, str]) -> Application:
    from capyra.deployments.expert import Expert

    return Expert.bind()
