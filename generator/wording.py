"""Words as they are compared: in lower case, numbers spoken out, endings cut; and how rare each is in general.

A lecture's few segments say too little about rarity, so it comes from a table counted in textbooks (`weights/word-rarity.json`).
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from generator.errors import CalibrationMissing
from retriever.lexical import STOP_WORDS, stem
from retriever.spoken_numbers import spell_numbers

RARITY_PATH: Final = Path(__file__).parent / "weights" / "word-rarity.json"

# Further words of questions that say nothing of their subject.
QUESTION_WORDS: Final = frozenset(
    (  # noqa: SIM905  # a list would take a line for each
        "above according again am below between called done down few further get give given go happen happened happens kind let many "
        "may might much must name named now often says thing things type upon use used using were"
    ).split()
)
_NUMBERS: Final = frozenset(
    (  # noqa: SIM905  # likewise; "one" is mostly a pronoun
        "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
        "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion percent half century dozen"
    ).split()
)
_ASKS_FOR_NUMBER: Final = re.compile(
    r"\bhow (many|much|old|long|far|tall|large|big|high|fast|often)\b|\bwhen\b"
    r"|\b(what|which) (year|date|percent\w*|age|century|decade|number|amount)\b",
    re.IGNORECASE,
)


def normal_words(text: str) -> list[str]:
    """Return the words as they are compared, in order."""
    plain = spell_numbers(text.lower().replace("'s", "").replace("'", ""))
    return [stem(token) for token in re.findall(r"\d+|[^\W\d_]+", plain)]


def content_words(question: str) -> tuple[str, ...]:
    """Return the question's words that name its subject, each once; all its words where none would be left."""
    stops = {stem(word) for word in STOP_WORDS | QUESTION_WORDS}
    words = [word for word in dict.fromkeys(normal_words(question)) if len(word) > 1]
    return tuple(word for word in words if word not in stops) or tuple(words)


def asks_for_number(question: str) -> bool:
    """Say whether the question wants a number or a date."""
    return _ASKS_FOR_NUMBER.search(question) is not None


def holds_number(text: str) -> bool:
    """Say whether a number is said; a lone "one" is mostly a pronoun."""
    return any(word.isdigit() or word in _NUMBERS for word in text.lower().split())


class Rarity:
    """How rare words are in general.

    Args:
        counts: of common words, as they are compared.
        num_words: that were counted in all; a word that was not kept is as rare as the rarest that was.
    """

    def __init__(self, counts: Mapping[str, int], num_words: int) -> None:
        self._counts = counts
        self._num_words = num_words
        self._rarest = min(counts.values())

    def of(self, word: str) -> float:
        """Return the negative logarithm of a word's share of all words."""
        return math.log(self._num_words / self._counts.get(word, self._rarest))

    def coverage(self, asked: Sequence[str], heard: Collection[str]) -> float:
        """Return the share, by rarity, of the words asked that were heard; in [0, 1], 0 if nothing was asked."""
        held = set(heard)
        total = sum(self.of(word) for word in asked)
        return sum(self.of(word) for word in asked if word in held) / total if total else 0.0


def load_rarity(path: Path = RARITY_PATH) -> Rarity:
    """Read the table.

    Raises:
        CalibrationMissing: it is absent or damaged.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        counts = {str(word): int(count) for word, count in record["counts"].items()}
        return Rarity(counts, int(record["num_words"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationMissing(f"the table of word rarity {path.name} cannot be read ({error}); install the package again") from error
