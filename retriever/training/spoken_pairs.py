"""Questions and the sentence that answers each, to be spoken: the data of the joint stage.

Out of the project's training files (`qa/*.jsonl.gz`), never an evaluation file; what `passage_pairs` holds out stays out. A context is the
sentence around the marked answer, at most some forty words (about 15 s), as it would be said.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from retriever.training.passage_pairs import HELD_OUT_BOOKS, HELD_OUT_TAIL, HELD_OUT_TITLES, read_rows
from retriever.training.spoken_text import spoken_words

MAX_WORDS: Final = 38  # 15 s of quick speech
MIN_WORDS: Final = 6
SOURCES: Final = ("nqg_train", "new_wiki", "qed", "clapnq", "covid_qa", "qamr", "fairytale_qa")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])|\n+")


@dataclass(frozen=True, slots=True)
class SpokenPair:
    """A question and what is said in answer to it.

    Attributes:
        question: as typed.
        context: words of a to z with single spaces.
        article: what the context is a part of; contexts of one article are hard to tell apart.
    """

    question: str
    context: str
    article: str


def read_pairs(folder: Path, sources: Sequence[str] = SOURCES) -> list[SpokenPair]:
    """Return the training pairs of the files, each context with its first question.

    Args:
        folder: holds `*.jsonl.gz`.
        sources: names of files.
    """
    pairs: dict[str, SpokenPair] = {}
    for source in sources:
        rows = list(read_rows(folder / f"{source}.jsonl.gz"))
        kept = rows[: int(HELD_OUT_TAIL * len(rows))] if source == "nqg_train" else rows
        for number, row in enumerate(kept):
            article = row["title"] or f"{source}/{number // 40}"  # neighbours of a file without titles are of one article
            if not _is_held_out(row) and (context := answering(row)) is not None:
                pairs.setdefault(context, SpokenPair(row["question"], context, article))
    return list(pairs.values())


def answering(row: Mapping[str, Any]) -> str | None:
    """Return the sentence around the answer as it would be said, or None if it is too short, too long or has no certain reading."""
    marked = [answer["start"] for answer in row["answers"] if answer["start"] >= 0]
    if not marked and row["level"] != "sentence":
        return None
    text, place = row["context"], marked[0] if marked else 0
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    start = max((end for end in ends if end <= place), default=0)
    end = min((end for end in ends if end > place), default=len(text))
    said = spoken_words(text[start:end])
    return said if said is not None and MIN_WORDS <= len(said.split()) <= MAX_WORDS else None


def _is_held_out(row: Mapping[str, Any]) -> bool:
    return row["split"] != "train" or row["title"] in HELD_OUT_TITLES or row["title"].startswith(HELD_OUT_BOOKS)


class PairBatches:
    """Batches by number: the same number gives the same pairs, in groups of one article, so that negatives are hard."""

    def __init__(self, pairs: Iterable[SpokenPair], num_pairs: int, group_size: int, seed: int) -> None:
        """Group the pairs.

        Args:
            pairs: to draw from.
            num_pairs: in a batch.
            group_size: of one article.
            seed: of the order.

        Raises:
            ValueError: there are fewer pairs than a batch needs.
        """
        articles: dict[str, list[SpokenPair]] = defaultdict(list)
        for pair in pairs:
            articles[pair.article].append(pair)
        rng = random.Random(seed)  # noqa: S311 - no secret
        groups = []
        for some in articles.values():
            rng.shuffle(some)
            groups += [some[place : place + group_size] for place in range(0, len(some), group_size)]
        rng.shuffle(groups)
        self._pairs = [pair for group in groups for pair in group]
        self._num_pairs = num_pairs
        if len(self._pairs) < num_pairs:
            raise ValueError(f"a batch takes {num_pairs} pairs, there are {len(self._pairs)}; give more data or a smaller batch")

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._pairs)

    def draw(self, number: int) -> list[SpokenPair]:
        """Return the pairs of a batch; after the last pair the first comes again."""
        first = number * self._num_pairs
        return [self._pairs[place % len(self._pairs)] for place in range(first, first + self._num_pairs)]
