"""What the published form should write: WordPieces of what was said as rows of its output layer, and where each ends.

The output layer may know a part of the text encoder's vocabulary only, chosen so that a few hours of speech have each of its WordPieces
often: a word is then spelled in the longest of them that fit, as the tokeniser does with all. Row 0 stands for what cannot be spelled; it
is never trained towards.

Shapes: B utterances, U frames of 60 ms, N tokens.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from retriever.training.joint_batches import padded
from retriever.training.phone_times import Spans
from retriever.training.utterances import NO_TARGET, PhoneTargets, Utterance

OTHER: Final = 0  # the row of what cannot be spelled
UNKNOWN_TOKEN: Final = "[UNK]"  # noqa: S105 - the tokeniser's, which that row writes
CONTINUES: Final = "##"  # begins a WordPiece that does not begin a word
NUM_SPARE: Final = 4  # so many times the WordPieces that are wanted are looked at more closely


@dataclass(frozen=True, slots=True)
class Targets:
    """What was said in a batch."""

    rows: Tensor  # int64 (B, N) of the output layer, zero in padding
    mask: Tensor  # bool (B, N)
    ends: Tensor  # int64 (B, N): where each token ends in samples, NO_TARGET where unknown and in padding

    @property
    def known(self) -> Tensor:
        """Which tokens have a row of their own: bool (B, N)."""
        return self.mask & (self.rows != OTHER)

    def to(self, device: torch.device) -> "Targets":
        """Return the same on a device."""
        return Targets(self.rows.to(device), self.mask.to(device), self.ends.to(device))


class Speller:
    """Words as WordPieces, always the longest that fits (Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1)."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = frozenset(pieces)
        self._longest = max(map(len, self._pieces), default=0)

    def spell(self, word: str) -> list[tuple[str, int]]:
        """Return the pieces of a word, each with the letter behind its last; an apostrophe is one, what does not fit is `[UNK]`."""
        return [(piece, part.start() + end) for part in re.finditer(r"'|[^']+", word) for piece, end in self._part(part[0])]

    def _part(self, part: str) -> list[tuple[str, int]]:
        pieces, start = [], 0
        while start < len(part):
            before = CONTINUES if start else ""
            ends = range(min(len(part), start + self._longest), start, -1)
            end = next((end for end in ends if before + part[start:end] in self._pieces), None)
            if end is None:
                return [(UNKNOWN_TOKEN, len(part))]
            pieces.append((before + part[start:end], end))
            start = end
        return pieces


class WordRows:
    """Texts to rows of the output layer."""

    def __init__(self, tokenizer: Tokenizer, words: Sequence[int], phones: PhoneTargets) -> None:
        """Number the rows.

        Args:
            tokenizer: of the text encoder.
            words: the token of each row, the first for what cannot be spelled.
            phones: to find the words' ends among those of the phones.
        """
        self.words = tuple(words)
        self._rows = {tokenizer.id_to_token(word) or "": row for row, word in enumerate(words)}
        self._speller = Speller(name for name, row in self._rows.items() if row != OTHER)
        self._phones = phones

    def of_utterances(self, said: Sequence[Utterance], spans: Sequence[Spans]) -> Targets:
        """Return the targets of what was said, with their ends by the spans of its phones, in samples; none where these are unknown."""
        spelled = [self._spell(one.text) for one in said]
        return self._targets(spelled, [self._ends(*one) for one in zip(said, spelled, spans, strict=True)])

    def of_texts(self, texts: Sequence[str]) -> Targets:
        """Return the targets of texts alone."""
        spelled = [self._spell(text) for text in texts]
        return self._targets(spelled, [[NO_TARGET] * sum(map(len, words)) for words in spelled])

    def pieces(self, text: str) -> list[str]:
        """Return a text as the output layer writes it."""
        return [piece for word in self._spell(text) for piece, _ in word]

    def _spell(self, text: str) -> list[list[tuple[str, int]]]:
        return [self._speller.spell(word) for word in text.split()]

    def _targets(self, spelled: Sequence[list[list[tuple[str, int]]]], ends: Sequence[Sequence[int]]) -> Targets:
        rows, mask = padded([[self._rows.get(piece, OTHER) for word in words for piece, _ in word] for words in spelled])
        return Targets(rows, mask, padded(ends)[0].masked_fill(~mask, NO_TARGET))

    def _ends(self, one: Utterance, spelled: list[list[tuple[str, int]]], spans: Spans) -> list[int]:
        """Return the end of each token: of its word by the phones, within the word by its letters."""
        counts = [len(self._phones.of_text(word) or ()) for word in one.text.split()]
        if sum(counts) != len(spans):  # said otherwise than the lexicon has it, or not found: which phone ends a word is not known
            return [NO_TARGET] * sum(map(len, spelled))
        firsts = [sum(counts[:number]) for number in range(len(counts) + 1)]
        ends = []
        for word, (first, last) in zip(spelled, pairwise(firsts), strict=True):
            begin, end = spans[first][0], spans[last - 1][1]
            ends += [round(begin + (end - begin) * letter / word[-1][1]) for _, letter in word]
        return ends


def even_weights(targets: Targets, frame_mask: Tensor, frame_samples: int) -> Tensor:
    """Return weights of frames (B, U) whose sum reaches each token's number at its end; zero for sounds whose ends are not known."""
    weights = torch.zeros(frame_mask.shape)
    for row, ends, num, frames in zip(
        weights, targets.ends.tolist(), targets.mask.sum(dim=1).tolist(), frame_mask.sum(dim=1).tolist(), strict=True
    ):
        if num and ends[0] != NO_TARGET:
            places = np.minimum([0, *ends[:num]], frames * frame_samples)
            reached = np.interp(np.arange(frames + 1) * frame_samples, places, np.arange(num + 1))
            row[:frames] = torch.from_numpy(np.diff(reached))
    return weights


def choose_words(tokenizer: Tokenizer, texts: Iterable[str], num_words: int) -> tuple[int, ...]:
    """Return about so many tokens of the text encoder that spell the texts, in order, after the one for what cannot be spelled.

    Of all substrings that are tokens, those that save most letters; of these, in two steps, those most used when the texts are spelled.
    Single letters always stay, so that every word can be spelled.

    Raises:
        ValueError: the tokeniser has no token for unknown words.
    """
    numbers = {name: number for name, number in tokenizer.get_vocab().items() if re.fullmatch(r"(##)?[a-z]+|'", name)}
    other = tokenizer.token_to_id(UNKNOWN_TOKEN)
    if other is None:
        raise ValueError(f"the tokeniser has no {UNKNOWN_TOKEN}; give that of the text encoder")
    letters = {name for name in numbers if len(name.removeprefix(CONTINUES)) == 1}
    parts = Counter(part for text in texts for part in re.findall(r"[^'\s]+", text))
    kept = [name for name, _ in _letters_saved(parts, numbers.keys()).most_common(NUM_SPARE * num_words)]
    for size in (NUM_SPARE * num_words // 2, num_words):
        speller, used = Speller([*kept, *letters]), Counter[str]()
        for part, count in parts.items():
            for piece, _ in speller.spell(part):
                used[piece] += count
        kept = sorted(set(kept) - letters, key=lambda name: -used[name])[: max(0, size - len(letters))]
    return (other, *sorted(numbers[name] for name in {*kept, *letters}))


def _letters_saved(parts: Mapping[str, int], names: Container[str]) -> Counter[str]:
    """Return of each name how many letters of the parts of words it could stand for, less one for itself each time."""
    saved: Counter[str] = Counter()
    for part, count in parts.items():
        for start in range(len(part)):
            for end in range(start + 2, len(part) + 1):
                name = (CONTINUES if start else "") + part[start:end]
                if name in names:
                    saved[name] += count * (end - start - 1)
    return saved
