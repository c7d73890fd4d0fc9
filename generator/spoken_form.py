"""Text as a recogniser writes it: words of a to z with inner apostrophes, numbers spelled out, nothing else.

What is typed, what is heard and what the reader was trained on meet in this one form, also when answers are compared (EM and F1).
"""

import re
import unicodedata
from typing import Final

from retriever.spoken_numbers import spell_numbers

_QUOTES: Final = dict.fromkeys((0x2018, 0x2019, 0x02BC, 0x60), "'")  # single quotation marks, as apostrophes are often written
_SIGNS: Final = (
    (re.compile(r"(?<=\d) ?%"), " percent "),
    (re.compile(r"&"), " and "),
    (re.compile(r"(?<=\d)\.(?=\d)"), " point "),
)
_EDGE: Final = re.compile(r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])")  # of letters and digits: h1n1, covid19
_WORD: Final = re.compile(r"[a-z]+(?:'[a-z]+)*")


def spoken_form(text: str) -> list[str]:
    """Return the words of a text; text without letters or digits has none.

    >>> " ".join(spoken_form("In 1906, the U.S. sold 12% more H1N1 vaccine; it didn't help."))
    "in nineteen six the u s sold twelve percent more h one n one vaccine it didn't help"
    """
    folded = unicodedata.normalize("NFKD", text.translate(_QUOTES)).lower()
    plain = "".join(char for char in folded if not unicodedata.combining(char))
    for pattern, said in _SIGNS:
        plain = pattern.sub(said, plain)
    return _WORD.findall(spell_numbers(_EDGE.sub(" ", spell_numbers(plain))))
