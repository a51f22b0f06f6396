"""Which prompts the echo engine has seen: a prefix cache without the K/V."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 16
"""Tokens that are kept and found together."""

_Key = tuple["_Node | str", tuple[int, ...]]
"""A block after its parent, or as the first of its salt."""


@dataclass(slots=True, eq=False)
class _Node:
    """One block after its parent's. It can go when nothing follows it and nobody keeps it."""

    key: _Key
    parent: _Node | None
    children: int = 0
    kept_until: float = 0.0


class PrefixCache:
    """A tree of token blocks for each salt; the leaves that were not used for longest go first."""

    def __init__(self, tokens: int) -> None:
        self._capacity = tokens // BLOCK
        self._nodes: OrderedDict[_Key, _Node] = OrderedDict()
        """Least recently used first."""

    def __len__(self) -> int:
        """Blocks in use."""
        return len(self._nodes)

    @property
    def used(self) -> float:
        return len(self._nodes) / self._capacity if self._capacity else 0.0

    def match(self, salt: str, tokens: Sequence[int]) -> int:
        """How many tokens from the start are cached."""
        return BLOCK * len(self._known(salt, tokens))

    def insert(
        self, salt: str, tokens: Sequence[int], now: float = 0.0, kept_until: float = 0.0
    ) -> int:
        """Cache all whole blocks, as far as there is room; how many tokens that are."""
        nodes = self._known(salt, tokens)
        for node in nodes:
            node.kept_until = max(node.kept_until, kept_until)
        for place in range(len(nodes) * BLOCK, len(tokens) - BLOCK + 1, BLOCK):
            parent = nodes[-1] if nodes else None
            if not self._make_room(parent, now):
                break
            node = _Node(self._key(salt, parent, tokens, place), parent, kept_until=kept_until)
            self._nodes[node.key] = node
            if parent is not None:
                parent.children += 1
            nodes.append(node)
        self._touch(nodes)
        return BLOCK * len(nodes)

    def clear(self) -> None:
        self._nodes.clear()

    def _known(self, salt: str, tokens: Sequence[int]) -> list[_Node]:
        nodes: list[_Node] = []
        for place in range(0, len(tokens) - BLOCK + 1, BLOCK):
            parent = nodes[-1] if nodes else None
            node = self._nodes.get(self._key(salt, parent, tokens, place))
            if node is None:
                break
            nodes.append(node)
        self._touch(nodes)
        return nodes

    def _touch(self, nodes: Sequence[_Node]) -> None:
        # The deepest first: so leaves are older than what they follow, and found at once.
        for node in reversed(nodes):
            self._nodes.move_to_end(node.key)

    def _key(self, salt: str, parent: _Node | None, tokens: Sequence[int], place: int) -> _Key:
        return (parent or salt, tuple(tokens[place : place + BLOCK]))

    def _make_room(self, growing: _Node | None, now: float) -> bool:
        """Whether there is room for a block more, without taking the one that it follows."""
        if len(self._nodes) < self._capacity:
            return True
        for key, node in self._nodes.items():
            if node.children == 0 and node.kept_until <= now and node is not growing:
                del self._nodes[key]
                if node.parent is not None:
                    node.parent.children -= 1
                return True
        return False
