"""What the published form should write: WordPieces of what was said as rows of its output layer, and where each ends.

The output layer knows the WordPieces that the training text says often enough; row 0 stands for all others and is never trained towards.

Shapes: B utterances, N tokens.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from retriever.training.joint_batches import padded
from retriever.training.utterances import NO_TARGET, PhoneTargets, Utterance

OTHER: Final = 0  # the row of words that the output layer does not know
UNKNOWN_TOKEN: Final = "[UNK]"  # noqa: S105 - the tokeniser's, which that row writes


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


class WordRows:
    """Texts to rows of the output layer."""

    def __init__(self, tokenizer: Tokenizer, words: Sequence[int], phones: PhoneTargets) -> None:
        """Number the rows.

        Args:
            tokenizer: of the text encoder; it must not cut or pad.
            words: the token of each row, the first for all others.
            phones: to find the words' ends among those of the phones.
        """
        self.tokenizer = tokenizer
        self.words = tuple(words)
        self._rows = {word: row for row, word in enumerate(words) if row != OTHER}
        self._phones = phones

    def of_utterances(self, said: Sequence[Utterance]) -> Targets:
        """Return the targets of what was said, with ends where synthesis told those of the phones."""
        encodings = self.tokenizer.encode_batch([one.text for one in said], add_special_tokens=False)
        ends = [self._ends(one, encoding) for one, encoding in zip(said, encodings, strict=True)]
        return self._targets(encodings, ends)

    def of_texts(self, texts: Sequence[str]) -> Targets:
        """Return the targets of texts alone."""
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return self._targets(encodings, [[NO_TARGET] * len(encoding.ids) for encoding in encodings])

    def _targets(self, encodings: Sequence[Encoding], ends: Sequence[Sequence[int]]) -> Targets:
        rows, mask = padded([[self._rows.get(token, OTHER) for token in encoding.ids] for encoding in encodings])
        return Targets(rows, mask, padded(ends)[0].masked_fill(~mask, NO_TARGET))

    def _ends(self, one: Utterance, encoding: Encoding) -> list[int]:
        """Return the end of each token: of its word by the phones, within the word by its letters."""
        words = one.text.split()
        counts = [len(self._phones.of_text(word) or ()) for word in words]
        spans = [(start, end) for phone, start, end in zip(one.aligned, (0, *one.ends), one.ends, strict=False) if phone]
        if not one.ends or sum(counts) != len(spans):  # said otherwise than the lexicon has it: which phone ends a word is not known
            return [NO_TARGET] * len(encoding.ids)
        firsts = [sum(counts[:number]) for number in range(len(counts) + 1)]
        times = [(spans[first][0], spans[last - 1][1]) for first, last in pairwise(firsts)]
        starts = [0]  # of each word in the text, then the text's end
        for word in words:
            starts.append(starts[-1] + len(word) + 1)
        ends, place = [], 0
        for _, letter in encoding.offsets:
            while letter > starts[place + 1]:
                place += 1
            begin, end = times[place]
            ends.append(round(begin + (end - begin) * (letter - starts[place]) / len(words[place])))
        return ends


def frequent_words(tokenizer: Tokenizer, texts: Iterable[str], min_count: int) -> tuple[int, ...]:
    """Return the tokens that texts have at least so often, in order, after the one that stands for all others.

    Raises:
        ValueError: the tokeniser has no token for unknown words.
    """
    counts = Counter(token for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False) for token in encoding.ids)
    other = tokenizer.token_to_id(UNKNOWN_TOKEN)
    if other is None:
        raise ValueError(f"the tokeniser has no {UNKNOWN_TOKEN}; give that of the text encoder")
    return (other, *sorted(token for token, count in counts.items() if count >= min_count and token != other))
