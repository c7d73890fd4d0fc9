"""LibriSQA part I (Zhao et al. 2023): one question for each utterance of LibriSpeech test-clean.

FOLDER/LibriSQA-PartI/LibriSQA-PartI-test.json    a list: speech_path, question, answer, text, duration
FOLDER/LibriSpeech/test-clean/…                   as LibriSpeech unpacks; `speech_path` may end in .wav where the file is .flac
"""

from pathlib import Path

from app.errors import DataSetUnusable
from app.evaluation.domain import Context, EvaluationSet, SetQuestion
from app.evaluation.sets.reading import read_json

QUESTIONS = "LibriSQA-PartI/LibriSQA-PartI-test.json"


def load(folder: Path) -> EvaluationSet:
    """Return the test set.

    Raises:
        DataSetUnusable: a file is missing or has another layout.
    """
    path = folder / QUESTIONS
    rows = read_json(path)
    contexts: dict[str, Context] = {}
    questions: list[SetQuestion] = []
    try:
        for number, row in enumerate(rows):
            name = Path(row["speech_path"]).stem
            if name not in contexts:
                contexts[name] = Context(name, name.split("-")[0], (_sound(folder, row["speech_path"]),), row["text"])
            questions.append(SetQuestion(f"q{number}", row["question"], name))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataSetUnusable(f"{path} is not a list with speech_path, question and text ({error!r}); name part I") from error
    return EvaluationSet("LibriSQA part I", "en", tuple(contexts.values()), tuple(questions))


def _sound(folder: Path, speech_path: str) -> Path:
    tail = Path(speech_path.removeprefix("./").removeprefix("LibriSpeech/").lstrip("/"))
    for base in (folder / "LibriSpeech", folder):
        for ending in (".flac", ".wav"):
            if (path := (base / tail).with_suffix(ending)).is_file():
                return path
    raise DataSetUnusable(f"{speech_path} is not below {folder}; unpack LibriSpeech's test-clean.tar.gz there")
