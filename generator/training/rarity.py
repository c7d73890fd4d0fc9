"""Counts how common words are in textbooks: makes `weights/word-rarity.json`.

    python -m generator.training.rarity --text FOLDER --out generator/weights/word-rarity.json

FOLDER holds `*.txt.gz`, one paragraph a line, headings after "# ".
"""

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from generator.wording import normal_words


def count_words(paths: Sequence[Path], num_kept: int) -> dict[str, object]:
    """Return the table: counts of the commonest words and the number of all words counted."""
    counts: Counter[str] = Counter()
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith("#"):
                    counts.update(normal_words(line))
    return {"num_words": counts.total(), "counts": dict(counts.most_common(num_kept))}


def main() -> None:
    """Read the arguments, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-kept", type=int, default=8000)
    arguments = parser.parse_args()
    paths = sorted(arguments.text.glob("*.txt.gz"))
    if not paths:
        parser.error(f"{arguments.text} holds no *.txt.gz; name the folder with the textbooks themselves")
    table = count_words(paths, arguments.num_kept)
    arguments.out.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
