"""The joint stage of CLSR: the retrieval loss reaches the speech encoder through the hypotheses of the search.

    python -m retriever.training.joint --recogniser FOLDER --search FOLDER --text-weights FILE --tokenizer FILE --qa FOLDER --out FOLDER

A step speaks the contexts of a batch of question and context pairs, listens to them, searches for several hypotheses of each, lets the
frozen text encoder read them, and joins three losses: CTC of the phones that were said, InfoNCE of the questions against the contexts'
vectors (`retriever.nets.clsr` says which gradient that has), and the expected number of wrong words among the hypotheses. Beside it,
with `--speech`, a batch of the recogniser's own stage, so that what was learnt there stays. Two controls are the same stage but for one
thing: `--retrieval-weight 0` has no retrieval loss, `--no-quantisation` passes the mean of the hypotheses' vectors on, not the best one's.

Batches depend on their number and the seed alone. Stopped at any time, the same command goes on from the last checkpoint; what it leaves
is a checkpoint as the recogniser's own stage leaves it.

Shapes: B pairs, K hypotheses, L phones of the longest, N tokens, D channels of the text encoder.
"""

import argparse
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, load_weights
from retriever.clsr import as_said
from retriever.lexicon_search import LexiconSearch
from retriever.nets.clsr import ClsrConfig, HypothesisClsr, PhoneCtcHypotheses
from retriever.nets.losses import ContrastiveConfig, LossWeights, Terms, ctc_loss, info_nce, mwer_loss, same_context, total_loss
from retriever.nets.text_encoder import TextEncoderConfig
from retriever.pronunciations import FILE_NAME, Pronunciations
from retriever.training import frame
from retriever.training.augmentation import Augmentation, AugmentationConfig
from retriever.training.export_recogniser import load_recogniser
from retriever.training.joint_batches import Lexicon, Reader, Speaker, SpokenBatch, word_errors
from retriever.training.recogniser import losses_of
from retriever.training.spoken_pairs import PairBatches, read_pairs
from retriever.training.utterances import Batch, BatchConfig, Batches, PhoneTargets, read_shares

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JointTraining:
    """How to train.

    Attributes:
        num_hypotheses: K.
        gamma: the temperature of the hypotheses' shares; who averages their vectors afterwards sets `hypothesis_scale` to its inverse.
        quantised: the best hypothesis' vector goes on; False is the control in which the mean by shares does.
        retrieval_weight: beta of the paper; CTC gets the rest. 0 is the control without the retrieval loss.
        mwer_weight: of the expected number of wrong words, within the recogniser's part.
        rehearsal_weight: of the recogniser's own stage, where its corpus is given.
        averaging: of the weights that are kept, for each step.
    """

    steps: int = 300
    warmup_steps: int = 20
    peak_rate: float = 1e-4
    weight_decay: float = 0.01
    max_gradient: float = 3.0
    num_hypotheses: int = 6
    gamma: float = 3.0
    quantised: bool = True
    temperature: float = 0.05
    retrieval_weight: float = 0.3
    mwer_weight: float = 0.05
    rehearsal_weight: float = 1.0
    averaging: float = 0.99

    @property
    def schedule(self) -> frame.Schedule:
        """A straight rise of the rate, then a straight fall to nothing."""
        return frame.Schedule(
            self.steps,
            max(1, self.steps - self.warmup_steps),
            self.warmup_steps,
            self.peak_rate,
            self.weight_decay,
            self.max_gradient,
            self.averaging,
        )

    @property
    def weights(self) -> LossWeights:
        """Of the losses of the spoken pairs."""
        return LossWeights(alpha=0.0, beta=self.retrieval_weight, cross_entropy=0.0, mwer=self.mwer_weight, ctc=1.0)


class Trainer(frame.Trainer):
    """The joint model; what is trained and kept is its recogniser."""

    def __init__(self, joint: HypothesisClsr, reader: Reader, training: JointTraining, folder: Path) -> None:
        record = {"training": asdict(training), "config": asdict(joint.recogniser.config)}
        super().__init__(joint.recogniser, training.schedule, folder, record)
        self.joint = joint
        self.reader = reader
        self.training = training

    def learn(self, batch: SpokenBatch, rehearsed: Batch | None) -> dict[str, float]:
        """Take one step and return its losses, and the share of questions whose own context is the nearest of the batch."""
        self.prepare()
        terms, recall = self._terms(batch)
        total_loss(terms, self.training.weights).backward()  # type: ignore[no-untyped-call]
        heard_s = float(batch.mask.sum()) / 100
        if rehearsed is not None:
            with torch.autocast(self.device.type, torch.bfloat16):
                output = self.joint.recogniser(rehearsed.features.to(self.device), rehearsed.mask.to(self.device))
            (self.training.rehearsal_weight * losses_of(output, rehearsed).ctc).backward()  # type: ignore[no-untyped-call]
            heard_s += rehearsed.duration_s
        self.update(heard_s)
        named = {"ctc": terms.ctc, "contrastive": terms.contrastive, "mwer": terms.mwer}
        return {**{name: term.item() for name, term in named.items() if term is not None}, "recall": recall}

    def _terms(self, batch: SpokenBatch) -> tuple[Terms, float]:
        training = self.training
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.joint.recogniser(batch.features.to(self.device), batch.mask.to(self.device))
        heard = [row[real].numpy() for row, real in zip(output.log_probs.detach().float().cpu(), output.mask.cpu(), strict=True)]
        hypotheses = self.reader.search.search(heard, training.num_hypotheses)
        proposals = self.reader.proposals(hypotheses, self.device)
        with torch.no_grad():
            vectors = self.joint.read(*self.reader.tokens([[one.text for one in some] for some in hypotheses], self.device))
            questions = self.joint.read(*self.reader.tokens([[as_said(one) for one in batch.questions]], self.device))[0]
        chosen = self.joint(output, proposals, vectors)
        numbers = {context: number for number, context in enumerate(batch.contexts)}
        same = same_context(torch.tensor([numbers[context] for context in batch.contexts], device=self.device))
        contrastive = info_nce(questions, chosen.vectors, ContrastiveConfig(training.temperature), same)
        errors = word_errors(hypotheses, batch.contexts).to(self.device)
        mwer = mwer_loss(chosen.scores / training.gamma, errors, proposals.mask)
        ctc = ctc_loss(output.log_probs.float(), output.mask, batch.phones.to(self.device), batch.phone_mask.to(self.device))
        nearest = (questions @ chosen.vectors.detach().T).argmax(dim=1)
        recall = (nearest == torch.arange(len(questions), device=self.device)).float().mean().item()
        return Terms(contrastive=contrastive, mwer=mwer, ctc=ctc), recall


def load_joint(arguments: argparse.Namespace, training: JointTraining) -> tuple[HypothesisClsr, Reader, Lexicon]:
    """Return the joint model with the trained recogniser and the text encoder's weights, and what stands between them."""
    recogniser = load_recogniser(arguments.recogniser)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    source = PhoneCtcHypotheses(recogniser.config, training.gamma, training.quantised)
    net = HypothesisClsr(ClsrConfig(source, TextEncoderConfig(**json.loads(arguments.text_config))), source)
    net.recogniser.load_state_dict(recogniser.state_dict())
    load_weights(net.text_encoder, arguments.text_weights, BERT_NAMES, BERT_UNUSED)  # names that are ours stay as they are
    search = LexiconSearch.load(arguments.search)
    lexicon = Lexicon(Pronunciations.load(arguments.search / FILE_NAME), search.language.words)
    net.text_encoder.eval()
    reader = Reader(search, lexicon, tokenizer)
    net.set_bonus(reader.bonus())
    return net.to(arguments.device), reader, lexicon


def train(trainer: Trainer, speaker: Speaker, pairs: PairBatches, rehearsal: Iterator[Batch] | None, arguments: argparse.Namespace) -> None:
    """Train until the last step, a signal, or the time is up."""

    def learn() -> dict[str, float]:
        batch = speaker.batch(pairs.draw(trainer.step), trainer.step)
        return trainer.learn(batch, next(rehearsal) if rehearsal is not None else None)

    frame.train(trainer, learn, frame.Pace(arguments.minutes, arguments.save_minutes, arguments.log_every))


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(arguments.seed)
    training = JointTraining(
        steps=arguments.steps,
        peak_rate=arguments.peak_rate,
        num_hypotheses=arguments.num_hypotheses,
        quantised=not arguments.no_quantisation,
        temperature=arguments.temperature,
        retrieval_weight=arguments.retrieval_weight,
        mwer_weight=arguments.mwer_weight,
    )
    net, reader, lexicon = load_joint(arguments, training)
    trainer = Trainer(net, reader, training, arguments.out)
    trainer.resume()
    augmentation = Augmentation.of_folder(AugmentationConfig(), arguments.noise)
    pairs = PairBatches(read_pairs(arguments.qa, arguments.sources.split(",")), arguments.num_pairs, arguments.group_size, arguments.seed)
    log.info("%d pairs, from step %d", len(pairs), trainer.step)
    speaker = Speaker(lexicon, augmentation, arguments.flite_share, arguments.seed)
    train(trainer, speaker, pairs, _rehearsal(arguments, augmentation, trainer.step), arguments)


def _rehearsal(arguments: argparse.Namespace, augmentation: Augmentation, step: int) -> Iterator[Batch] | None:
    if arguments.speech is None:
        return None
    shares = read_shares(arguments.shares)
    pronunciations = PhoneTargets.read(arguments.lexicon, arguments.phones)
    batches = Batches(arguments.speech, pronunciations, augmentation, BatchConfig(shares, batch_s=arguments.batch_s))
    return (batch for number in itertools.count(step) for batch in batches.round(number, arguments.seed + 1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recogniser", type=Path, required=True, help="checkpoint of the recogniser's stage")
    parser.add_argument("--search", type=Path, required=True, help="folder with the pronouncing dictionary and the language model")
    parser.add_argument("--text-weights", type=Path, required=True, help="safetensors of the text encoder, published or tuned")
    parser.add_argument("--text-config", default="{}", help="JSON, the fields of TextEncoderConfig that are not MiniLM's")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--qa", type=Path, required=True, help="folder of questions and contexts")
    parser.add_argument("--sources", default="nqg_train,new_wiki,qed,clapnq,covid_qa,qamr,fairytale_qa")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints")
    parser.add_argument("--speech", type=Path, help="the recogniser's corpus, to rehearse it; with --lexicon and --phones")
    parser.add_argument("--shares", default="real=0.5,flite=0.25,espeak=0.25")
    parser.add_argument("--lexicon", type=Path)
    parser.add_argument("--phones", type=Path)
    parser.add_argument("--batch-s", type=float, default=60.0, help="of rehearsed speech in a step")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--num-pairs", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=4, help="pairs of one article")
    parser.add_argument("--num-hypotheses", type=int, default=6)
    parser.add_argument("--no-quantisation", action="store_true", help="the control that passes the mean of the hypotheses' vectors on")
    parser.add_argument("--peak-rate", type=float, default=1e-4)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--retrieval-weight", type=float, default=0.3)
    parser.add_argument("--mwer-weight", type=float, default=0.05)
    parser.add_argument("--flite-share", type=float, default=0.5, help="the rest is spoken by espeak-ng")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so long")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    return parser


if __name__ == "__main__":
    main()
