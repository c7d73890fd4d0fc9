"""How many words the published form gets wrong on voices that are held out.

    python -m retriever.training.published_measure --checkpoint FOLDER --speech FOLDER --lexicon FILE --phones FILE --tokenizer FILE

Each folder of shards whose name ends in -dev, by the speaker's kind: the share of wrong words, of wrong WordPieces, and how many WordPieces
are written for each that was said.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from retriever.metrics import edit_distance
from retriever.nets.clsr import WordPieceClsr
from retriever.training.published_retriever import hear, load_published, words_of
from retriever.training.published_targets import WordRows
from retriever.training.utterances import PhoneTargets, Utterance, read_source


@torch.no_grad()
def word_error_rates(net: WordPieceClsr, tokenizer: Tokenizer, rows: WordRows, utterances: Sequence[Utterance]) -> dict[str, float]:
    """Return the share of wrong words, of wrong tokens, and how many tokens were written for each that was said."""
    wrong_words = num_words = wrong_tokens = num_tokens = written = 0
    for one in utterances:
        pieces = hear(net, tokenizer, one.sound())
        tokens = rows.pieces(one.text)
        wrong_words += edit_distance(one.text.split(), [word.text for word in words_of(pieces)])
        wrong_tokens += edit_distance(tokens, [piece.text for piece in pieces])
        num_words, num_tokens, written = num_words + len(one.text.split()), num_tokens + len(tokens), written + len(pieces)
    rates = {"words": wrong_words / num_words, "tokens": wrong_tokens / num_tokens, "written": written / num_tokens}
    return {name: round(rate, 4) for name, rate in rates.items()}


def measured(net: WordPieceClsr, tokenizer: Tokenizer, speech: Path, phones: PhoneTargets, max_clips: int) -> dict[str, dict[str, float]]:
    """Return the error rates on the first clips of each kind of voice that is held out."""
    net.eval()
    rows = WordRows(tokenizer, net.words.tolist(), phones)
    groups: dict[str, list[Utterance]] = {}
    for folder in sorted(path for path in speech.iterdir() if path.name.endswith("-dev")):
        for one in read_source(folder, phones, {}):
            groups.setdefault(f"{folder.name} {one.voice.split('-')[0]}", []).append(one)
    return {name: word_error_rates(net, tokenizer, rows, some[:max_clips]) for name, some in groups.items() if max_clips}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder that the training of the published form left")
    parser.add_argument("--speech", type=Path, required=True, help="folder with folders of shards")
    parser.add_argument("--lexicon", type=Path, required=True)
    parser.add_argument("--phones", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--max-clips", type=int, default=120, help="of each kind of voice")
    arguments = parser.parse_args(argv)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    phones = PhoneTargets.read(arguments.lexicon, arguments.phones)
    for name, rates in measured(load_published(arguments.checkpoint), tokenizer, arguments.speech, phones, arguments.max_clips).items():
        sys.stdout.write(f"{name} {json.dumps(rates)}\n")


if __name__ == "__main__":
    main()
