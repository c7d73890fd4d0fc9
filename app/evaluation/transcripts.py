"""What was heard against what was said: word error rates by jiwer, which the extra `evaluate` brings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import CommandMisused
from app.evaluation.domain import Context, SetQuestion
from retriever.domain import join_words
from retriever.spoken_numbers import spell_numbers

BY_CHARACTER = frozenset({"zh", "ja"})  # written without spaces: each character counts as a word


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Errors over several texts together.

    Attributes:
        rate: all errors for each word that was said; may exceed 1.
    """

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    num_words: int


def said_in(item: Context | SetQuestion) -> str | None:
    """Return what was said in a context or a spoken question; None if only a recogniser's output is known."""
    if item.said:
        return join_words(item.said)
    return item.text if not isinstance(item, Context) or item.is_reference else None


def normalised(text: str, language: str) -> str:
    """Return a text as it is compared: lower case, numbers in words, no punctuation; one space between words, or between characters.

    >>> normalised("In 1906, the Panthers' 2nd win.", "en")
    "in nineteen six the panthers' second win"
    """
    if language in BY_CHARACTER:
        return " ".join(re.findall(r"[^\W_]", text))
    return " ".join(re.findall(r"[^\W_](?:[^\W_]|')*", spell_numbers(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))))


def word_errors(said: Sequence[str], heard: Sequence[str], language: str) -> WordErrors | None:
    """Return the errors over all texts together; texts in which nothing was said are left out; None if that are all.

    Raises:
        CommandMisused: jiwer is not installed.
    """
    try:
        import jiwer  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CommandMisused("word error rates need the extra `evaluate`: pip install 'askaloud[evaluate]'") from error
    pairs = [(normalised(one, language), normalised(other, language)) for one, other in zip(said, heard, strict=True)]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        return None
    found = jiwer.process_words([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    num_words = found.hits + found.substitutions + found.deletions
    return WordErrors(found.wer, found.substitutions, found.deletions, found.insertions, num_words)
