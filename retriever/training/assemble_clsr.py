"""Puts a shipped CLSR together: the recogniser's network, the dictionary and language model, and which text encoder reads the words.

    python -m retriever.training.assemble_clsr --recogniser FOLDER --search FOLDER --out FOLDER --set word_penalty=0.5

`--recogniser` holds what training left, `--search` the files that `retriever.training.language_model` wrote. `config.json` is written last,
with the hash of every file, so a folder that was not finished is refused by who reads it.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Final

from retriever.acoustic import NETWORK
from retriever.hearing import SEARCH_FILES, SEARCH_PREFIX
from retriever.pronunciations import PHONES
from retriever.runtime import sha256
from retriever.training.export_recogniser import export, load_recogniser

LANGUAGE: Final = "en"


def assemble(recogniser: Path, search: Path, out: Path, text_encoder: str, settings: dict[str, float]) -> None:
    """Write the folder that `retriever.clsr` reads.

    Args:
        recogniser: folder of the checkpoint.
        search: folder of dictionary and language model.
        out: folder, made if need be; a model card in it is left alone.
        text_encoder: name of the folder beside `out` that holds the text encoder.
        settings: of the search, those that differ from its defaults.

    Raises:
        ModelFilesMissing: the checkpoint cannot be read.
        FileNotFoundError: a file of the search is absent.
    """
    net = load_recogniser(recogniser)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").unlink(missing_ok=True)
    export(net, out / NETWORK)
    for name in SEARCH_FILES:
        shutil.copyfile(search / name, out / name)
    config = {
        "name": out.name,
        "language": LANGUAGE,
        "text_encoder": text_encoder,
        "phones": " ".join(PHONES),
        "outputs_per_frame": net.config.outputs_per_frame,
        **{SEARCH_PREFIX + name: value for name, value in settings.items()},
        "files": {name: sha256(out / name) for name in (NETWORK, *SEARCH_FILES)},
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recogniser", type=Path, required=True)
    parser.add_argument("--search", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text-encoder", default="minilm-l6-en", help="folder beside --out")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the search")
    arguments = parser.parse_args()
    settings = {name: float(value) for name, value in (pair.split("=") for pair in arguments.set)}
    assemble(arguments.recogniser, arguments.search, arguments.out, arguments.text_encoder, settings)


if __name__ == "__main__":
    main()
