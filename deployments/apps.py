"""The Serve applications: `control`, `gateway`, and one for each expert.

Each takes all it needs from its `user_config`, never from arguments: Serve hashes those into a
code version, and a change would restart every replica of the application.
"""

from __future__ import annotations

from ray.serve import Application

from capyra.deployments.control import Control
from capyra.deployments.expert import Expert
from capyra.deployments.frontdoor import Gateway


def control(_: dict[str, str]) -> Application:
    return Control.bind()


def gateway(_: dict[str, str]) -> Application:
    return Gateway.bind()


def expert(_: dict[str, str]) -> Application:
    return Expert.bind()
