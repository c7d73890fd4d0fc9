"""Measures text retrieval on questions and passages: `python -m retriever.training.evaluate_passages --help`.

Each distinct passage stands for a segment in which exactly these words were heard; a question's right segment is its own passage. Runs the
shipped text encoder (or another) and the real index: each side alone, vectors and words, and all fused as the cascade does.
"""

import argparse
import gzip
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from retriever.build import build_fusion
from retriever.config import Cascade
from retriever.domain import EmbeddedSegment, EncodedQuestion, Segment, Word
from retriever.fusion import Fusion
from retriever.index import SegmentIndex
from retriever.metrics import mean_reciprocal_rank, recall_at_k
from retriever.sentence_encoder import MINILM, SentenceEncoder

LECTURE: Final = UUID(int=1)
ALONE: Final = 1e6  # weight beside which the cosine merely breaks ties
NUM_HITS: Final = 100
SIDES: Final[Mapping[str, Fusion]] = {
    "vectors": Fusion(0.0, gram_weight=0.0),
    "words": Fusion(ALONE, gram_weight=0.0),
    "letters": Fusion(0.0, gram_weight=ALONE),
    "vectors and words": Fusion(0.1, gram_weight=0.0),
    "fused": build_fusion(Cascade()),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and the passage that answers it; `group` names the passage where its text varies."""

    question: str
    passage: str
    group: str


def read_pairs(path: Path) -> list[Pair]:
    """Return the pairs of a JSON lines file, gzipped or not, with `question`, `context` and perhaps `paragraph`."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    rows = [json.loads(line) for line in text.split("\n") if line]
    return [Pair(row["question"], row["context"], row.get("paragraph", row["context"])) for row in rows]


def evaluate(
    pairs: Sequence[Pair], questions: Sequence[Pair], sides: Mapping[str, Fusion], folder: Path = MINILM
) -> dict[str, list[int | None]]:
    """Return, for each side, the rank of each question's passage among all passages; `folder` holds the text encoder."""
    encoder = SentenceEncoder(folder)
    passages = list({pair.group: pair.passage for pair in pairs}.items())
    numbers = {group: number for number, (group, _) in enumerate(passages)}
    vectors = encoder.encode([text for _, text in passages])
    segments = [
        EmbeddedSegment(Segment(LECTURE, number, number + 1, LECTURE), vectors[number], (Word(text, number, number + 1),), "minilm")
        for number, (_, text) in enumerate(passages)
    ]
    encoded = [EncodedQuestion(encoder.encode([pair.question])[0], pair.question, None) for pair in questions]
    ranks: dict[str, list[int | None]] = {}
    for side, fusion in sides.items():
        index = SegmentIndex.create("minilm", encoder.dimension, fusion)
        index.add(segments)
        ranks[side] = [_rank(index, question, numbers[pair.group]) for question, pair in zip(encoded, questions, strict=True)]
    return ranks


def _rank(index: SegmentIndex, question: EncodedQuestion, right: int) -> int | None:
    found = [hit.segment.start for hit in index.search(question, NUM_HITS, {LECTURE})]
    return found.index(right) + 1 if right in found else None


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path, help="JSON lines with question and context")
    parser.add_argument("--sample", type=int, help="ask this many questions, chosen at random (seed 0), of all passages")
    parser.add_argument("--encoder", type=Path, default=MINILM, help="folder of an exported text encoder")
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.questions)
    questions = random.Random(0).sample(pairs, arguments.sample) if arguments.sample else pairs  # noqa: S311 - no secret
    for side, ranks in evaluate(pairs, questions, SIDES, arguments.encoder).items():
        numbers = " ".join(f"R@{k} {100 * recall_at_k(ranks, k):.1f}" for k in (1, 5, 10))
        sys.stdout.write(f"{side}: {numbers} MRR {mean_reciprocal_rank(ranks):.3f}\n")


if __name__ == "__main__":
    main()
