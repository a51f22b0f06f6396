"""Whose bytes are where: every process, and every lease, charged to its node.

A lease is charged from the order to load until the replica says that the weights are gone, or
its process has ended: never by what was asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Holding:
    """What one replica is charged."""

    node: str
    process: int
    lease: int
    """0: it holds no weights and may load none."""


@dataclass(slots=True)
class Account:
    """One node. Without capacity it is one that Control was not told of yet."""

    capacity: int | None = None
    leases: int = 0
    processes: int = 0
    residents: int = 0

    @property
    def used(self) -> int:
        return self.leases + self.processes

    @property
    def free(self) -> int:
        return (self.capacity or 0) - self.used


@dataclass(slots=True)
class Ledger:
    nodes: dict[str, Account] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    used: int = 0

    def charge(self, replica: str, holding: Holding) -> None:
        """This is what the replica holds from now on."""
        self.release(replica)
        self.holdings[replica] = holding
        self._add(holding, 1)

    def release(self, replica: str) -> None:
        """The replica's process has ended."""
        holding = self.holdings.pop(replica, None)
        if holding is not None:
            self._add(holding, -1)

    def open(self, node: str, capacity: int) -> None:
        self.nodes.setdefault(node, Account()).capacity = capacity

    def close(self, node: str) -> None:
        """The node is lost, and all that it held."""
        for replica in [each for each, held in self.holdings.items() if held.node == node]:
            self.release(replica)
        self.nodes.pop(node, None)

    def lease(self, replica: str) -> int:
        holding = self.holdings.get(replica)
        return 0 if holding is None else holding.lease

    def _add(self, holding: Holding, sign: int) -> None:
        account = self.nodes.setdefault(holding.node, Account())
        account.leases += sign * holding.lease
        account.processes += sign * holding.process
        account.residents += sign * (holding.lease > 0)
        self.used += sign * (holding.lease + holding.process)
