"""The free room, as one pass of decisions sees it: what is free, what will be, what is promised."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.state import Expert, Replica


@dataclass(slots=True)
class Amount:
    """Bytes on a node, places for weights on it, and bytes of the cluster's total."""

    bytes: int = 0
    places: int = 0
    total: int = 0

    def __bool__(self) -> bool:
        return self.bytes > 0 or self.places > 0 or self.total > 0

    def less(self, other: Amount) -> Amount:
        return Amount(
            self.bytes - other.bytes, self.places - other.places, self.total - other.total
        )

    def helped_by(self, other: Amount) -> bool:
        return (
            (self.bytes > 0 and other.bytes > 0)
            or (self.places > 0 and other.places > 0)
            or (self.total > 0 and other.total > 0)
        )


class Room:
    """Promises last for one pass: the next one makes its own, from the facts."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._coming: dict[str, Amount] = defaultdict(Amount)
        self._promised: dict[str, Amount] = defaultdict(Amount)
        self._kept: dict[str, Amount] = defaultdict(Amount)
        self._total_coming = 0
        self._total_promised = 0
        for expert in cluster.present():
            self.expect(expert)
            if expert.kept:
                for replica in expert.resident:
                    self._kept[replica.node].bytes += replica.lease + expert.spec.process
                    self._kept[replica.node].places += 1

    def fits(self, node: str, need: int, places: int = 1) -> bool:
        """Whether so many bytes can be leased there now, without breaking a promise."""
        now = self._short(node, Amount(need, places, need), Amount())
        return not now and not self.missing(node, need, places)

    def missing(self, node: str, need: int, places: int = 1) -> Amount:
        """What is missing there even when all that is on its way out is gone."""
        here, promised = self._coming[node], self._promised[node]
        coming = Amount(here.bytes, here.places, self._total_coming)
        short = self._short(node, Amount(need, places, need), coming)
        return short.less(Amount(-promised.bytes, -promised.places, -self._total_promised))

    def promise(self, node: str, need: int) -> None:
        promised = self._promised[node]
        promised.bytes += need
        promised.places += 1
        self._total_promised += need

    def expect(self, expert: Expert) -> None:
        """The expert, which was staying, was just told to go."""
        for replica, amount in leaving(expert):
            self._will_come(replica.node, amount)

    def possible(self, node: str, expert: Expert) -> bool:
        """Whether the expert would fit there if all went that may."""
        account = self._cluster.ledger.nodes[node]
        kept = self._kept[node]
        held, places = kept.bytes, kept.places
        for replica in expert.resident:
            if expert.kept and replica.node == node:
                held -= replica.lease + expert.spec.process
                places -= 1
        policy = self._cluster.policy
        need = expert.need + expert.spec.process
        return (
            (account.capacity or 0) - held >= need
            and places < policy.max_resident
            and (policy.total_memory is None or need <= policy.total_memory)
        )

    def _short(self, node: str, need: Amount, coming: Amount) -> Amount:
        policy, ledger = self._cluster.policy, self._cluster.ledger
        account = ledger.nodes[node]
        short = Amount(
            bytes=need.bytes - account.free - coming.bytes,
            places=need.places + account.residents - policy.max_resident - coming.places,
        )
        if policy.total_memory is not None:
            short.total = need.total + ledger.used - policy.total_memory - coming.total
        else:
            short.total = -(2**63)
        return short

    def _will_come(self, node: str, amount: Amount) -> None:
        coming = self._coming[node]
        coming.bytes += amount.bytes
        coming.places += amount.places
        self._total_coming += amount.bytes


def leaving(expert: Expert) -> list[tuple[Replica, Amount]]:
    """The replicas that give something back before long, and what.

    Which ones Serve will stop only Serve knows: until they say so, the newest are counted.
    """
    found: list[tuple[Replica, Amount]] = []
    replicas = list(expert.replicas.values())
    if len(replicas) == expert.target.count and not any(
        each.order is not None or each.state == "draining" or each.retired for each in replicas
    ):
        return found
    stopping = [each for each in replicas if each.state == "draining" and not each.parking]
    staying = [each for each in replicas if each not in stopping]
    surplus = max(0, len(staying) - expert.target.count)
    stopping += staying[len(staying) - surplus :]
    for replica in stopping:
        size = replica.lease + expert.spec.process
        found.append((replica, Amount(size, int(replica.lease > 0), size)))
    parking = [each for each in replicas if each.parking and each not in stopping]
    found += [(each, Amount(each.lease, int(each.lease > 0), each.lease)) for each in parking]
    # A retired engine's bytes leave with the last request that it serves.
    found += [
        (each, Amount(each.retired, int(each.retired == each.lease), each.retired))
        for each in replicas
        if each.retired and each not in stopping and each not in parking
    ]
    return found
