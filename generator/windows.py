"""Lays a question and the words of a passage out as the reader's tokens: `[CLS] question [SEP] passage [SEP]`.

A passage that is longer than a window is read in windows that overlap by half, so that every answer of up to half a window lies whole in
one. Words are cut into pieces one by one, so each word knows its first and last token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tokenizers import Tokenizer

NUM_SPECIAL_TOKENS: Final = 3  # [CLS], and [SEP] behind question and passage


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of a question and of passage words `first_word` to `first_word + W`.

    Attributes:
        token_ids: N numbers.
        num_asked: tokens up to the first [SEP], itself included; they are of type 0, the others of type 1.
        starts, ends: W positions, each word's first and last token.
    """

    token_ids: tuple[int, ...]
    num_asked: int
    first_word: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def token_types(self) -> list[int]:
        """N numbers, 0 for the question and 1 for the passage."""
        return [0] * self.num_asked + [1] * (len(self.token_ids) - self.num_asked)


class WordPieces:
    """Cuts words into the numbers of their pieces, each word once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.first, self.last = tokenizer.encode("").ids  # [CLS], [SEP]
        self._pieces = lru_cache(maxsize=65_536)(self._cut)

    def __call__(self, word: str) -> tuple[int, ...]:
        """Return the pieces of a word; at least one."""
        return self._pieces(word)

    def _cut(self, word: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)

    def count(self, words: Sequence[str]) -> int:
        """Return how many pieces words have together."""
        return sum(len(self._pieces(word)) for word in words)


def windows(pieces: WordPieces, question: Sequence[str], passage: Sequence[str], max_tokens: int) -> Iterator[Window]:
    """Yield windows that together hold every word of the passage; a passage without words has none.

    Args:
        pieces: of words.
        question: words in spoken form.
        passage: words in spoken form.
        max_tokens: of a window; a word that alone would not fit still gets one.

    Raises:
        ValueError: the question leaves no room for a passage.
    """
    asked = [pieces.first, *(piece for word in question for piece in pieces(word)), pieces.last]
    room = max_tokens - len(asked) - 1
    if room < 1:
        raise ValueError(f"a question of {len(asked)} tokens leaves no room in a window of {max_tokens}; ask in fewer words")
    first = 0
    while first < len(passage):
        last = _fill(pieces, passage, first, room)
        yield lay_out(pieces, asked, passage[first:last], first)
        if last == len(passage):
            return
        first = max(first + 1, (first + last) // 2)


def _fill(pieces: WordPieces, passage: Sequence[str], first: int, room: int) -> int:
    last, used = first + 1, len(pieces(passage[first]))
    while last < len(passage) and used + len(pieces(passage[last])) <= room:
        used += len(pieces(passage[last]))
        last += 1
    return last


def lay_out(pieces: WordPieces, asked: Sequence[int], words: Sequence[str], first_word: int) -> Window:
    """Return a window of a question's tokens (with [CLS] and [SEP]) and words of the passage."""
    token_ids, starts, ends = list(asked), [], []
    for word in words:
        starts.append(len(token_ids))
        token_ids.extend(pieces(word))
        ends.append(len(token_ids) - 1)
    return Window((*token_ids, pieces.last), len(asked), first_word, tuple(starts), tuple(ends))
