"""The nouns of an evaluation: contexts that are searched, questions with the context that answers them, both together as a set.

A context is what a data set counts as one hit: a sentence, a paragraph, a passage of 40 s. It may last longer than a segment; its rank is
then that of its best segment.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from app.errors import DataSetUnusable
from retriever.domain import Word

SENTENCE_PAUSE_S = 0.3  # between the sound files of one context


@dataclass(frozen=True, slots=True)
class Context:
    """What a question's answer is to be found in.

    Attributes:
        id: unique in its set.
        title: of the article or book it is from; empty if the set does not say.
        sounds: files that together are the context, in order; empty if only its text is known.
        text: what is said in it, in writing; None if unknown.
        said: its words, with half-open spans in samples of all sounds together (pauses between files included); empty if unknown.
        is_reference: whether `text` is what was said; False if it is a recogniser's output, which measures no word error rate.
    """

    id: str
    title: str
    sounds: tuple[Path, ...]
    text: str | None
    said: tuple[Word, ...] = ()
    is_reference: bool = True


@dataclass(frozen=True, slots=True)
class SetQuestion:
    """A question of a set.

    Attributes:
        context_id: of the context that answers it.
        sounds: the question spoken; empty if it is only in writing.
        text: the question in writing.
        said: its words where it is spoken, spans in samples; empty if unknown, `text` then counts as what was said.
    """

    id: str
    text: str
    context_id: str
    sounds: tuple[Path, ...] = ()
    said: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Contexts and questions.

    Attributes:
        name: as reports call it.
        language: ISO 639-1.

    Raises:
        DataSetUnusable: it is empty, an id occurs twice, or a question's context is not in it.
    """

    name: str
    language: str
    contexts: tuple[Context, ...]
    questions: tuple[SetQuestion, ...]

    def __post_init__(self) -> None:
        if not self.contexts or not self.questions:
            raise DataSetUnusable(f"{self.name} has {len(self.contexts)} contexts and {len(self.questions)} questions; both are needed")
        known = _unique([context.id for context in self.contexts], f"{self.name}: context")
        _unique([question.id for question in self.questions], f"{self.name}: question")
        for question in self.questions:
            if question.context_id not in known:
                raise DataSetUnusable(f"{self.name}: question {question.id} names context {question.context_id}, which is not in the set")

    @property
    def has_sound(self) -> bool:
        """Whether every context can be listened to."""
        return all(context.sounds for context in self.contexts)

    @property
    def has_spoken_questions(self) -> bool:
        """Whether every question can be listened to."""
        return all(question.sounds for question in self.questions)

    def first(self, num_contexts: int) -> "EvaluationSet":
        """Return the first contexts with their questions: every n-th context, so that all topics are in it."""
        step = max(1, len(self.contexts) // num_contexts)
        contexts = self.contexts[::step][:num_contexts]
        kept = {context.id for context in contexts}
        questions = tuple(question for question in self.questions if question.context_id in kept)
        return replace(self, name=f"{self.name}, {len(contexts)} of {len(self.contexts)} contexts", contexts=contexts, questions=questions)

    def data_hash(self) -> str:
        """Return the SHA-256 over all ids, texts and sound files: equal only if the very same data was evaluated."""
        lines = [f"{context.id} {content_key(context)}" for context in self.contexts]
        lines += [f"{question.id} {content_key(question)}" for question in self.questions]
        return sha256("\n".join(lines).encode()).hexdigest()


def content_key(item: Context | SetQuestion) -> str:
    """Return what names the content of an item, sound included: work on it is kept under this name."""
    where = item.context_id if isinstance(item, SetQuestion) else ""
    said = [[word.text, word.start, word.end] for word in item.said]
    return sha256(json.dumps([item.text, where, said, *map(_sound_key, item.sounds)]).encode()).hexdigest()[:32]


def _sound_key(path: Path) -> str:
    about = path.stat()
    return _hash_file(path, about.st_mtime_ns, about.st_size)


@cache
def _hash_file(path: Path, _changed_ns: int, _num_bytes: int) -> str:
    """Return the SHA-256 of a file, read once as long as it does not change."""
    with path.open("rb") as file:
        digest = sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _unique(ids: Sequence[str], what: str) -> set[str]:
    known: set[str] = set()
    for one in ids:
        if one in known:
            raise DataSetUnusable(f"{what} {one!r} occurs twice; ids must be unique")
        known.add(one)
    return known
