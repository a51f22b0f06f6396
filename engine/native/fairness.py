"""Who was served how much: among equals the tenant that had least is next."""

from __future__ import annotations


class Service:
    """Tokens computed for each tenant. Who comes anew starts level with the least served of
    those present, so that nobody saves up turns by being away."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}
        self._present: dict[str, int] = {}

    def __getitem__(self, tenant: str) -> int:
        return self._tokens[tenant]

    def enter(self, tenant: str) -> None:
        """One more sequence of this tenant."""
        floor = min((self._tokens[one] for one in self._present), default=0)
        self._tokens = {
            one: tokens
            for one, tokens in self._tokens.items()
            if one in self._present or tokens > floor
        }
        if tenant not in self._present:
            self._tokens[tenant] = max(self._tokens.get(tenant, 0), floor)
        self._present[tenant] = self._present.get(tenant, 0) + 1

    def leave(self, tenant: str) -> None:
        """One sequence less. What the tenant had is remembered while it matters."""
        self._present[tenant] -= 1
        if not self._present[tenant]:
            del self._present[tenant]
        if not self._present:
            self._tokens.clear()

    def used(self, tenant: str, tokens: int) -> None:
        self._tokens[tenant] += tokens
