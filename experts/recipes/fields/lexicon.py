"""Words of five languages, with what agreement needs to know of them.

They stand in `words/`. Nouns: gender, singular, plural. Adjectives: masculine and feminine, then
their plurals, or one form that the others follow from. Verbs: I, you, he or she, we.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experts.recipes.example import words

LANGUAGES = ("English", "Spanish", "Portuguese", "French", "German")
_FOLDER = Path(__file__).with_name("words")


@dataclass(frozen=True, slots=True)
class Noun:
    gender: str
    """m, f or n."""
    singular: str
    plural: str


def _table(name: str) -> list[str]:
    """The lines of a file of words: one word of each language, in the order of `LANGUAGES`."""
    return (_FOLDER / f"{name}.txt").read_text().splitlines()


def _forms(entry: str, language: str) -> tuple[str, ...]:
    """Masculine and feminine singular, then plural; made by rule where one form is given."""
    given = tuple(word.replace("_", " ") for word in entry.split())
    if len(given) == 4:
        return given
    (only,) = given
    if language in ("Spanish", "Portuguese") and only.endswith("o"):
        return only, f"{only[:-1]}a", f"{only}s", f"{only[:-1]}as"
    return (only,) * 4


def _nouns() -> Iterator[dict[str, Noun]]:
    for line in _table("nouns"):
        english, *others = line.split("|")
        entry = {"English": Noun("n", *english.split())}
        for language, other in zip(LANGUAGES[1:], others, strict=True):
            entry[language] = Noun(*other.split())
        yield entry


def _adjectives() -> Iterator[dict[str, tuple[str, ...]]]:
    for line in _table("adjectives"):
        entries = zip(LANGUAGES, line.split("|"), strict=True)
        yield {language: _forms(entry, language) for language, entry in entries}


def _verbs() -> Iterator[dict[str, tuple[str, ...]]]:
    for line in _table("verbs"):
        entries = zip(LANGUAGES, line.split("|"), strict=True)
        yield {language: tuple(entry.split()) for language, entry in entries}


NOUNS = tuple(_nouns())
ADJECTIVES = tuple(_adjectives())
VERBS = tuple(_verbs())
PHRASES = tuple(tuple(line.split("|")) for line in _table("phrases"))
COUNTS = tuple(tuple(line.split()) for line in _table("counts"))
"""Two forms where the gender tells them apart."""
SUBJECTS = tuple(tuple(line.split()) for line in _table("subjects"))
PERSONS = frozenset({"friend", "woman", "man", "boy"})
"""As objects they would need more grammar than is here."""
PLACES = frozenset(words("house garden kitchen city school church car train"))
AFTER_THE_NOUN = frozenset(words("white black red green blue yellow expensive strange important"))
"""Adjectives that follow their noun in all of Spanish, Portuguese and French."""
