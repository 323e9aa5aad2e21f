"""Text as it stands on signs, receipts and forms: drawn at random, so that it has to be copied."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence

__all__ = ["draw_line", "draw_name", "draw_word"]

_SIGNS = (
    "NO PARKING|Exit|Sale 50% off|Room 12|Platform 3|Caution wet floor|Happy Birthday|Menu|Open|"
    "Closed|Invoice 2041|Total 41.50|Main Street|Push|Pull|Do not enter|Fresh bread|Page 7|"
    "Handle with care|Mind the gap|Hello world|Taxi|Ticket office|Best before 12/08|Gate B4|"
    "Staff only|Keep off the grass|Out of order|Please ring the bell|Open daily|Last entry|"
    "Thank you for your visit|Cash only|Emergency exit|Beware of the dog|Quiet please|To let"
).split("|")
_WORDS = (
    "total subtotal tax date time table order number until from to open closed free price cash "
    "card change amount paid due room floor gate seat row platform track bus line stop street "
    "road avenue square bridge market station north south east west left right entrance exit "
    "monday tuesday wednesday thursday friday saturday sunday january march april june july "
    "august october december no yes only please not for with and or the of in at by per kg each "
    "new old small large hot cold fresh daily special offer member guest staff public private"
).split()
_SYLLABLES = (
    "ba ko ti mur zel pan dro vi sha qu ef lin gor ta nep ux ri om cla ster bel fen hal jo kri "
    "lau mon ne os pri que ros sil tor ul ven wex yar zo ing ton ham ley ford ster shire burg"
).split()


def draw_line(rng: random.Random, nouns: Sequence[tuple[str, str]]) -> str:
    """One line of text: a known sign, or words, names, prices, times and codes in a row."""
    if rng.random() < 0.2:
        return rng.choice(_SIGNS)
    pieces = [
        rng.choices(_PIECES, _WEIGHTS)[0](rng, nouns) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))
    ]
    line = rng.choice((" ", " ", " ", " ", ": ", " - ", ", ")).join(pieces)
    return rng.choice((str, str, str.upper, str.title, str.capitalize))(line)


def draw_word(rng: random.Random) -> str:
    """A word that does not exist: two or three syllables in lower case."""
    return "".join(rng.sample(_SYLLABLES, rng.randint(2, 3)))


def draw_name(rng: random.Random) -> str:
    """A proper name of one or two words."""
    return " ".join(draw_word(rng).capitalize() for _ in range(rng.choice((1, 1, 2))))


def _number(rng: random.Random, _: object) -> str:
    return str(rng.randint(0, 10 ** rng.randint(1, 5)))


def _price(rng: random.Random, _: object) -> str:
    amount = f"{rng.randint(0, 10 ** rng.randint(1, 3))}{rng.choice('..,')}{rng.randint(0, 99):02}"
    return rng.choice((amount, amount, f"{amount} EUR", f"${amount}", f"{amount} kg"))


def _time(rng: random.Random, _: object) -> str:
    clock = f"{rng.randint(0, 23)}{rng.choice('::.')}{rng.choice((0, 15, 30, 45, 7, 52)):02}"
    date = f"{rng.randint(1, 31)}{rng.choice('/.')}{rng.randint(1, 12)}/{rng.randint(1990, 2035)}"
    return rng.choice((clock, f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}", date))


def _code(rng: random.Random, _: object) -> str:
    letters = string.ascii_uppercase + string.digits * 2
    code = "".join(rng.choices(letters, k=rng.randint(2, 7)))
    return code if rng.random() < 0.5 else f"{code[:2]}{rng.choice('-/#')}{code[2:]}"


def _percent(rng: random.Random, _: object) -> str:
    return f"{rng.randint(1, 100)}%"


def _noun(rng: random.Random, nouns: Sequence[tuple[str, str]]) -> str:
    return rng.choice(nouns)[rng.randint(0, 1)]


def _word(rng: random.Random, _: object) -> str:
    return rng.choice(_WORDS)


def _made_up(rng: random.Random, _: object) -> str:
    return draw_name(rng) if rng.random() < 0.6 else draw_word(rng)


_PIECES: tuple[Callable[[random.Random, Sequence[tuple[str, str]]], str], ...]
_PIECES = (_noun, _word, _made_up, _number, _price, _time, _code, _percent)
_WEIGHTS = (30, 25, 15, 8, 8, 6, 5, 3)
