"""ODSQA (Lee et al. 2018) and its single sentences, which are the paper's DRCD*: Mandarin, read by 20 speakers.

    FOLDER/ODSQA_textq_test-v1.1.json          SQuAD's nesting; paragraph ids like 1147-5, question ids like 1147-5-1
    FOLDER/document/1147-5-0.wav, …            the sentences of a paragraph, numbered from 0
    FOLDER/question/1147-5-1.wav               optional
    FOLDER/DRCD_dev.json                       optional: DRCD's own text, by question id

The names of the sound files within the published archive are written down nowhere; bring them to the names above. DRCD* has 1,425
sentences of DRCD's own text, ended by the ideographic full stop, one question each.
"""

from collections.abc import Iterator
from pathlib import Path

from app.errors import DataSetUnusable
from app.evaluation.domain import Context, EvaluationSet, SetQuestion
from app.evaluation.sets.reading import SquadQuestion, found, squad_questions
from app.evaluation.sets.spoken_squad import sentence_number, sentence_text

QUESTIONS = "ODSQA_textq_test-v1.1.json"
ORIGINAL = "DRCD_dev.json"
STOP = "\N{IDEOGRAPHIC FULL STOP}"


def load(folder: Path) -> EvaluationSet:
    """Return all questions over whole paragraphs.

    Raises:
        DataSetUnusable: a file is missing or has another layout.
    """
    contexts: dict[str, Context] = {}
    questions: list[SetQuestion] = []
    for one, is_reference in _questions(folder):
        if one.paragraph_id not in contexts:
            sounds = _sentences_of(folder, one.paragraph_id)
            contexts[one.paragraph_id] = Context(one.paragraph_id, one.title, sounds, one.context, is_reference=is_reference)
        questions.append(SetQuestion(one.id, one.text, one.paragraph_id, _spoken(folder, one.id)))
    return EvaluationSet("ODSQA", "zh", tuple(contexts.values()), tuple(questions))


def load_sentences(folder: Path) -> EvaluationSet:
    """Return DRCD*: one question of each sentence that holds an answer.

    Raises:
        DataSetUnusable: a file is missing or has another layout.
    """
    contexts: list[Context] = []
    questions: list[SetQuestion] = []
    seen: set[str] = set()
    for one, is_reference in _questions(folder):
        number = sentence_number(one.context, one.answer_start, STOP)
        name = f"{one.paragraph_id}-{number}"
        if name not in seen:
            seen.add(name)
            sound = found(folder / "document" / f"{name}.wav", f"sentence {number} of paragraph {one.paragraph_id}")
            text = sentence_text(one.context, number, STOP)
            contexts.append(Context(name, one.title, (sound,), text, is_reference=is_reference))
            questions.append(SetQuestion(one.id, one.text, name, _spoken(folder, one.id)))
    return EvaluationSet("DRCD*", "zh", tuple(contexts), tuple(questions))


def _questions(folder: Path) -> Iterator[tuple[SquadQuestion, bool]]:
    """Yield each question, over DRCD's own text where that is there, and whether it is."""
    path = folder / ORIGINAL
    original = {one.id: one for one in squad_questions(path)} if path.is_file() else {}
    for one in squad_questions(folder / QUESTIONS):
        yield (original[one.id], True) if one.id in original else (one, False)


def _sentences_of(folder: Path, paragraph: str) -> tuple[Path, ...]:
    sounds: list[Path] = []
    while (path := folder / "document" / f"{paragraph}-{len(sounds)}.wav").is_file():
        sounds.append(path)
    if not sounds:
        raise DataSetUnusable(f"{folder / 'document'} has no file {paragraph}-0.wav, the first sentence of paragraph {paragraph}")
    return tuple(sounds)


def _spoken(folder: Path, question: str) -> tuple[Path, ...]:
    path = folder / "question" / f"{question}.wav"
    return (path,) if path.is_file() else ()
