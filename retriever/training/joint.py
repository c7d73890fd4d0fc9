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
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, load_weights
from retriever.clsr import as_said
from retriever.lexicon_search import LexiconSearch
from retriever.nets.clsr import ClsrConfig, HypothesisClsr, PhoneCtcHypotheses
from retriever.nets.losses import ContrastiveConfig, LossWeights, Terms, ctc_loss, info_nce, mwer_loss, same_context, total_loss
from retriever.nets.text_encoder import TextEncoderConfig
from retriever.pronunciations import FILE_NAME, Pronunciations
from retriever.training.augmentation import Augmentation, AugmentationConfig
from retriever.training.export_recogniser import load_recogniser
from retriever.training.joint_batches import Lexicon, Reader, Speaker, SpokenBatch, word_errors
from retriever.training.recogniser import losses_of, replace_file
from retriever.training.spoken_pairs import PairBatches, read_pairs
from retriever.training.utterances import Batch, BatchConfig, Batches, PhoneTargets

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

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0: a straight rise, then a straight fall to nothing."""
        rest = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.peak_rate * min((step + 1) / self.warmup_steps, rest)

    @property
    def weights(self) -> LossWeights:
        """Of the losses of the spoken pairs."""
        return LossWeights(alpha=0.0, beta=self.retrieval_weight, cross_entropy=0.0, mwer=self.mwer_weight, ctc=1.0)


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one step, as numbers."""

    ctc: float
    contrastive: float
    mwer: float
    recall: float  # share of questions whose own context is the nearest of the batch


class Trainer:
    """The joint model, its optimiser, the running average of the recogniser's weights, and the folder they are kept in."""

    def __init__(self, net: HypothesisClsr, reader: Reader, training: JointTraining, folder: Path) -> None:
        self.net = net
        self.reader = reader
        self.training = training
        self.folder = folder
        self.step = 0
        self.heard_s = 0.0
        self.device = next(net.parameters()).device
        recogniser = net.recogniser
        self._optimiser = torch.optim.AdamW(recogniser.parameters(), 0.0, (0.9, 0.98), weight_decay=training.weight_decay)
        self.average = {name: tensor.detach().clone() for name, tensor in recogniser.state_dict().items()}

    def learn(self, batch: SpokenBatch, rehearsed: Batch | None) -> Losses:
        """Take one step."""
        training = self.training
        for group in self._optimiser.param_groups:
            group["lr"] = training.rate(self.step)
        self.net.recogniser.train()
        terms, recall = self._terms(batch)
        total_loss(terms, training.weights).backward()  # type: ignore[no-untyped-call]
        if rehearsed is not None:
            with torch.autocast(self.device.type, torch.bfloat16):
                output = self.net.recogniser(rehearsed.features.to(self.device), rehearsed.mask.to(self.device))
            (training.rehearsal_weight * losses_of(output, rehearsed).ctc).backward()  # type: ignore[no-untyped-call]
            self.heard_s += rehearsed.duration_s
        size = nn.utils.clip_grad_norm_(self.net.recogniser.parameters(), training.max_gradient)
        if bool(torch.isfinite(size)):
            self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.heard_s += float(batch.mask.sum()) / 100
        self._take_average()
        ctc, contrastive, mwer = (term.item() if term is not None else 0.0 for term in (terms.ctc, terms.contrastive, terms.mwer))
        return Losses(ctc, contrastive, mwer, recall)

    def _terms(self, batch: SpokenBatch) -> tuple[Terms, float]:
        training = self.training
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.net.recogniser(batch.features.to(self.device), batch.mask.to(self.device))
        heard = [row[real].numpy() for row, real in zip(output.log_probs.detach().float().cpu(), output.mask.cpu(), strict=True)]
        hypotheses = self.reader.search.search(heard, training.num_hypotheses)
        proposals = self.reader.proposals(hypotheses, self.device)
        with torch.no_grad():
            vectors = self.net.read(*self.reader.tokens([[one.text for one in some] for some in hypotheses], self.device))
            questions = self.net.read(*self.reader.tokens([[as_said(one) for one in batch.questions]], self.device))[0]
        chosen = self.net(output, proposals, vectors)
        numbers = {context: number for number, context in enumerate(batch.contexts)}
        same = same_context(torch.tensor([numbers[context] for context in batch.contexts], device=self.device))
        contrastive = info_nce(questions, chosen.vectors, ContrastiveConfig(training.temperature), same)
        errors = word_errors(hypotheses, batch.contexts).to(self.device)
        mwer = mwer_loss(chosen.scores / training.gamma, errors, proposals.mask)
        ctc = ctc_loss(output.log_probs.float(), output.mask, batch.phones.to(self.device), batch.phone_mask.to(self.device))
        nearest = (questions @ chosen.vectors.detach().T).argmax(dim=1)
        recall = (nearest == torch.arange(len(questions), device=self.device)).float().mean().item()
        return Terms(contrastive=contrastive, mwer=mwer, ctc=ctc), recall

    def _take_average(self) -> None:
        keep = min(self.training.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            for name, tensor in self.net.recogniser.state_dict().items():
                self.average[name].lerp_(tensor, 1 - keep)

    def save(self) -> None:
        """Keep everything; the last file written makes it count."""
        self.folder.mkdir(parents=True, exist_ok=True)
        recogniser = self.net.recogniser
        replace_file(self.folder / "net.safetensors", lambda path: save_file(recogniser.state_dict(), path))
        replace_file(self.folder / "average.safetensors", lambda path: save_file(self.average, path))
        replace_file(self.folder / "optimiser.pt", lambda path: torch.save(self._optimiser.state_dict(), path))
        state = {"step": self.step, "heard_s": self.heard_s, "training": asdict(self.training), "config": asdict(recogniser.config)}
        replace_file(self.folder / "state.json", lambda path: path.write_text(json.dumps(state, indent=1)))

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one."""
        if not (self.folder / "state.json").is_file():
            return False
        state = json.loads((self.folder / "state.json").read_text())
        self.step, self.heard_s = state["step"], state["heard_s"]
        self.net.recogniser.load_state_dict(load_file(self.folder / "net.safetensors"))
        self.average = {name: tensor.to(self.device) for name, tensor in load_file(self.folder / "average.safetensors").items()}
        if (self.folder / "optimiser.pt").is_file():  # left behind when weights travel
            self._optimiser.load_state_dict(torch.load(self.folder / "optimiser.pt", weights_only=True))
        return True


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
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    begun = saved = time.monotonic()
    sums = np.zeros(4)
    while trainer.step < trainer.training.steps and not stopped and time.monotonic() - begun < arguments.minutes * 60:
        batch = speaker.batch(pairs.draw(trainer.step), trainer.step)
        losses = trainer.learn(batch, next(rehearsal) if rehearsal is not None else None)
        sums += (losses.ctc, losses.contrastive, losses.mwer, losses.recall)
        if trainer.step % arguments.log_every == 0:
            log.info("step %d: ctc %.3f, contrastive %.3f, mwer %.3f, recall %.2f", trainer.step, *(sums / arguments.log_every))
            sums = np.zeros(4)
        if time.monotonic() - saved > arguments.save_minutes * 60:
            trainer.save()
            saved = time.monotonic()
    trainer.save()


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
    shares = {name: float(share) for name, share in (item.split("=") for item in arguments.shares.split(","))}
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
