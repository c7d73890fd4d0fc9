"""Training on a machine that is lent for minutes and has no network: all that is needed in one small pack, and the weights back in pieces.

    python -m retriever.training.pack make --data DATA --noise NOISE --lexicon FILE --phones FILE --checkpoint CHECKPOINT --out FOLDER
    sh FOLDER/run.sh train --minutes 9 --steps 30000 --bring PIECES        # there; called again, it goes on where it stopped
    python -m retriever.training.pack unpack PIECES --out CHECKPOINT       # here; then `retriever.training.recogniser` goes on with it

On the other machine, processes on all cores speak the pack's lines with its synthesisers and distort them, into a ring in memory from which
the recogniser learns on the GPU (`_pack_voices`, `_pack_ring`). How, and what was tried: docs/training-on-a-gpu.md.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from retriever.nets.recogniser import Recogniser, read_config
from retriever.training import frame
from retriever.training._pack_make import LINE_BYTES, MAX_BYTES, NOISE_BYTES, Contents, make_pack
from retriever.training._pack_ring import Ring, RingConfig, batches
from retriever.training._pack_voices import Speakers, Voices
from retriever.training._pack_weights import WeightsTooLarge, join_checkpoint, split_checkpoint
from retriever.training.recogniser import Schedule, Trainer, measure_cmvn, recogniser_config
from retriever.training.utterances import BatchConfig, PhoneTargets, read_shares

NUM_CMVN_BATCHES = 20

log = logging.getLogger(__name__)


def train(arguments: argparse.Namespace) -> None:
    """Train until the time is up or the last step is done, then bring the weights if asked to."""
    torch.manual_seed(arguments.seed)
    pack: Path = arguments.pack
    out: Path = arguments.out or pack / "checkpoint"
    begun_anew = not (out / frame.STATE).is_file()
    if begun_anew and (pack / "weights").is_dir():
        log.info("going on from the pack's weights, step %d", join_checkpoint(pack / "weights", out))
    trainer = _trainer(arguments, out)
    trained = trainer.resume()
    libraries = pack / "lib" if (pack / "lib").is_dir() else None
    recordings = pack / "speech" if (pack / "speech").is_dir() else None
    shares = read_shares(arguments.shares)
    seed = arguments.seed * 1_000_003 + trainer.step  # each command hears something else
    voices = Voices(pack / "lines.txt", recordings, pack / "noise", shares, seed, libraries)
    targets = PhoneTargets.read(pack / "lexicon.tsv", pack / "phones.txt")
    config = RingConfig(BatchConfig(shares, arguments.batch_s, arguments.pool_s), arguments.ring_hours, arguments.first_s)
    with Speakers(voices, arguments.speakers or os.cpu_count() or 1) as speakers, Ring(speakers, targets, config) as ring:
        stream = batches(ring, config, trainer.device, (arguments.seed, trainer.step))
        if not trained:
            here = (replace(batch, features=batch.features.cpu(), mask=batch.mask.cpu()) for batch in stream)
            measure_cmvn(trainer.net, here, NUM_CMVN_BATCHES)
            trainer.restart_average()

        def learn() -> dict[str, float]:
            losses = trainer.learn(next(stream))
            return {"ctc": losses.ctc.item(), "tap": losses.tap.item(), "ring h": ring.seconds / 3600}

        frame.train(trainer, learn, frame.Pace(arguments.minutes, arguments.save_minutes, arguments.log_every))
    if arguments.bring is not None:
        bring(out, arguments.bring)


def _trainer(arguments: argparse.Namespace, out: Path) -> Trainer:
    """Return a trainer of the checkpoint's size, or of the size asked for; `--steps` are counted from where the pack's weights stand."""
    config, first = recogniser_config(arguments.num_blocks, 0.0), 0
    origin = out / "origin.json"
    if (out / frame.STATE).is_file():
        state: dict[str, Any] = json.loads((out / frame.STATE).read_text(encoding="utf-8"))
        config = read_config(state["config"])
        first = json.loads(origin.read_text())["step"] if origin.is_file() else state["step"]
    out.mkdir(parents=True, exist_ok=True)
    origin.write_text(json.dumps({"step": first}))
    decay = arguments.decay_steps or max(1, arguments.steps // 4)
    schedule = Schedule(first + arguments.steps, decay, peak_rate=arguments.peak_rate)
    return Trainer(Recogniser(config), schedule, out, torch.device(arguments.device))


def bring(checkpoint: Path, out: Path) -> None:
    """Write the weights in pieces: those of the last step and their average, or the average alone where both are too large."""
    try:
        pieces = split_checkpoint(checkpoint, out)
    except WeightsTooLarge:
        pieces = split_checkpoint(checkpoint, out, ("average",))
    log.info("%d files, %d bytes in %s", len(pieces), sum(path.stat().st_size for path in pieces), out)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    _add_make(commands.add_parser("make", help="collect what is needed"))
    _add_train(commands.add_parser("train", help="train from a pack that was unpacked; `run.sh` does that"))
    bringing = commands.add_parser("bring", help="put a checkpoint's weights into pieces that may travel")
    bringing.add_argument("checkpoint", type=Path)
    unpacking = commands.add_parser("unpack", help="make a checkpoint of pieces")
    unpacking.add_argument("pieces", type=Path)
    for command in (bringing, unpacking):
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--pack", type=Path, help=argparse.SUPPRESS)  # `run.sh` says it to every command
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.command == "make":
        given = {name: getattr(arguments, name) for name in (field.name for field in fields(Contents))}
        print(f"{make_pack(Contents(**given), arguments.out)} bytes in {arguments.out}")
    elif arguments.command == "train":
        train(arguments)
    elif arguments.command == "bring":
        bring(arguments.checkpoint, arguments.out)
    else:
        print(f"{arguments.out} stands at step {join_checkpoint(arguments.pieces, arguments.out)}")


def _add_make(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with speech, text and qa")
    parser.add_argument("--noise", type=Path, required=True, help="folder of .flac files; those in folders named rir… are responses")
    parser.add_argument("--lexicon", type=Path, required=True)
    parser.add_argument("--phones", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="go on from its averaged weights")
    parser.add_argument("--wheels", type=Path, help="folder of .whl files of packages that the other machine lacks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--line-bytes", type=int, default=LINE_BYTES, help="of text, before compression")
    parser.add_argument("--noise-bytes", type=int, default=NOISE_BYTES)
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    parser.add_argument("--seed", type=int, default=0)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pack", type=Path, required=True, help="the unpacked pack")
    parser.add_argument("--out", type=Path, help="checkpoints; otherwise in the pack's folder")
    parser.add_argument("--bring", type=Path, help="at the end put the weights here, in pieces")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop after so long")
    parser.add_argument("--save-minutes", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=30_000, help="in all, from the pack's weights on")
    parser.add_argument("--decay-steps", type=int, default=0, help="0: a quarter of the steps")
    parser.add_argument("--peak-rate", type=float, default=1e-3)
    parser.add_argument("--num-blocks", type=int, default=8, help="where there are no weights to go on from")
    parser.add_argument("--shares", default="real=0.25,flite=0.4,espeak=0.35", help="of each source in the clips")
    parser.add_argument("--speakers", type=int, default=0, help="processes that speak; 0: one for each core")
    parser.add_argument("--ring-hours", type=float, default=60.0, help="of sound in memory at most, 115 MB each")
    parser.add_argument("--first-s", type=float, default=600.0, help="of sound in memory before training begins")
    parser.add_argument("--batch-s", type=float, default=440.0)
    parser.add_argument("--pool-s", type=float, default=7_200.0)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")


if __name__ == "__main__":
    main()
