"""Spoken-SQuAD (Lee et al. 2018) and Spoken-SQuAD*, its single sentences.

    FOLDER/spoken_test-v1.1.json                      SQuAD's nesting; contexts are what CMU Sphinx heard
    FOLDER/dev_wav/TOPIC_PARAGRAPH_SENTENCE.wav       or Spoken-SQuAD_audio/dev_wav/…
    FOLDER/dev-v1.1.json                              SQuAD's own file; optional: what was really said

Spoken-SQuAD* is not published. The rule here gives the paper's 3,884: a context is one sentence, ended by a full stop in the recogniser's
text, and of each sentence that holds a first answer the first question is kept.
"""

from pathlib import Path

from app.errors import DataSetUnusable
from app.evaluation.domain import Context, EvaluationSet, SetQuestion
from app.evaluation.sets.reading import SquadQuestion, found, squad_questions

QUESTIONS = "spoken_test-v1.1.json"
ORIGINAL = "dev-v1.1.json"
AUDIO = ("dev_wav", "Spoken-SQuAD_audio/dev_wav")


def load(folder: Path) -> EvaluationSet:
    """Return all questions over whole paragraphs.

    Raises:
        DataSetUnusable: a file is missing or has another layout.
    """
    questions = list(squad_questions(folder / QUESTIONS))
    original = _original_texts(folder)
    audio = _audio_folder(folder)
    contexts: dict[str, Context] = {}
    for one in questions:
        name = _paragraph(one)
        if name not in contexts:
            text = original.get(one.id)
            contexts[name] = Context(name, one.title, _sentences_of(audio, name), text or one.context, is_reference=text is not None)
    return EvaluationSet("Spoken-SQuAD", "en", tuple(contexts.values()), tuple(SetQuestion(q.id, q.text, _paragraph(q)) for q in questions))


def load_sentences(folder: Path) -> EvaluationSet:
    """Return Spoken-SQuAD*: one question of each sentence that holds an answer.

    Raises:
        DataSetUnusable: a file is missing or has another layout.
    """
    audio = _audio_folder(folder)
    contexts: list[Context] = []
    questions: list[SetQuestion] = []
    seen: set[str] = set()
    for one in squad_questions(folder / QUESTIONS):
        sentence = sentence_number(one.context, one.answer_start)
        name = f"{_paragraph(one)}_{sentence}"
        if name not in seen:
            seen.add(name)
            sound = found(audio / f"{name}.wav", f"sentence {sentence} of {one.title}")
            contexts.append(Context(name, one.title, (sound,), sentence_text(one.context, sentence), is_reference=False))
            questions.append(SetQuestion(one.id, one.text, name))
    return EvaluationSet("Spoken-SQuAD*", "en", tuple(contexts), tuple(questions))


def sentence_number(context: str, start: int, stop: str = ".") -> int:
    """Return the number, from 0, of the sentence that holds a character."""
    return context[:start].count(stop)


def sentence_text(context: str, number: int, stop: str = ".") -> str:
    """Return a sentence by its number, without the stop."""
    return context.split(stop)[number].strip()


def _paragraph(question: SquadQuestion) -> str:
    return f"{question.topic}_{question.paragraph}"


def _audio_folder(folder: Path) -> Path:
    for name in AUDIO:
        if (folder / name).is_dir():
            return folder / name
    raise DataSetUnusable(f"{folder} has none of the folders {', '.join(AUDIO)}; unpack dev_wav.zip of Spoken-SQuAD_audio.zip there")


def _sentences_of(audio: Path, paragraph: str) -> tuple[Path, ...]:
    """Return the sentences of a paragraph in order; their numbers have no gaps."""
    sounds: list[Path] = []
    while (path := audio / f"{paragraph}_{len(sounds)}.wav").is_file():
        sounds.append(path)
    if not sounds:
        raise DataSetUnusable(f"{audio} has no file {paragraph}_0.wav, the first sentence of paragraph {paragraph}; is it unpacked whole?")
    return tuple(sounds)


def _original_texts(folder: Path) -> dict[str, str]:
    """Return what was really said for each question's id; empty if SQuAD's own file is not there."""
    path = folder / ORIGINAL
    return {one.id: one.context for one in squad_questions(path)} if path.is_file() else {}
