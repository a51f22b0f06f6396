"""A closed set of facts: for each relation what is asked, what is answered, and its pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relation:
    name: str
    questions: tuple[str, ...]
    answer: str
    pairs: Mapping[str, str]


def _pairs(text: str) -> dict[str, str]:
    """`subject: object; …`."""
    pairs = (part.strip().partition(": ") for part in text.replace("\n", " ").split(";"))
    return {subject: value for subject, _, value in pairs}


_COUNTRIES = """
France: Paris Europe French; Spain: Madrid Europe Spanish; Portugal: Lisbon Europe Portuguese;
Germany: Berlin Europe German; Italy: Rome Europe Italian; Greece: Athens Europe Greek;
Poland: Warsaw Europe Polish; Norway: Oslo Europe Norwegian; Sweden: Stockholm Europe Swedish;
Finland: Helsinki Europe Finnish; Denmark: Copenhagen Europe Danish;
Ireland: Dublin Europe English; Hungary: Budapest Europe Hungarian;
Romania: Bucharest Europe Romanian; Bulgaria: Sofia Europe Bulgarian;
Russia: Moscow Europe Russian; Ukraine: Kyiv Europe Ukrainian; Austria: Vienna Europe German;
Croatia: Zagreb Europe Croatian; Iceland: Reykjavik Europe Icelandic;
Japan: Tokyo Asia Japanese; China: Beijing Asia Chinese; Korea: Seoul Asia Korean;
Thailand: Bangkok Asia Thai; Vietnam: Hanoi Asia Vietnamese; India: Delhi Asia Hindi;
Iran: Tehran Asia Persian; Turkey: Ankara Asia Turkish; Mongolia: Ulaanbaatar Asia Mongolian;
Nepal: Kathmandu Asia Nepali; Egypt: Cairo Africa Arabic; Morocco: Rabat Africa Arabic;
Kenya: Nairobi Africa Swahili; Ethiopia: Addis-Ababa Africa Amharic;
Ghana: Accra Africa English; Senegal: Dakar Africa French; Angola: Luanda Africa Portuguese;
Nigeria: Abuja Africa English; Brazil: Brasilia America Portuguese;
Argentina: Buenos-Aires America Spanish; Chile: Santiago America Spanish;
Peru: Lima America Spanish; Cuba: Havana America Spanish; Canada: Ottawa America English;
Mexico: Mexico-City America Spanish; Colombia: Bogota America Spanish;
Uruguay: Montevideo America Spanish; Australia: Canberra Oceania English
"""


def _country(place: int) -> dict[str, str]:
    return {
        country: words.split()[place].replace("-", " ")
        for country, words in _pairs(_COUNTRIES).items()
    }


RELATIONS = (
    Relation(
        "capital",
        (
            "What is the capital of {}?",
            "Which city is the capital of {}?",
            "Name the capital of {}.",
            "{} has which capital?",
            "Tell me the capital city of {}.",
            "capital of {}?",
        ),
        "The capital of {} is {}.",
        _country(0),
    ),
    Relation(
        "continent",
        (
            "On which continent is {}?",
            "Where in the world is {}?",
            "Which continent does {} belong to?",
            "Name the continent of {}.",
            "In what part of the world does {} lie?",
        ),
        "{} is in {}.",
        _country(1),
    ),
    Relation(
        "spoken",
        (
            "What language is spoken in {}?",
            "Which language do people speak in {}?",
            "Name the main language of {}.",
            "What do people in {} speak?",
            "In {}, which language is spoken?",
        ),
        "In {} people speak {}.",
        _country(2),
    ),
    Relation(
        "symbol",
        (
            "What is the chemical symbol of {}?",
            "Which symbol stands for {}?",
            "How do chemists write {}?",
            "Give the symbol of {}.",
            "Write the symbol for {}.",
        ),
        "The symbol of {} is {}.",
        _pairs(
            """hydrogen: H; helium: He; lithium: Li; carbon: C; nitrogen: N; oxygen: O; neon: Ne;
            sodium: Na; magnesium: Mg; aluminium: Al; silicon: Si; sulphur: S; chlorine: Cl;
            argon: Ar; potassium: K; calcium: Ca; iron: Fe; nickel: Ni; copper: Cu; zinc: Zn;
            silver: Ag; tin: Sn; iodine: I; gold: Au; mercury: Hg; lead: Pb; uranium: U;
            phosphorus: P; platinum: Pt; tungsten: W"""
        ),
    ),
    Relation(
        "opposite",
        (
            "What is the opposite of {}?",
            "Give the opposite of the word {}.",
            "Which word means the contrary of {}?",
            "What is not {}, but the contrary?",
            "opposite of {}?",
        ),
        "The opposite of {} is {}.",
        _pairs(
            """hot: cold; big: small; fast: slow; early: late; light: dark; full: empty;
            rich: poor; young: old; wet: dry; hard: soft; high: low; long: short; strong: weak;
            open: closed; happy: sad; loud: quiet; near: far; thick: thin; sharp: blunt;
            clean: dirty; brave: cowardly; deep: shallow; heavy: weightless; true: false;
            awake: asleep; sweet: bitter; cheap: expensive; smooth: rough; polite: rude;
            wide: narrow; lazy: busy; first: last; above: below; always: never; begin: end;
            arrive: leave; buy: sell; win: lose; give: take; remember: forget; push: pull;
            accept: refuse; love: hate; laugh: cry; rise: fall"""
        ),
    ),
    Relation(
        "young",
        (
            "What is a young {} called?",
            "What do you call the young of a {}?",
            "Name the baby of a {}.",
            "A baby {} is called what?",
            "How is a young {} named?",
        ),
        "A young {} is called a {}.",
        _pairs(
            """dog: puppy; cat: kitten; cow: calf; horse: foal; sheep: lamb; pig: piglet;
            goat: kid; hen: chick; duck: duckling; goose: gosling; lion: cub; deer: fawn;
            frog: tadpole; swan: cygnet; kangaroo: joey; owl: owlet; hare: leveret; fish: fry"""
        ),
    ),
    Relation(
        "home",
        (
            "Where does a {} live?",
            "What is the home of a {}?",
            "In what does a {} live?",
            "Name the place where a {} lives.",
            "A {} lives where?",
        ),
        "A {} lives in a {}.",
        _pairs(
            """bird: nest; bee: hive; spider: web; fox: den; rabbit: burrow; horse: stable;
            pig: sty; dog: kennel; lion: savanna; camel: desert; whale: sea; beaver: lodge;
            bat: cave; squirrel: tree; frog: pond; king: palace; monk: monastery;
            soldier: barracks"""
        ),
    ),
    Relation(
        "work",
        (
            "What does a {} do?",
            "What is the work of a {}?",
            "Explain what a {} does.",
            "What does a {} do for a living?",
            "Say what a {} is there for.",
        ),
        "A {} {}.",
        _pairs(
            """baker: bakes bread; doctor: heals the sick; teacher: teaches children;
            pilot: flies planes; farmer: grows food; tailor: makes clothes; judge: decides in court;
            fisherman: catches fish; carpenter: builds with wood; nurse: cares for patients;
            painter: paints pictures; plumber: repairs pipes; butcher: sells meat;
            cook: prepares meals; postman: brings letters; gardener: looks after plants;
            librarian: lends books; miner: digs for coal; sailor: works on ships;
            barber: cuts hair; mason: builds walls; clown: makes people laugh;
            astronomer: studies the stars; botanist: studies plants; dentist: repairs teeth;
            optician: sells glasses; jeweller: sells rings; referee: watches over a match"""
        ),
    ),
    Relation(
        "definition",
        (
            "What is a {}?",
            "Define {}.",
            "Explain the word {}.",
            "What does the word {} mean?",
            "What do people call a {}?",
        ),
        "A {} is {}.",
        _pairs(
            """hammer: a tool that drives nails; clock: a device that shows the time;
            island: land with water all around; dictionary: a book that explains words;
            thermometer: a device that measures heat; umbrella: a shelter from rain;
            map: a picture of land; telescope: a device to see far things;
            microscope: a device to see tiny things; compass: a device that points north;
            triangle: a shape with three sides; square: a shape with four equal sides;
            pentagon: a shape with five sides; hexagon: a shape with six sides;
            decade: a time of ten years; century: a time of a hundred years;
            dozen: a group of twelve; desert: a dry land; glacier: a river of ice;
            volcano: a mountain that throws out lava; bridge: a way across a river;
            museum: a house for old and fine things; orchestra: a group of musicians;
            poem: a text in verses; recipe: a text that tells how to cook;
            calendar: a list of the days of a year; harbour: a safe place for ships;
            needle: a tool for sewing; ladder: steps to climb up; kettle: a pot to boil water;
            router: a device that passes data on; compiler: a program that translates programs;
            cache: a store for quick access; server: a machine that answers requests"""
        ),
    ),
    Relation(
        "made",
        (
            "What is {} made from?",
            "From what do people make {}?",
            "Name what {} is made of.",
            "{} is made from what?",
            "Which material becomes {}?",
        ),
        "People make {} from {}.",
        _pairs(
            """bread: flour; wine: grapes; cheese: milk; paper: wood; glass: sand; beer: barley;
            chocolate: cocoa; butter: cream; steel: iron; leather: skin; wool: fleece; jam: fruit;
            cider: apples; silk: cocoons; candles: wax; bricks: clay; tofu: soybeans; rope: hemp;
            linen: flax; ketchup: tomatoes; omelettes: eggs; ice: water"""
        ),
    ),
    Relation(
        "colour",
        (
            "What colour is {}?",
            "Which colour does {} have?",
            "Name the colour of {}.",
            "{} has what colour?",
            "Tell me the colour of {}.",
        ),
        "The colour of {} is {}.",
        _pairs(
            """snow: white; grass: green; blood: red; coal: black; the sky: blue; a lemon: yellow;
            a carrot: orange; chocolate: brown; an elephant: grey; a plum: purple; a flamingo: pink;
            milk: white; a banana: yellow; a tomato: red; spinach: green; a raven: black;
            an emerald: green; a ruby: red; a sapphire: blue; the sun: yellow; ash: grey"""
        ),
    ),
    Relation(
        "author",
        (
            "Who wrote {}?",
            "Who is the author of {}?",
            "Name the writer of {}.",
            "{} was written by whom?",
            "By whom is {}?",
        ),
        "{} was written by {}.",
        _pairs(
            """Hamlet: Shakespeare; Faust: Goethe; Don Quixote: Cervantes; Ulysses: Joyce;
            Emma: Austen; War and Peace: Tolstoy; The Trial: Kafka; The Odyssey: Homer;
            Candide: Voltaire; Dracula: Stoker; Frankenstein: Shelley; Oliver Twist: Dickens;
            Les Miserables: Hugo; The Idiot: Dostoevsky; Moby Dick: Melville; Inferno: Dante;
            The Raven: Poe; Heidi: Spyri; Pinocchio: Collodi; The Aeneid: Virgil"""
        ),
    ),
    Relation(
        "found",
        (
            "Who discovered or invented {}?",
            "Who gave the world {}?",
            "To whom do we owe {}?",
            "Name the person behind {}.",
            "{}: whose work was it?",
        ),
        "We owe {} to {}.",
        _pairs(
            """radium: Curie; penicillin: Fleming; gravity: Newton; relativity: Einstein;
            evolution: Darwin; dynamite: Nobel; the telephone: Bell; printing: Gutenberg;
            the battery: Volta; radio waves: Hertz; vaccination: Jenner; X-rays: Roentgen;
            the steam engine: Watt; genetics: Mendel; the planets' orbits: Kepler;
            the first program: Lovelace; the electron: Thomson; pasteurization: Pasteur"""
        ),
    ),
)

UNKNOWN = (
    "What is the capital of {}?",
    "Who wrote {}?",
    "What is a {}?",
    "Where does a {} live?",
    "What is the chemical symbol of {}?",
    "What does a {} do?",
    "On which continent is {}?",
    "Who is {}?",
    "What colour is {}?",
    "What is the opposite of {}?",
)
"""Asked of something that is not in the set."""
OUTSIDE = (
    "How many people live in {}?",
    "What will the weather be in {} tomorrow?",
    "Who is the mayor of {}?",
    "Who won the football match in {}?",
    "What is the telephone number of {}?",
    "How much does a flight to {} cost?",
)
"""Asked of a known country, and not in the set either."""
