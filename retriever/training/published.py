"""CLSR as published, at our size: CIF and a parallel decoder write WordPieces, through which the retrieval loss reaches the speech encoder.

    python -m retriever.training.published --recogniser FOLDER --speech FOLDER --noise FOLDER --lexicon FILE --phones FILE \
        --tokenizer FILE --out FOLDER --steps 900

The speech encoder begins as the trained recogniser's; predictor, decoder and output layer begin at nothing, and for the first
`--frozen-steps` they alone are trained, several times on the states of each batch. Losses: cross entropy with smoothed labels and the
number of tokens, both of the paper, and two of ours: CTC over phones, so that the encoder keeps what it knows, and the distance of the
predictor's weights to those that would fire where each token ends, as the best path through that CTC tells. With `--aligned-steps` tokens
are at first gathered by these. With `--retrieval-weight` above 0 each step also speaks contexts and joins InfoNCE of their questions, the
paper's third loss: begin that run with `--start`, the folder of one without.

Hu et al. 2025, "CLSR" (arXiv 2511.09282); Gao et al. 2022, "Paraformer". The output layer knows `--num-words` of the text encoder's
WordPieces, since a few hours of speech have most of them seldom or never; other words are spelled in shorter pieces. Minimum word error
training, which the paper names without a weight, is left out. Stopped at any time, the same command goes on from the last checkpoint, with
the same batches as if it had not been stopped.

Shapes: B utterances or pairs, U frames of 60 ms, N tokens, D channels of the text encoder.
"""

import argparse
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from retriever import ngram_model, pronunciations
from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, load_weights
from retriever.nets.cif import CifConfig
from retriever.nets.clsr import CifWordPieces, ClsrConfig, WordPieceClsr
from retriever.nets.recogniser import Recogniser
from retriever.nets.sampler import SamplerConfig
from retriever.nets.text_encoder import TextEncoderConfig
from retriever.ngram_model import NgramModel
from retriever.pronunciations import Pronunciations
from retriever.training.augmentation import Augmentation, AugmentationConfig
from retriever.training.export_recogniser import load_recogniser
from retriever.training.frame import AVERAGE, NET, Pace, Schedule, Trainer, train
from retriever.training.joint_batches import Lexicon, Speaker
from retriever.training.published_learning import PublishedTraining, SpokenPairs, Stage, WordPieceLearner
from retriever.training.published_measure import measured
from retriever.training.published_retriever import AUXILIARY
from retriever.training.published_targets import WordRows, choose_words
from retriever.training.spoken_pairs import PairBatches, read_pairs
from retriever.training.utterances import BatchConfig, Batches, PhoneTargets, read_shares, read_source

log = logging.getLogger(__name__)


def small_source(recogniser: Recogniser, num_decoder_blocks: int, num_words: int, glancing: float) -> CifWordPieces:
    """Return the sizes of the published form on top of a recogniser's encoder."""
    speech = replace(recogniser.config.encoder, num_decoder_blocks=num_decoder_blocks)
    cif = CifConfig(speech.block.dimension)
    return CifWordPieces(speech, recogniser.config.frontend, cif, SamplerConfig(glancing), num_words=num_words)


def known_words(arguments: argparse.Namespace, tokenizer: Tokenizer, sources: Sequence[str], phones: PhoneTargets) -> tuple[int, ...]:
    """Return the words of the checkpoint that is gone on with or begun from, else those that spell the training text best."""
    for folder in (arguments.out, arguments.start):
        if folder is not None and (folder / NET).is_file():
            return tuple(load_file(folder / NET)["words"].tolist())
    texts = (one.text for name in sources for one in read_source(arguments.speech / name, phones, {}))
    return choose_words(tokenizer, texts, arguments.num_words)


def make_net(arguments: argparse.Namespace, words: tuple[int, ...]) -> WordPieceLearner:
    """Return the network as it begins, on the device."""
    recogniser = load_recogniser(arguments.recogniser)
    source = small_source(recogniser, arguments.num_decoder_blocks, len(words), arguments.glancing)
    config = ClsrConfig(source, TextEncoderConfig(**json.loads(arguments.text_config)))
    net = WordPieceLearner(config, source, recogniser)
    net.words.copy_(torch.tensor(words))
    if arguments.start is not None:
        own = net.state_dict()
        net.load_state_dict({**own, **load_file(arguments.start / AVERAGE)})
    if arguments.text_weights is not None:
        load_weights(net.text_encoder, arguments.text_weights, BERT_NAMES, BERT_UNUSED)
    return net.to(arguments.device)


def make_pairs(arguments: argparse.Namespace, augmentation: Augmentation, tokenizer: Tokenizer) -> SpokenPairs:
    """Return the pairs that the retrieval loss needs."""
    words = NgramModel.load(arguments.search / ngram_model.FILE_NAME).words
    lexicon = Lexicon(Pronunciations.load(arguments.search / pronunciations.FILE_NAME), words)
    found = read_pairs(arguments.qa, arguments.sources.split(","))
    pairs = PairBatches(found, arguments.num_pairs, arguments.group_size, arguments.seed)
    return SpokenPairs(pairs, Speaker(lexicon, augmentation, arguments.flite_share, arguments.seed), tokenizer)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(arguments.seed)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    phones = PhoneTargets.read(arguments.lexicon, arguments.phones)
    shares = read_shares(arguments.shares)
    rows = WordRows(tokenizer, known_words(arguments, tokenizer, list(shares), phones), phones)
    training = PublishedTraining(
        frozen_steps=0 if arguments.start is not None else arguments.frozen_steps,
        aligned_steps=0 if arguments.start is not None else arguments.aligned_steps,
        reuse=arguments.reuse,
        encoder_factor=arguments.encoder_factor,
        retrieval_weight=arguments.retrieval_weight,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    schedule = Schedule(
        arguments.steps, arguments.decay_steps or max(1, arguments.steps // 3), arguments.warmup_steps, arguments.peak_rate, averaging=0.99
    )
    net = make_net(arguments, rows.words)
    record = {"kind": "published", "schedule": asdict(schedule), "training": asdict(training), "config": asdict(net.config)}
    trainer = Trainer(net, schedule, arguments.out, record, net.rate_groups(training.encoder_factor))
    trainer.resume()
    augmentation = Augmentation.of_folder(AugmentationConfig(), arguments.noise)
    batches = Batches(arguments.speech, phones, augmentation, BatchConfig(shares, batch_s=arguments.batch_s))
    stage, stream = Stage(net, trainer, rows, training), batches.from_step(trainer.step, arguments.seed)
    spoken = make_pairs(arguments, augmentation, tokenizer) if training.retrieval_weight else None
    log.info("%d words, from step %d", len(rows.words), trainer.step)

    def evaluate(last: bool) -> dict[str, dict[str, float]]:
        average = WordPieceClsr(net.config, net.source)
        average.load_state_dict(average.state_dict() | {k: v.cpu() for k, v in trainer.average.items() if not k.startswith(AUXILIARY)})
        return measured(average, tokenizer, arguments.speech, phones, arguments.max_clips * (10 if last else 1))

    pace = Pace(arguments.minutes, arguments.save_minutes, arguments.log_every, arguments.evaluate_every)
    train(trainer, lambda: stage.learn(next(stream), spoken), pace, evaluate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recogniser", type=Path, required=True, help="checkpoint of the recogniser's stage")
    parser.add_argument("--start", type=Path, help="checkpoint of this stage to begin with, of the same size")
    parser.add_argument("--speech", type=Path, required=True, help="one folder of shards for each source")
    parser.add_argument("--shares", default="native=0.3,flite=0.35,espeak=0.35", help="of the time heard, for each source")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--lexicon", type=Path, required=True)
    parser.add_argument("--phones", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="the text encoder's")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints")
    parser.add_argument("--num-words", type=int, default=1_200, help="that the output layer writes, chosen by the training text")
    parser.add_argument("--glancing", type=float, default=SamplerConfig().ratio, help="lambda of the sampler")
    parser.add_argument("--num-decoder-blocks", type=int, default=4)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--decay-steps", type=int, default=0, help="0: a third of the steps")
    parser.add_argument("--warmup-steps", type=int, default=50)
    parser.add_argument("--peak-rate", type=float, default=1e-3)
    parser.add_argument("--encoder-factor", type=float, default=0.3)
    parser.add_argument("--frozen-steps", type=int, default=200, help="not with --start")
    parser.add_argument("--aligned-steps", type=int, default=0, help="not with --start; until then tokens are gathered by their true ends")
    parser.add_argument("--reuse", type=int, default=3)
    parser.add_argument("--batch-s", type=float, default=110.0)
    retrieval = parser.add_argument_group("retrieval", "with --retrieval-weight above 0")
    retrieval.add_argument(
        "--retrieval-weight", type=float, default=0.0, help="beta of the paper; the rest of this group is needed above 0"
    )
    retrieval.add_argument("--text-weights", type=Path, help="safetensors of the text encoder, published or tuned")
    retrieval.add_argument("--text-config", default="{}", help="JSON, the fields of TextEncoderConfig that are not MiniLM's")
    retrieval.add_argument("--search", type=Path, help="folder with the pronouncing dictionary, whose words can be spoken")
    retrieval.add_argument("--qa", type=Path, help="folder of questions and contexts")
    retrieval.add_argument("--sources", default="nqg_train,new_wiki,qed,clapnq,covid_qa,qamr,fairytale_qa")
    retrieval.add_argument("--num-pairs", type=int, default=16)
    retrieval.add_argument("--group-size", type=int, default=4, help="pairs of one article")
    retrieval.add_argument("--flite-share", type=float, default=0.35, help="the rest is spoken by espeak-ng")
    retrieval.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--evaluate-every", type=int, default=0, help="0: at the end only")
    parser.add_argument("--max-clips", type=int, default=12, help="of each held-out source")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    return parser


if __name__ == "__main__":
    main()
