"""YAML that remembers its lines: plain data, and where each of its keys and values is written.

The YAML of the experts file is a safe subset of 1.2: mappings with text keys, lists, text,
numbers, `true`, `false`, `null`, anchors and merge keys. `yes`, `off` and `1:30` are text, as
editors show them. One document, bounded in size, depth and, with its aliases expanded, in values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from capyra.deployments.yaml_nodes import MERGE, TAG, TOP, Place, Refused, compose, place_of

MAX_VALUES = 50_000

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the top of the file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a key is written, and where its value begins. List items have no key of their own."""

    key: Place
    value: Place


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something that YAML, or our subset of it, does not allow."""

    path: KeyPath
    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file's data: after a mistake what could still be read, nothing if it was `refused`."""

    data: Any
    entries: dict[KeyPath, Entry] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    refused: bool = False

    def entry(self, path: KeyPath) -> tuple[KeyPath, Entry]:
        """The path itself, or the nearest above it that is written in the file."""
        while path not in self.entries and path:
            path = path[:-1]
        return path, self.entries.get(path, Entry(TOP, TOP))


def read(raw: bytes) -> Document:
    """The document in these bytes. Never raises: what is wrong is in `mistakes`."""
    reading = _Reading()
    try:
        data = reading.value(compose(raw), ())
    except Refused as refused:
        mistake = Mistake((), refused.place, refused.text)
        return Document(None, mistakes=(mistake,), refused=True)
    return Document(data, reading.entries, tuple(reading.mistakes))


class _Reading:
    """One pass over the nodes of a file: aliases expanded, merge keys merged, lines noted."""

    def __init__(self) -> None:
        self.entries: dict[KeyPath, Entry] = {}
        self.mistakes: list[Mistake] = []
        self._values = 0
        self._open: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: KeyPath, key: Place | None = None) -> Any:
        place = place_of(node.start_mark)
        self.entries[path] = Entry(key or place, place)
        self._count(place)
        if node in self._open:
            raise Refused(place, "an anchor that contains its own alias; write the value out")
        self._open.append(node)
        try:
            match node:
                case yaml.MappingNode():
                    return self._mapping(node, path)
                case yaml.SequenceNode():
                    return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
                case _:
                    return self._scalar(node, path)
        finally:
            self._open.pop()

    def _count(self, place: Place) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise Refused(
                place, f"more than {MAX_VALUES} values, aliases counted; use fewer aliases"
            )

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            place = place_of(key_node.start_mark)
            if key_node.tag == MERGE:
                merged += self._merged(value_node, path)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            here = (*path, key)
            if key in found:
                first = self.entries[here].key.line
                text = f"is written twice, first in line {first}; remove one of the two"
                self._mistake(here, key_node, text)
                continue
            found[key] = self.value(value_node, here, place)
        for key, key_node, value_node in merged:
            if key not in found:
                place = place_of(key_node.start_mark)
                found[key] = self.value(value_node, (*path, key), place)
        return found

    def _merged(self, node: yaml.Node, path: KeyPath) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """What `<<` brings in: of a mapping, or of a list of them where the first one wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode) or source in self._open:
                text = "`<<` merges mappings; give it an alias of one, `<<: *name`"
                self._mistake((*path, "<<"), node, text)
                return
            self._open.append(source)
            try:
                for key_node, value_node in source.value:
                    self._count(place_of(node.start_mark))
                    if key_node.tag == MERGE:
                        yield from self._merged(value_node, path)
                    elif isinstance(key_node, yaml.ScalarNode):
                        yield key_node.value, key_node, value_node
            finally:
                self._open.pop()

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == TAG + "str":
            return self._text(node, path)
        self._mistake(path, node, "a key that is no text; put it in quotes, or remove it")
        return None

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        assert isinstance(node, yaml.ScalarNode)
        text: str = node.value
        try:
            match node.tag.removeprefix(TAG):
                case "str":
                    return self._text(node, path)
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text)
                case "float" if math.isfinite(float(text)):
                    return float(text)
        except (ValueError, KeyError):
            pass
        kind = node.tag.replace(TAG, "!!")
        self._mistake(path, node, f"{text[:40]!r} is no {kind}; write a plain value, without tag")
        return None

    def _text(self, node: yaml.ScalarNode, path: KeyPath) -> str:
        text: str = node.value
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            wrong = "an escape for NUL, or for half a character (U+D800 to U+DFFF)"
            self._mistake(path, node, f"{wrong}; remove it")
            return ""
        return text

    def _mistake(self, path: KeyPath, node: yaml.Node, text: str) -> None:
        self.mistakes.append(Mistake(path, place_of(node.start_mark), text))
