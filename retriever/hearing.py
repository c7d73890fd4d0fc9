"""Words heard in sounds by the shipped recogniser: filter banks, the network, and the search for words.

Shapes: N samples, K outputs of 30 ms, P phones and blank.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Final

from retriever import ngram_model, pronunciations
from retriever._word_beam import Settings
from retriever.acoustic import AcousticModel, LogProbs
from retriever.domain import Audio, Word
from retriever.errors import ModelFilesMissing
from retriever.lexicon_search import HeardWord, Hypothesis, LexiconSearch
from retriever.pronunciations import PHONES
from retriever.runtime import WAY_OUT, ShippedModel

SEARCH_FILES: Final = (pronunciations.FILE_NAME, ngram_model.FILE_NAME)
SEARCH_PREFIX: Final = "search."  # of the settings of the search in `config.json`


class Ear:
    """Sounds in, what may have been said out; may be shared by threads."""

    def __init__(self, model: ShippedModel) -> None:
        """Load the network, the dictionary and the language model.

        Raises:
            ModelFilesMissing: a file is absent or altered, or the network writes other phones than the dictionary.
        """
        phones = model.text("phones")
        if tuple(phones.split()) != PHONES:
            raise ModelFilesMissing(
                f"{model.folder} holds a network of the phones {phones!r}, the search reads {' '.join(PHONES)!r}; {WAY_OUT}"
            )
        for name in SEARCH_FILES:
            model.verified(name)
        self._network = AcousticModel(model)
        self._search = LexiconSearch.load(model.folder, search_settings(model))

    def hear(self, sounds: Sequence[Audio], num_best: int = 1) -> list[tuple[Hypothesis, ...]]:
        """Return for each sound up to `num_best` hypotheses, best first, at least one; what is heard depends on no other sound."""
        return self.understand([self.listen(sound) for sound in sounds], num_best)

    def listen(self, sound: Audio) -> LogProbs:
        """Return the log-probabilities (K, P) of the phones in a sound."""
        return self._network.log_probs(sound.samples)

    def understand(self, log_probs: Sequence[LogProbs], num_best: int = 1) -> list[tuple[Hypothesis, ...]]:
        """Return for each sound of which the phones are given what `hear` returns; several at once take little longer than one."""
        return self._search.search(log_probs, num_best)

    def words(self, heard: Sequence[HeardWord], num_samples: int, offset: int = 0) -> tuple[Word, ...]:
        """Return words with their spans in samples.

        Args:
            heard: of one sound.
            num_samples: N of it; its last output may reach beyond.
            offset: in samples, added to the spans.
        """
        size = self._network.output_samples
        ends = [min(word.end * size, num_samples) for word in heard]
        return tuple(
            Word(word.text, offset + min(word.start * size, end - 1), offset + end, word.confidence)
            for word, end in zip(heard, ends, strict=True)
        )


def search_settings(model: ShippedModel) -> Settings:
    """Return the search's settings, those that `config.json` names instead of the defaults.

    Raises:
        ModelFilesMissing: it names one that the search does not have.
    """
    given: dict[str, Any] = {}
    known = {field.name for field in fields(Settings)}
    for name, value in model.settings.items():
        setting = name.removeprefix(SEARCH_PREFIX)
        if setting == name:
            continue
        if setting not in known or isinstance(value, str):
            raise ModelFilesMissing(
                f"{model.folder / 'config.json'} sets {name} to {value!r}; numbers for {sorted(known)} can be; {WAY_OUT}"
            )
        given[setting] = value
    return replace(Settings(), **given)


def ear_name(model: ShippedModel) -> str:
    """Return what shapes the words that are heard: the files, the phones and the settings of the search."""
    return json.dumps([dict(sorted(model.files.items())), model.text("phones"), asdict(search_settings(model))], sort_keys=True)
