"""What the language model reads: `python -m retriever.training.language_text --help`.

Every sentence of the training texts as it is said, one per line, an empty line between paragraphs, in one file per kind and split.
An abbreviation that is said letter by letter is one word here ("dna", not "d n a"), so it is one of the lexicon too, and a search finds it.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from retriever.training.speech_text import is_held_out, sentences
from retriever.training.spoken_text import spoken_words
from retriever.training.text_sources import paragraphs, question_files, question_rows

ABBREVIATIONS: Final = "abbreviations.txt"
CUT_LINE: Final = "<cut>"
TEXT_KINDS: Final = ("openstax", "books", "other", "spoken")
# Passages of these are in the texts already, or are whole meetings.
_PASSAGES_ELSEWHERE: Final = frozenset({"openstax_questions", "openstax_glossary", "qmsum"})
_CAPITALS: Final = re.compile(r"\b([A-Z]{2,6})(s|'s|’s)?\b")
_DOTTED: Final = {"U.S.A.": "usa", "U.S.S.R.": "ussr", "U.S.": "us", "U.K.": "uk", "U.N.": "un", "D.C.": "dc", "Ph.D.": "phd"}
_CAPITALS_SHARE: Final = 0.8  # of a word's occurrences, from which on it is an abbreviation


class Abbreviations:
    """Which words are abbreviations: they are written in capitals nearly always, or stand for a country."""

    def __init__(self, texts: Iterable[str]) -> None:
        capitals: Counter[str] = Counter()
        small: Counter[str] = Counter()
        for text in texts:
            if not text.isupper():
                capitals.update(match[1].lower() for match in _CAPITALS.finditer(text))
                small.update(word for word in re.findall(r"\b[a-z]{2,6}\b", text))
        self._words = {word for word, number in capitals.items() if number >= _CAPITALS_SHARE * (number + small[word])} | {"us"}

    @property
    def words(self) -> frozenset[str]:
        """The abbreviations, in lower case."""
        return frozenset(self._words)

    def join(self, said: str, written: str) -> str:
        """Return a said sentence with the letters of its abbreviations put together.

        >>> Abbreviations(["a DNA"]).join("the d n a of g p u's", "The DNA of GPUs")
        "the dna of g p u's"
        """
        found = {(match[1].lower(), match[2] or "") for match in _CAPITALS.finditer(written)}
        found |= {(word, "") for dotted, word in _DOTTED.items() if dotted.lower() in written.lower()}
        for word, ending in sorted(found, key=lambda one: -len(one[0])):
            if word in self._words or word in _DOTTED.values():
                letters = " ".join(word) + (f"'{ending[-1]}" if ending else "")
                joined = word + ("'s" if len(ending) > 1 else ending)
                said = re.sub(rf"(?<!\S){letters}(?!\S)", joined, said)
        return said


def write_texts(data: Path, out: Path) -> None:
    """Write `train-<kind>.txt` and `dev-<kind>.txt` for the texts, the questions and their passages; what is finished stays.

    A paragraph is held out by its hash, as in the training speech; a question by its file's split, its passage with it.
    """
    out.mkdir(parents=True, exist_ok=True)
    abbreviations = Abbreviations(text for kind in TEXT_KINDS for text in paragraphs(data / "text" / kind))
    (out / ABBREVIATIONS).write_text("".join(f"{word}\n" for word in sorted(abbreviations.words)), encoding="utf-8")
    for kind in TEXT_KINDS:
        if not (out / f"train-{kind}.txt").exists():
            texts = list(paragraphs(data / "text" / kind))
            _write([text for text in texts if is_held_out(text)], out / f"dev-{kind}.txt", abbreviations)
            _write([text for text in texts if not is_held_out(text)], out / f"train-{kind}.txt", abbreviations)
    for path in question_files(data / "qa"):
        name = path.name.split(".")[0]
        if (out / f"train-questions-{name}.txt").exists():
            continue
        rows = list(question_rows(path))
        held_out = {str(row["context"]) for row in rows if row["split"] != "train"}
        for split in ("dev", "train"):
            own = [row for row in rows if (row["split"] == "train") == (split == "train")]
            contexts = dict.fromkeys(str(row["context"]) for row in own)
            if name not in _PASSAGES_ELSEWHERE:
                kept = [text for text in contexts if split == "dev" or text not in held_out]
                _write(kept, out / f"{split}-passages-{name}.txt", abbreviations)
            questions = dict.fromkeys(str(row["question"]) for row in own if row.get("kind") != "cloze")
            _write(questions, out / f"{split}-questions-{name}.txt", abbreviations)


def read_sentences(path: Path) -> Iterator[list[str]]:
    """Yield the words of each sentence of a written file; an empty list between paragraphs and for what cannot be read aloud."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield [] if line.startswith(CUT_LINE) else line.split()


def said_paragraphs(texts: Iterable[str], abbreviations: Abbreviations) -> Iterator[list[str]]:
    """Yield the sentences of each text as they are said; an empty string stands for a sentence that cannot be read aloud."""
    for text in texts:
        yield [abbreviations.join(spoken_words(written) or "", written) for written in sentences(text)]


def _write(texts: Iterable[str], path: Path, abbreviations: Abbreviations) -> None:
    partial = path.with_suffix(".part")
    with partial.open("w", encoding="utf-8") as file:
        for said in said_paragraphs(texts, abbreviations):
            file.write("".join(f"{sentence or CUT_LINE}\n" for sentence in said) + "\n")
    partial.replace(path)


def main() -> None:
    """Write the texts."""
    parser = argparse.ArgumentParser(prog="python -m retriever.training.language_text", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with text/ and qa/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sentences")
    arguments = parser.parse_args()
    write_texts(arguments.data, arguments.out)


if __name__ == "__main__":
    main()
