"""Numbers as they are said: a recogniser writes words, a typed question digits, and both should match."""

import re
from typing import Final

_UNITS: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS: Final = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SCALES: Final = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_NUMBER: Final = re.compile(r"(?<![^\W_])(\d{1,3}(?:,\d{3})+|\d{1,12})(st|nd|rd|th|s)?(?![^\W_])", re.IGNORECASE)


def spell_numbers(text: str) -> str:
    """Return a text with its whole numbers in words; longer ones than twelve digits and those inside words stay.

    >>> spell_numbers("In 1906 the 2nd of 350 houses, in 2005 all 1,200")
    'In nineteen six the second of three hundred fifty houses, in two thousand five all one thousand two hundred'
    """
    return _NUMBER.sub(lambda match: _spell(match[1], (match[2] or "").lower()), text)


def _spell(digits: str, ending: str) -> str:
    number = int(digits.replace(",", ""))
    words = _year(number) if len(digits) == 4 and digits[0] in "12" else _cardinal(number)
    if ending == "s":  # the 1990s
        return re.sub("y$", "ie", words) + "s"
    return _ordinal(words) if ending else words


def _year(number: int) -> str:
    """Return a number of four digits as years are said: nineteen sixty three, two thousand five, twenty ten, nineteen hundred."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return _cardinal(number)
    return f"{_cardinal(century)} {_cardinal(rest) if rest else 'hundred'}"


def _cardinal(number: int) -> str:
    if number < 20:
        return _UNITS.split()[number]
    for size, name in _SCALES:
        if number >= size:
            more, rest = divmod(number, size)
            return f"{_cardinal(more)} {name}" + (f" {_cardinal(rest)}" if rest else "")
    tens, rest = divmod(number, 10)
    return _TENS.split()[tens] + (f" {_cardinal(rest)}" if rest else "")


def _ordinal(words: str) -> str:
    start, _, last = words.rpartition(" ")
    regular = (last[:-1] + "ieth") if last.endswith("y") else last + "th"
    return f"{start} {_ORDINALS.get(last, regular)}".lstrip()
