"""SLUE-SQA-5 (Shon et al. 2023): real speech, questions and documents both spoken.

    FOLDER/slue-sqa5_test.tsv            ids, texts and speakers of question and document, in the order of the columns below
    FOLDER/test/question/QUESTION.wav
    FOLDER/test/document/DOCUMENT.wav
    FOLDER/test/word2time/DOCUMENT.txt   word, normalised word, start, end in seconds; a word without times stands alone; optional

Several questions share a document, so that index-matched recall has a ceiling below 1; the de-duplicated one has not.
"""

from pathlib import Path

from app.errors import DataSetUnusable
from app.evaluation.domain import Context, EvaluationSet, SetQuestion
from app.evaluation.sets.reading import found, read_table
from retriever.domain import Word, to_samples

# Columns; between them stand the normalised question, its speaker and the document as written.
QUESTION_ID, QUESTION, DOCUMENT_ID, NORMALISED_DOCUMENT = 0, 1, 4, 6


def load(folder: Path, split: str = "test") -> EvaluationSet:
    """Return a split: `dev`, `test` or `verified-test`.

    Raises:
        DataSetUnusable: a file is missing or has another layout.
    """
    path = folder / f"slue-sqa5_{split}.tsv"
    contexts: dict[str, Context] = {}
    questions: list[SetQuestion] = []
    for number, row in enumerate(read_table(path), start=2):
        if len(row) <= NORMALISED_DOCUMENT:
            raise DataSetUnusable(f"{path}, line {number}, has {len(row)} columns, more than {NORMALISED_DOCUMENT} are needed")
        question, document = row[QUESTION_ID], row[DOCUMENT_ID]
        if document not in contexts:
            sound = found(folder / split / "document" / f"{document}.wav", f"document {document}")
            said = _words(folder / split / "word2time" / f"{document}.txt")
            contexts[document] = Context(document, "", (sound,), row[NORMALISED_DOCUMENT], said)
        spoken = found(folder / split / "question" / f"{question}.wav", f"question {question}")
        questions.append(SetQuestion(question, row[QUESTION], document, (spoken,)))
    return EvaluationSet(f"SLUE-SQA-5 {split}", "en", tuple(contexts.values()), tuple(questions))


def _words(path: Path) -> tuple[Word, ...]:
    """Return the words that have times; none if the file is not there."""
    if not path.is_file():
        return ()
    words = []
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split("\t")
        if len(fields) == 4 and fields[1]:
            start, end = to_samples(float(fields[2])), to_samples(float(fields[3]))
            if 0 <= start < end:
                words.append(Word(fields[1].lower(), start, end))
    return tuple(words)
