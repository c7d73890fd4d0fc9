"""Marks answers in sentences that are known to answer, with a reader that is already trained: more questions to learn from.

    python -m generator.training.reader_pseudo --data FOLDER --checkpoint checkpoints/reader/a/last.pt --out checkpoints/reader/marked.jsonl

The questions of `nqg_train` come with the sentence that answers but without the answer. The reader chooses the span; the surest ones are
kept (self-training; Sachan and Xing 2018, "Self-Training for Jointly Learning to Ask and Answer Questions").
Neighbouring rows
are of one article, so the sentences around make up the passage.
"""

import argparse
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from generator.nets.reader import Reader
from generator.span_scores import best_spans, log_total, span_scores
from generator.spoken_form import spoken_form
from generator.training.reader_batches import collate
from generator.training.reader_data import QuestionOnPassage, Words
from generator.training.reader_export import read_checkpoint, shipped_pieces
from generator.windows import WordPieces

NUM_AROUND: Final = 2  # sentences on each side
MAX_WORDS: Final = 12  # of an answer
ARTICLE_SENTENCES: Final = 60  # about an article: others of these are "nearest"
MIN_WORDS: Final = 5  # of a sentence
_BRACKETS: Final = re.compile(r"-[lr][rsc]b-")


@dataclass(frozen=True, slots=True)
class AnsweringSentence:
    """A question with the number of the sentence that answers it."""

    id: str
    question: Words
    sentence: int


def read_sentences(qa: Path) -> tuple[list[Words], list[AnsweringSentence]]:
    """Return the distinct sentences in the file's order, and the training questions."""
    sentences: list[Words] = []
    numbers: dict[Words, int] = {}
    questions = []
    with gzip.open(qa / "nqg_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            words, question = (tuple(spoken_form(_BRACKETS.sub(" ", row[name]))) for name in ("context", "question"))
            if words not in numbers:
                numbers[words] = len(sentences)
                sentences.append(words)
            if row["split"] == "train" and question and len(words) >= MIN_WORDS:
                questions.append(AnsweringSentence(row["id"], question, numbers[words]))
    return sentences, questions


def mark(
    net: Reader, pieces: WordPieces, sentences: Sequence[Words], questions: Sequence[AnsweringSentence], num_rows: int = 24
) -> Iterator[tuple[AnsweringSentence, tuple[int, int], float]]:
    """Yield each question with the words of its sentence that the reader marks, and their share among all spans of the sentence."""
    ordered = sorted(questions, key=lambda one: len(sentences[one.sentence]) + len(one.question))
    for start in range(0, len(ordered), num_rows):
        group = ordered[start : start + num_rows]
        examples = [QuestionOnPassage(one.id, "nqg", "", one.question, sentences[one.sentence], ()) for one in group]
        batch = collate(examples, pieces)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            scores = net(batch.token_ids, batch.token_mask, batch.token_types).float().numpy()
        for row, one in enumerate(group):
            starts, ends = (scores[row, np.flatnonzero(batch.allowed[row, :, edge].numpy()), edge] for edge in range(2))
            spans = span_scores(starts, ends, MAX_WORDS)
            (best,) = best_spans(spans, 1)
            yield one, (best.first, best.last), float(np.exp(best.score - log_total(spans)))


def in_passage(one: AnsweringSentence, place: tuple[int, int], sentences: Sequence[Words]) -> QuestionOnPassage:
    """Return the question with the sentences around its own as its passage."""
    first = max(0, one.sentence - NUM_AROUND)
    before = [word for words in sentences[first : one.sentence] for word in words]
    after = [word for words in sentences[one.sentence + 1 : one.sentence + 1 + NUM_AROUND] for word in words]
    own = sentences[one.sentence]
    answer = (len(before) + place[0], len(before) + place[1])
    gold = own[place[0] : place[1]]
    shortened = () if f" {' '.join(gold)} " in f" {' '.join([*before, '|', *after])} " else (*before, *after)
    group = f"nqg/{one.sentence // ARTICLE_SENTENCES}"
    return QuestionOnPassage(one.id, "nqg_train", group, one.question, (*before, *own, *after), (answer,), (gold,), shortened)


def read_marked(path: Path) -> list[QuestionOnPassage]:
    """Return what `main` wrote."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        words = {name: tuple(row[name]) for name in ("question", "passage", "shortened")}
        places = {name: tuple(tuple(one) for one in row[name]) for name in ("answers", "golds")}
        found.append(QuestionOnPassage(**(row | words | places)))
    return found


def main() -> None:
    """Read the arguments, mark, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds qa/")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.75, help="of the questions to keep, the surest first")
    arguments = parser.parse_args()
    sentences, questions = read_sentences(arguments.data / "qa")
    marked = list(mark(read_checkpoint(arguments.checkpoint), shipped_pieces(), sentences, questions))
    marked.sort(key=lambda one: -one[2])
    kept = marked[: round(arguments.share * len(marked))]
    with arguments.out.open("w", encoding="utf-8") as file:
        for one, place, _ in kept:
            file.write(json.dumps(asdict(in_passage(one, place, sentences))) + "\n")
    print(f"{len(kept)} of {len(marked)} kept, the least sure at {kept[-1][2]:.3f}")


if __name__ == "__main__":
    main()
