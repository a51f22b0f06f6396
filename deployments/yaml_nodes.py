"""From the bytes of a YAML file to its nodes: encoding, syntax, and the bounds of both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 2**20
MAX_DEPTH = 32

TAG = "tag:yaml.org,2002:"
MERGE = TAG + "merge"

# What YAML 1.2 permits, less YAML's line ends 0x85, 0x2028 and 0x2029: no editor shows them.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, as editors count them: from 1."""

    line: int
    column: int


TOP = Place(1, 1)


class Refused(Exception):
    """The file cannot be read on from here."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place
        self.text = text


def compose(raw: bytes) -> yaml.Node:
    """The root of the document in these bytes; `Refused` if there is none."""
    loader = _Loader(_decode(raw))
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise Refused(*_explain(error)) from error
    except ValueError as error:  # PyYAML lets escapes and versions beyond all bounds through
        raise Refused(place_of(loader.get_mark()), f"{error}; remove what stands here") from error
    finally:
        loader.dispose()
    if node is None:
        raise Refused(TOP, "the file is empty; write at least `experts:` and one expert")
    return node


def place_of(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise Refused(
            TOP,
            f"the file has {len(raw)} bytes, and {MAX_BYTES} are the most; "
            "shorten it: large examples belong in the model's own files",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise Refused(
            Place(line, column),
            f"byte 0x{raw[error.start]:02x} is no UTF-8; save the file as UTF-8",
        ) from error
    if match := _UNPRINTABLE.search(text):
        raise Refused(
            _place_at(text, match.start()),
            f"the character U+{ord(match[0]):04X} is not allowed in YAML; remove it",
        )
    return text


def _place_at(text: str, index: int) -> Place:
    return Place(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and composer, with YAML 1.2's plain words and a bounded depth.

    The pure-Python one: 300 KB a second is enough, and its messages name the character.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way to begin without YAML 1.1's
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        if self.depth > MAX_DEPTH:
            # types-PyYAML leaves this one method open.
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise Refused(place_of(mark), f"more than {MAX_DEPTH} levels of nesting; flatten it")
        self.depth += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
        finally:
            self.depth -= 1
        return node


# Numbers are bounded in digits: a longer one stays text, which no setting takes for a number.
for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]{1,18}$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,3})?$",
        list("-+.0123456789"),
    ),
    ("merge", r"^<<$", ["<"]),
):
    _Loader.add_implicit_resolver(TAG + _name, re.compile(_pattern), _first)


_MENDS = (
    ("'\\t'", "a tab cannot indent YAML; use spaces"),
    (
        "mapping values are not allowed",
        "a second `:` here, or a line indented deeper than the one above; put text with a colon in "
        "quotes, and begin keys of one mapping in one column",
    ),
    ("cannot start any token", "a value cannot begin with this character; put it in quotes"),
    ("another document", "a second document begins; one file has one: remove the `---`"),
    ("unknown escape", "no such escape in double quotes; use single quotes, or `\\\\`"),
    ("find expected ':'", "a key without its value; write `key: value`"),
    (
        "expected <block end>",
        "this does not fit the lines above; begin keys of one mapping in one column, and quote "
        "values as a whole",
    ),
    ("expected ',' or", "the bracket above is not closed; close it, or put a comma here"),
)
"""Words in PyYAML's messages, and what is said in their place."""


def _explain(error: yaml.MarkedYAMLError) -> tuple[Place, str]:
    """A syntax error, with what usually mends it."""
    said = error.problem or "this cannot be read"
    mark = error.problem_mark or error.context_mark
    place = place_of(mark) if mark else TOP
    if "end of stream" in said or "<stream end>" in said:
        if error.context_mark and error.context_mark != mark:
            return place_of(error.context_mark), "a quote or bracket opens here; close it"
        return place, "the file ends inside a bracket; close it"
    if "undefined alias" in said:
        name = said.split("'")[1]
        return place, f"no anchor `{name}` is above; define it there with `&{name}`"
    for words, text in _MENDS:
        if words in said:
            return place, text
    return place, f"{said}; look for a missing quote, bracket or space in or above this line"
