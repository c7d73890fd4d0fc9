"""Makes the pronouncing dictionary of the recogniser: `python -m retriever.training.lexicon --help`.

Every word that the training text says gets one line per pronunciation, `word<TAB>p1 p2 p3`, the most usual first, in the 39 phones of the
CMU dictionary without stress. Sources, the first that knows the word: the CMU pronouncing dictionary that PocketSphinx brings, a known word
with an ending (plural, possessive), its letters if it is written in capitals, flite's letter-to-sound rules.
"""

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pocketsphinx

from retriever.errors import ModelFilesMissing
from retriever.pronunciations import PHONES
from retriever.training.language_text import ABBREVIATIONS, read_sentences
from retriever.training.spoken_text import spoken_words
from retriever.training.text_sources import transcripts

Pronunciation = tuple[str, ...]
Lexicon = dict[str, list[Pronunciation]]

_FLITE_PHONES: Final[Mapping[str, Sequence[str]]] = {  # what flite distinguishes and the dictionary does not
    "ax": ("ah",),
    "axr": ("er",),
    "ix": ("ih",),
    "dx": ("t",),
    "nx": ("n",),
    "el": ("ah", "l"),
    "em": ("ah", "m"),
    "en": ("ah", "n"),
    "hv": ("hh",),
}
_VOICELESS: Final = frozenset(["p", "t", "k", "f", "th"])
_HISSING: Final = frozenset(["s", "z", "sh", "zh", "ch", "jh"])
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_WORDS_PER_CALL: Final = 500


def words_said(texts: Path, speech: Path) -> Counter[str]:
    """Count the words of the files that `language_text` wrote and of the training transcripts; all letters are among them."""
    said = Counter(
        word for path in sorted(texts.glob("*.txt")) if path.name != ABBREVIATIONS for line in read_sentences(path) for word in line
    )
    for text in transcripts(speech, "train"):
        said.update((spoken_words(text) or "").split())
    said.update(_LETTERS)
    said.update(f"{letter}'s" for letter in _LETTERS)
    return said


def read_cmudict(path: Path) -> Lexicon:
    """Return the CMU dictionary of a PocketSphinx model: `word P1 P2`, further pronunciations as `word(2) P1 P2`."""
    lexicon: Lexicon = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, *phones = line.lower().split()
        lexicon.setdefault(re.sub(r"\(\d+\)$", "", name), []).append(tuple(phones))
    return lexicon


def cmudict_path() -> Path:
    """Return the CMU dictionary that PocketSphinx brings."""
    return Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"


def plain_words(lexicon: Lexicon) -> Lexicon:
    """Return the entries that are words as the training text writes them: letters, and apostrophes between them.

    >>> sorted(plain_words({"o'clock": [], "'bout": [], "u.s.": [], "dogs'": [], "a": []}))
    ['a', "o'clock"]
    """
    return {word: phones for word, phones in lexicon.items() if re.fullmatch(r"[a-z]+(?:'[a-z]+)*", word)}


def pronounce(words: Collection[str], abbreviations: Collection[str], known: Lexicon, made: Lexicon) -> Lexicon:
    """Return the pronunciations of words, in alphabetical order; a word that nobody can say has none.

    Args:
        words: in lower case.
        abbreviations: those that are said letter by letter.
        known: a dictionary made by people.
        made: pronunciations by rule of an earlier run; those that are missing are added to it.
    """
    lexicon: Lexicon = {}
    for word in sorted(words):
        spelled = _spelled(word, known) if re.sub("'?s$", "", word) in abbreviations or word in abbreviations else []
        found = spelled + [phones for phones in known.get(word) or _with_ending(word, known) if phones not in spelled]
        if found:
            lexicon[word] = found
    left = [word for word in sorted(words) if word not in lexicon]
    missing = [word for word in left if word not in made]
    for start in range(0, len(missing), _WORDS_PER_CALL):
        made |= by_rule(missing[start : start + _WORDS_PER_CALL])
    lexicon |= {word: made[word] for word in left if made[word]}
    return dict(sorted(lexicon.items()))


def _with_ending(word: str, known: Lexicon) -> list[Pronunciation]:
    for ending in ("'s", "s'", "s"):
        stem = word.removesuffix(ending)
        if stem != word and stem in known:
            return [(*phones, *_sibilant(phones[-1])) for phones in known[stem]]
    return []


def _sibilant(last: str) -> Pronunciation:
    """Return how the ending s sounds after a phone: cats, dogs, horses."""
    if last in _HISSING:
        return ("ih", "z")
    return ("s",) if last in _VOICELESS else ("z",)


def _spelled(word: str, known: Lexicon) -> list[Pronunciation]:
    """Return an abbreviation said letter by letter, its ending with the last letter: DNA, GPUs."""
    ending = _sibilant(known[word[-2] if word[-2] != "'" else word[-3]][0][-1]) if word.endswith("s") and len(word) > 2 else ()
    letters = re.sub("'?s$", "", word) if ending else word
    return [(*(phone for letter in letters for phone in known[letter][-1 if letter == "a" else 0]), *ending)]


def by_rule(words: Sequence[str]) -> Lexicon:
    """Return how flite says words that no dictionary has; a word that it does not say has no pronunciation.

    Raises:
        ModelFilesMissing: flite is not installed.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(f"{word}.\n\n" for word in words))
        file.flush()
        try:
            heard = subprocess.run(["flite", "-ps", "-f", file.name, "-o", "none"], check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise ModelFilesMissing(
                "flite says the words that no dictionary has, and it is not installed; install the package flite"
            ) from error
    lines = [line for line in heard.stdout.splitlines() if line.strip()]
    if len(lines) != len(words):
        if len(words) == 1:
            return {words[0]: [_mapped(" ".join(lines))] if lines else []}
        middle = len(words) // 2  # flite joined or split a line: find which
        return by_rule(words[:middle]) | by_rule(words[middle:])
    return {word: [phones] if (phones := _mapped(line)) else [] for word, line in zip(words, lines, strict=True)}


def _mapped(line: str) -> Pronunciation:
    phones = (phone for said in line.split() if said != "pau" for phone in _FLITE_PHONES.get(said, (said,)))
    return tuple(phones)


def write_lexicon(lexicon: Mapping[str, Iterable[Pronunciation]], path: Path) -> None:
    """Write one line per pronunciation; a reader never sees half a file."""
    lines = (f"{word}\t{' '.join(phones)}\n" for word, pronunciations in lexicon.items() for phones in pronunciations)
    partial = path.with_suffix(".part")
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)


def read_lexicon(path: Path) -> Lexicon:
    """Return what `write_lexicon` wrote; nothing if there is no such file."""
    lexicon: Lexicon = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            word, _, phones = line.partition("\t")
            lexicon.setdefault(word, []).append(tuple(phones.split()))
    return lexicon


def main() -> None:
    """Write the dictionary and the list of phones."""
    parser = argparse.ArgumentParser(prog="python -m retriever.training.lexicon", description=__doc__)
    parser.add_argument("--texts", type=Path, required=True, help="folder that language_text wrote")
    parser.add_argument("--speech", type=Path, required=True, help="folder with the tables of the transcripts")
    parser.add_argument("--out", type=Path, required=True, help="folder for lexicon.tsv, phones.txt and what was made by rule")
    arguments = parser.parse_args()
    rules = arguments.out / "by-rule.tsv"
    made = read_lexicon(rules)
    known = read_cmudict(cmudict_path())
    abbreviations = frozenset((arguments.texts / ABBREVIATIONS).read_text(encoding="utf-8").split())
    lexicon = pronounce(words_said(arguments.texts, arguments.speech), abbreviations, known, made)
    write_lexicon(made, rules)
    write_lexicon(lexicon, arguments.out / "lexicon.tsv")
    (arguments.out / "phones.txt").write_text("\n".join(PHONES) + "\n", encoding="utf-8")
    print(f"{len(lexicon)} words, {sum(map(len, lexicon.values()))} pronunciations, {len(made)} words by rule")


if __name__ == "__main__":
    main()
