"""Written text as it is said: lower case, words of a to z with inner apostrophes, every number, unit and sign spelled out.

What comes out is both spoken by a synthesiser and learnt by a recogniser, so it must mean one reading only. A sentence for which no reading
is certain (formulas, web addresses, numbers with letters inside) gives None: the caller drops it.
"""

import re
import unicodedata
from typing import Final

from retriever.spoken_numbers import spell_numbers

_WORD: Final = re.compile(r"[a-z]+(?:'[a-z]+)*")
_PLAIN: Final = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'", "\u201c": '"', "\u201d": '"'}  # quotation marks and apostrophes
    | {"\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": " - ", "\u2212": "-", "\u2026": " "}  # dashes, minus, ellipsis
    | {"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "Æ": "Ae", "Œ": "Oe", "Ø": "O", "Ł": "L"}
)
_MONTHS: Final = "January|February|March|April|May|June|July|August|September|October|November|December"
_TITLES: Final = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "drs": "doctors", "prof": "professor", "rev": "reverend",
    "gen": "general", "col": "colonel", "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "gov": "governor", "sen": "senator",
    "rep": "representative", "hon": "honorable", "pres": "president", "messrs": "messieurs", "mme": "madame", "fr": "father",
    "st": "saint", "mt": "mount", "ft": "fort",
}  # fmt: skip
_SHORT: Final = {
    "vs": "versus", "v": "versus", "etc": "et cetera", "jr": "junior", "sr": "senior", "inc": "incorporated", "corp": "corporation",
    "co": "company", "ltd": "limited", "ca": "circa", "approx": "approximately", "dept": "department", "univ": "university",
    "viz": "namely", "cf": "compare", "al": "al", "bros": "brothers", "jan": "january", "feb": "february", "aug": "august",
    "sept": "september", "oct": "october", "nov": "november", "dec": "december",
}  # fmt: skip
_UNITS: Final = {
    "km/h": "kilometers per hour", "m/s": "meters per second", "km": "kilometers", "cm": "centimeters", "mm": "millimeters",
    "kg": "kilograms", "mg": "milligrams", "g": "grams", "m": "meters", "ml": "milliliters", "mL": "milliliters", "L": "liters",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "kW": "kilowatts", "MW": "megawatts", "W": "watts",
    "V": "volts", "J": "joules", "kJ": "kilojoules", "N": "newtons", "K": "kelvin", "Pa": "pascals", "ft": "feet", "mi": "miles",
    "lb": "pounds", "lbs": "pounds", "oz": "ounces", "mph": "miles per hour", "s": "seconds", "min": "minutes", "h": "hours",
    "hr": "hours", "nm": "nanometers", "MB": "megabytes", "GB": "gigabytes", "TB": "terabytes",
}  # fmt: skip
_SAID_AS_WORDS: Final = {
    "NASA", "NATO", "AIDS", "OPEC", "UNESCO", "UNICEF", "NAFTA", "RADAR", "LASER", "SCUBA", "SARS", "COVID", "FEMA", "OSHA", "NOAA", "SWAT",
    "PAC", "PACS", "RAM", "ROM", "GIF", "ASEAN", "BRICS", "SEATO", "CERN", "COBRA", "HIPAA", "MEDICARE", "DREAM", "RICO", "OK",
}  # fmt: skip
_ROMAN: Final = {
    "I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11, "XII": 12, "XIII": 13,
    "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20,
}  # fmt: skip
_NUMBERED: Final = "War|Chapter|Part|Book|Type|Act|Scene|Section|Article|Title|Volume|Phase|Class|Stage|Table|Level|Apollo|Bowl"
_FIGURE: Final = r"\d+(?:,\d{3})*(?:\.\d+)?"

_RULES: Final = (
    (re.compile(r"\be\.\s?g\.,?", re.I), " for example "),
    (re.compile(r"\bi\.\s?e\.,?", re.I), " that is "),
    (re.compile(r"\bet al\.", re.I), "et al"),
    (re.compile(rf"\b({_NUMBERED}) (I{{1,3}}|IV|VI{{0,3}}|IX|XI{{0,3}})\b"), lambda match: f"{match[1]} {_ROMAN[match[2]]}"),
    (re.compile(r"\b([A-Z][a-z]{2,}) (I{2,3}|IV|VI{0,3}|IX|XI{0,3}|XIV|XV|XVI{0,3}|XIX|XX)\b"),
     lambda match: f"{match[1]} the {_ROMAN[match[2]]}th "),
    (re.compile(r"\b(No|Nos|no)\. ?(?=\d)"), " number "),
    (re.compile(r"\b(?:pp?|fig|figs|eq)\. ?(?=\d)", re.I), " § "),  # a pointer to a page: not said
    (re.compile(rf"\b({_MONTHS}) (\d\d?)(?:st|nd|rd|th)?(?=[\s,.;:)]|$)"), lambda match: f"{match[1]} {match[2]}th"),
    (re.compile(rf"\b(\d\d?) ({_MONTHS})\b"), lambda match: f"the {match[1]}th of {match[2]}"),
    (re.compile(r"\b(\d{1,2}):00\b"), r"\1 o'clock"),
    (re.compile(r"\b(\d{1,2}):0([1-9])\b"), r"\1 o \2"),
    (re.compile(r"\b(\d{1,2}):([1-5]\d)\b"), r"\1 \2"),
    (re.compile(r"(\d)\s?-\s?(?=[\d$])"), r"\1 to "),
    (re.compile(rf"[$]({_FIGURE}) (thousand|[mbt]r?illion)"), r"\1 \2 dollars"),
    (re.compile(rf"£({_FIGURE}) (thousand|[mbt]r?illion)"), r"\1 \2 pounds"),
    (re.compile(rf"€({_FIGURE}) (thousand|[mbt]r?illion)"), r"\1 \2 euros"),
    (re.compile(r"[$]1(?![\d.,]\d|\d)"), "1 dollar"),
    (re.compile(r"[$](\d+(?:,\d{3})*)\.(\d\d)\b"), r"\1 dollars and \2 cents"),
    (re.compile(r"[$](\d+(?:,\d{3})*)(?!\.?\d)"), r"\1 dollars"),
    (re.compile(r"£(\d+(?:,\d{3})*)(?!\.?\d)"), r"\1 pounds"),
    (re.compile(r"€(\d+(?:,\d{3})*)(?!\.?\d)"), r"\1 euros"),
    (re.compile(r"¢"), " cents"),
    (re.compile(r"(?<=\d) ?%"), " percent"),
    (re.compile(r"(?<=\d) ?° ?C\b"), " degrees celsius"),
    (re.compile(r"(?<=\d) ?° ?F\b"), " degrees fahrenheit"),
    (re.compile(r"(?<=\d) ?°"), " degrees "),
    (re.compile(r"(?<=\d) (" + "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True))) + r")(?=[\s.,;:)]|$)"),
     lambda match: " " + _UNITS[match[1]]),
    (re.compile(r"\s&\s"), " and "),
    (re.compile(r"(?<=[A-Z])&(?=[A-Z])"), " and "),
    (re.compile(r"(?<=[a-z])/(?=[a-z])"), " "),
    (re.compile(r"\b(?!PM)([A-Z]{1,3})([0-9]{1,2})\b"), lambda match: f"{' '.join(match[1])} {match[2]}"),  # CO2, E1
    (re.compile(r"\s\+\s"), " plus "),
    (re.compile(r"\s=\s"), " equals "),
    (re.compile(r"\b(?:B\.C\.E\.|BCE)"), " b c e "),
    (re.compile(r"\b(?:B\.C\.|BC)\b\.?"), " b c "),
    (re.compile(r"\b(?:A\.D\.)"), " a d "),
    (re.compile(r"\b(" + "|".join(_TITLES) + r")\.(?=\s)", re.I), lambda match: _TITLES[match[1].lower()]),
    (re.compile(r"\b(mr|mrs|dr)\b(?=\s[A-Z])", re.I), lambda match: _TITLES[match[1].lower()]),
    (re.compile(r"\b(" + "|".join(_SHORT) + r")\.", re.I), lambda match: _SHORT[match[1].lower()] + " "),
    (re.compile(r"\b([A-Z])\.(?=\s[A-Z])"), r"\1"),  # George W. Bush
    (re.compile(r"\b((?:[A-Za-z]\.){2,})"), lambda match: match[1].replace(".", " ")),  # U.S., p.m., J.R.R.
    (re.compile(r"\b(\d+(?:,\d{3})*)\.(\d+)\b"), lambda match: f"{match[1]} point {' '.join(match[2])}"),
)  # fmt: skip
_ACRONYM: Final = re.compile(r"\b([A-Z]{2,6})(s|'s)?\b")
_PAUSE: Final = re.compile(r"[,;:.?!]+(?=[\s\"')\]]|$)| - ")
_PUNCTUATION: Final = re.compile(r"[\s.,;:!?\"()\[\]-]+")


def spoken_words(text: str) -> str | None:
    """Return the words of a sentence as they are said, separated by single spaces; None where no reading is certain or nothing is left.

    The result is a fixed point: saying it again changes nothing.

    >>> spoken_words("Dr. Smith paid $3.50 (about 12%) on May 5, 1990 to the U.S.")
    'doctor smith paid three dollars and fifty cents about twelve percent on may fifth nineteen ninety to the u s'
    """
    phrases = spoken_phrases(text)
    return None if phrases is None else " ".join(phrases)


def spoken_phrases(text: str) -> tuple[str, ...] | None:
    """Return the words of a sentence as `spoken_words` does, cut where its punctuation asks for a pause; None where it gives None.

    >>> spoken_phrases("In 1990, it rained; we stayed.")
    ('in nineteen ninety', 'it rained', 'we stayed')
    """
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)).strip()
    for pattern, said in _RULES:
        text = pattern.sub(said, text)
    if any(char.islower() for char in text):  # a text all in capitals has no acronyms to tell
        text = _ACRONYM.sub(_spell_acronym, text)
    phrases = [_words(phrase) for phrase in _PAUSE.split(spell_numbers(text))]
    if not any(phrases) or any(phrase is None for phrase in phrases):
        return None
    return tuple(" ".join(words) for words in phrases if words)


def _words(phrase: str) -> list[str] | None:
    """Return the words of a stretch without pauses; None if one of them is not a word."""
    words = [word for token in _PUNCTUATION.sub(" ", phrase).lower().split() if (word := token.strip("'"))]
    return words if all(_WORD.fullmatch(word) for word in words) else None


def _spell_acronym(match: re.Match[str]) -> str:
    """Return an acronym letter by letter, unless it is said as a word; a plural or possessive ending stays with the last letter."""
    letters, ending = match[1], match[2] or ""
    if letters in _SAID_AS_WORDS:
        return match[0]
    return " ".join(letters) + (f"'{ending[-1]}" if ending else "")
