"""Which loader reads a folder or file: told by name, or recognised by what is there."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from app.errors import DataSetUnusable
from app.evaluation.domain import EvaluationSet
from app.evaluation.sets import json_lines, librisqa, odsqa, slue_sqa5, spoken_squad

Load = Callable[[Path], EvaluationSet]

LOADERS: Final[Mapping[str, Load]] = {
    "spoken-squad": spoken_squad.load,
    "spoken-squad-sentences": spoken_squad.load_sentences,
    "librisqa": librisqa.load,
    "slue-sqa5": slue_sqa5.load,
    "odsqa": odsqa.load,
    "drcd-sentences": odsqa.load_sentences,
    "json-lines": json_lines.load,
    "text": json_lines.load_text,
}


def load_set(name: str) -> EvaluationSet:
    """Return the set that `PATH` or `LAYOUT:PATH` names.

    Raises:
        DataSetUnusable: there is no such layout, the layout cannot be told, or the data lacks files.
    """
    layout, _, rest = name.partition(":")
    if rest and layout in LOADERS:
        return LOADERS[layout](Path(rest))
    path = Path(name)
    if not path.exists():
        raise DataSetUnusable(f"{name} is neither a folder nor a file; give PATH or LAYOUT:PATH, LAYOUT one of {', '.join(LOADERS)}")
    return LOADERS[_layout(path)](path)


def _layout(path: Path) -> str:
    if path.is_file():
        return "text"
    signs = {
        "json-lines": "contexts.jsonl",
        "spoken-squad": spoken_squad.QUESTIONS,
        "librisqa": librisqa.QUESTIONS,
        "slue-sqa5": "slue-sqa5_test.tsv",
        "odsqa": odsqa.QUESTIONS,
    }
    for layout, sign in signs.items():
        if (path / sign).is_file():
            return layout
    raise DataSetUnusable(f"{path} has none of {', '.join(signs.values())}; say which layout it has as LAYOUT:{path}")
