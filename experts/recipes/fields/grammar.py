"""What the sentences of five languages are made of: one meaning, said in each of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from experts.recipes.fields.lexicon import (
    ADJECTIVES,
    AFTER_THE_NOUN,
    COUNTS,
    LANGUAGES,
    NOUNS,
    PERSONS,
    PHRASES,
    PLACES,
    SUBJECTS,
    VERBS,
    Noun,
)

Kind = Literal["phrase", "is", "where", "in", "does", "has"]
_VOWELS = tuple("aeiouhéêâîôûœ")


@dataclass(frozen=True, slots=True)
class Meaning:
    """A sentence before it is in any language. Numbers are places in the lexicon."""

    kind: Kind
    noun: int = 0
    plural: bool = False
    definite: bool = True
    adjective: int | None = None
    negative: bool = False
    place: int = 0
    """A noun's, or a phrase's."""
    subject: int = 0
    verb: int = 0
    count: int = 0

    @property
    def key(self) -> str:
        """What is composed: the words, and how they stand."""
        return " ".join(str(getattr(self, name)) for name in self.__slots__)


_THINGS = [index for index, each in enumerate(NOUNS) if each["English"].singular not in PERSONS]
_WHERE = [index for index, each in enumerate(NOUNS) if each["English"].singular in PLACES]
_AFTER = [index for index, each in enumerate(ADJECTIVES) if each["English"][0] in AFTER_THE_NOUN]


def mean(source: Random) -> Meaning:
    """Something to say."""
    kind = source.choices(("phrase", "is", "where", "in", "does", "has"), (1, 6, 2, 3, 8, 3))[0]
    any_noun, plural = source.randrange(len(NOUNS)), source.random() < 0.4
    if kind == "phrase":
        return Meaning("phrase", place=source.randrange(len(PHRASES)))
    if kind == "is":
        quality = source.randrange(len(ADJECTIVES))
        negative = source.random() < 0.3
        return Meaning("is", any_noun, plural, adjective=quality, negative=negative)
    if kind == "where":
        return Meaning("where", any_noun, plural)
    if kind == "in":
        place = source.choice(_WHERE)
        noun = source.choice([index for index in range(len(NOUNS)) if index != place])
        return Meaning("in", noun, plural, place=place)
    noun, subject = source.choice(_THINGS), source.randrange(len(SUBJECTS))
    if kind == "has":
        return Meaning("has", noun, True, subject=subject, count=source.randrange(len(COUNTS)))
    adjective = source.choice(_AFTER) if source.random() < 0.5 else None
    definite = plural or source.random() < 0.5
    verb = source.randrange(len(VERBS))
    return Meaning("does", noun, plural, definite, adjective, subject=subject, verb=verb)


def say(meaning: Meaning, language: str) -> str:
    if meaning.kind == "phrase":
        return PHRASES[meaning.place][LANGUAGES.index(language)]
    text = _SPEAKERS[language](meaning)
    return text[0].upper() + text[1:]


def _verb(meaning: Meaning, language: str, verb: int | None = None) -> tuple[str, str]:
    """The subject's pronoun and its verb."""
    person = (0, 1, 2, 2, 3)[meaning.subject]
    pronoun = SUBJECTS[meaning.subject][LANGUAGES.index(language)]
    return pronoun, VERBS[meaning.verb if verb is None else verb][language][person]


_HAVE = next(index for index, each in enumerate(VERBS) if each["English"][0] == "have")


def _word(noun: Noun, plural: bool) -> str:
    return noun.plural if plural else noun.singular


def _english(m: Meaning) -> str:
    noun = _word(NOUNS[m.noun]["English"], m.plural)
    be = "are" if m.plural else "is"
    adjective = "" if m.adjective is None else ADJECTIVES[m.adjective]["English"][0]
    if m.kind == "is":
        return f"the {noun} {be} {'not ' if m.negative else ''}{adjective}."
    if m.kind == "where":
        return f"where {be} the {noun}?"
    if m.kind == "in":
        return f"the {noun} {be} in the {NOUNS[m.place]['English'].singular}."
    if m.kind == "has":
        who, has = _verb(m, "English", _HAVE)
        return f"{who} {has} {COUNTS[m.count][0]} {noun}."
    who, does = _verb(m, "English")
    thing = f"{adjective} {noun}".strip()
    article = "the" if m.definite else "an" if thing[0] in "aeiou" else "a"
    return f"{who} {does} {article} {thing}."


def _romance(m: Meaning, language: str) -> str:
    """Spanish, Portuguese and French differ in words, articles and little else."""
    spanish, french = language == "Spanish", language == "French"
    noun = NOUNS[m.noun][language]
    feminine = noun.gender == "f"
    word = _word(noun, m.plural)
    the = _the(language, word, feminine, m.plural)
    adjective = (
        "" if m.adjective is None else ADJECTIVES[m.adjective][language][feminine + 2 * m.plural]
    )
    ser, estar = _BE[language][m.plural]
    if m.kind == "is":
        if m.negative:
            no = "ne sont pas" if m.plural else "n'est pas"
            ser = no if french else f"{'no' if spanish else 'não'} {ser}"
        return f"{the}{word} {ser} {adjective}."
    if m.kind == "where":
        mark = "¿" if spanish else ""
        where = {"Spanish": "dónde", "Portuguese": "onde", "French": "où"}[language]
        end = " ?" if french else "?"
        return f"{mark}{where[0].upper()}{where[1:]} {estar} {the}{word}{end}"
    if m.kind == "in":
        return f"{the}{word} {estar} {_in(language, m.place)}."
    if m.kind == "has":
        who, has = _verb(m, language, _HAVE)
        count = COUNTS[m.count][LANGUAGES.index(language)].split("/")
        return f"{_joined(who, has)} {count[-1] if feminine else count[0]} {word}."
    who, does = _verb(m, language)
    article = the if m.definite else f"{_A[language][feminine]} "
    return f"{_joined(who, does)} {article}{word} {adjective}".rstrip() + "."


def _joined(who: str, verb: str) -> str:
    """French `je` loses its vowel before another."""
    return f"j'{verb}" if who == "je" and verb.startswith(_VOWELS) else f"{who} {verb}"


_BE = {
    "Spanish": (("es", "está"), ("son", "están")),
    "Portuguese": (("é", "está"), ("são", "estão")),
    "French": (("est", "est"), ("sont", "sont")),
}
_A = {"Spanish": ("un", "una"), "Portuguese": ("um", "uma"), "French": ("un", "une")}
_THE = {
    "Spanish": (("el", "la"), ("los", "las")),
    "Portuguese": (("o", "a"), ("os", "as")),
    "French": (("le", "la"), ("les", "les")),
}


def _the(language: str, word: str, feminine: bool, plural: bool) -> str:
    if language == "French" and not plural and word.startswith(_VOWELS):
        return "l'"
    return _THE[language][plural][feminine] + " "


def _in(language: str, place: int) -> str:
    noun = NOUNS[place][language]
    feminine = noun.gender == "f"
    if language == "Portuguese":
        return f"{'na' if feminine else 'no'} {noun.singular}"
    the = _the(language, noun.singular, feminine, False)
    return f"{'en' if language == 'Spanish' else 'dans'} {the}{noun.singular}"


def _german(m: Meaning) -> str:
    noun = NOUNS[m.noun]["German"]
    word = _word(noun, m.plural)
    the = "die" if m.plural else {"m": "der", "f": "die", "n": "das"}[noun.gender]
    be = "sind" if m.plural else "ist"
    adjective = "" if m.adjective is None else ADJECTIVES[m.adjective]["German"][0]
    if m.kind == "is":
        return f"{the} {word} {be} {'nicht ' if m.negative else ''}{adjective}."
    if m.kind == "where":
        return f"wo {be} {the} {word}?"
    if m.kind == "in":
        place = NOUNS[m.place]["German"]
        where = "in der" if place.gender == "f" else "im"
        return f"{the} {word} {be} {where} {place.singular}."
    if m.kind == "has":
        who, has = _verb(m, "German", _HAVE)
        return f"{who} {has} {COUNTS[m.count][4]} {word}."
    who, does = _verb(m, "German")
    return f"{who} {does} {_german_object(noun, word, m, adjective)}."


def _german_object(noun: Noun, word: str, m: Meaning, adjective: str) -> str:
    """The accusative: article and adjective's ending."""
    if m.plural:
        article, ending = "die", "en"
    elif m.definite:
        article, ending = {"m": ("den", "en"), "f": ("die", "e"), "n": ("das", "e")}[noun.gender]
    else:
        article, ending = {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")}[
            noun.gender
        ]
    if not adjective:
        return f"{article} {word}"
    stem = "teur" if adjective == "teuer" else adjective
    return f"{article} {stem}{ending} {word}"


_SPEAKERS = {
    "English": _english,
    "Spanish": lambda meaning: _romance(meaning, "Spanish"),
    "Portuguese": lambda meaning: _romance(meaning, "Portuguese"),
    "French": lambda meaning: _romance(meaning, "French"),
    "German": _german,
}
