"""The names under which Serve knows the parts of Capyra."""

from __future__ import annotations

CONTROL_APP = "control"
CONTROL_DEPLOYMENT = "Control"
GATEWAY_APP = "gateway"
GATEWAY_DEPLOYMENT = "Gateway"
EXPERT_DEPLOYMENT = "Expert"
"""In an application that bears the expert's name."""
