"""Translation between five languages, asked for in any of them."""

from __future__ import annotations

from random import Random

from experts.recipes.example import Example
from experts.recipes.fields.grammar import mean, say
from experts.recipes.fields.lexicon import LANGUAGES

FIELD = "translation"
TARGETS = {
    "English": LANGUAGES,
    "Spanish": ("inglés", "español", "portugués", "francés", "alemán"),
    "Portuguese": ("inglês", "espanhol", "português", "francês", "alemão"),
    "French": ("anglais", "espagnol", "portugais", "français", "allemand"),
    "German": ("Englische", "Spanische", "Portugiesische", "Französische", "Deutsche"),
}
"""What each language calls the five."""
_REQUESTS = {
    "English": ("Translate to {to}: {text}", "Say in {to}: {text}", "{text} In {to}, please."),
    "Spanish": ("Traduce al {to}: {text}", "Di en {to}: {text}"),
    "Portuguese": ("Traduza para o {to}: {text}", "Diga em {to}: {text}"),
    "French": ("Traduis en {to} : {text}", "Dis en {to} : {text}"),
    "German": ("Übersetze ins {to}: {text}", "Bitte ins {to}: {text}"),
}


def draw(source: Random) -> Example:
    meaning = mean(source)
    from_, to = source.sample(range(len(LANGUAGES)), 2)
    asked_in = "English" if source.random() < 0.5 else source.choice(LANGUAGES)
    request = source.choice(_REQUESTS[asked_in])
    prompt = request.format(to=TARGETS[asked_in][to], text=say(meaning, LANGUAGES[from_]))
    key = f"{FIELD} {meaning.key}"
    if meaning.kind == "phrase":
        # A phrase has no parts: what is composed is the phrase, its languages and the request.
        key = f"{key} {from_} {to} {request}"
    return Example(FIELD, key, prompt, say(meaning, LANGUAGES[to]))
