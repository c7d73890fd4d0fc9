"""Trains the direct dual encoder, a control: `python -m retriever.training.dual_encoder --help`.

    python -m retriever.training.dual_encoder --recogniser FOLDER --search FOLDER --text-weights FILE --tokenizer FILE --qa FOLDER \
        --noise FOLDER --speech FOLDER --out FOLDER --steps 400

It begins with the recogniser's encoder, so it hears phones before the first step, and learns where the frozen text encoder puts what was
said. A step hears the contexts of a batch of question and context pairs, spoken as it goes exactly as in the joint stage, and passages out
of the recogniser's corpus whose words are known. Three losses:

- alignment, 1 - cosine to the text encoder's vector of the true words: a distillation, after Lin et al. 2024, "SpeechDPR";
- matching, InfoNCE of each sound among those vectors and a memory of earlier ones (He et al. 2020, "Momentum Contrast", section 3.2; here
  exact, as the text encoder does not change);
- retrieval, InfoNCE of the questions against the sounds.

Batches depend on their number and the seed alone. Stopped at any time, the same command goes on from the last checkpoint.

Shapes: B pairs, P passages, S = B + P sounds, T frames of 10 ms, M bands, R remembered vectors, D dimensions of a vector.
"""

import argparse
import json
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from retriever import ngram_model, pronunciations
from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, load_weights
from retriever.clsr import as_said
from retriever.nets.dual_encoder import DualEncoder, DualEncoderConfig
from retriever.nets.losses import ContrastiveConfig, info_nce, same_context
from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig
from retriever.ngram_model import NgramModel
from retriever.pronunciations import Pronunciations
from retriever.training.augmentation import Augmentation, AugmentationConfig, Sound
from retriever.training.export_recogniser import load_recogniser
from retriever.training.joint_batches import Lexicon, Speaker, SpokenBatch
from retriever.training.recogniser import replace_file
from retriever.training.speech_shards import SpeechShard, open_shards
from retriever.training.spoken_pairs import PairBatches, read_pairs
from retriever.training.text_encoder import encode
from retriever.training.utterances import features_of

KIND: Final = "dual-encoder"  # what a checkpoint calls itself
PAUSE: Final = np.zeros(4_800, np.float32)  # 0.3 s between the clips of a passage
PART: Final = 6  # sounds of a batch that go through together
SAME: Final = 0.99  # cosine from which on two texts are one: that is no negative

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DualTraining:
    """How to train.

    Attributes:
        steps: in all; a run can be made longer or shorter until its decay has begun.
        decay_steps: of them, over which the rate falls to nothing at the end.
        alignment_weight, matching_weight, retrieval_weight: of the three losses.
        memory_size: R at most.
        averaging: of the weights that are kept, for each step.
    """

    steps: int = 400
    decay_steps: int = 160
    warmup_steps: int = 30
    peak_rate: float = 6e-4
    weight_decay: float = 0.01
    max_gradient: float = 3.0
    temperature: float = 0.05
    alignment_weight: float = 2.0
    matching_weight: float = 1.0
    retrieval_weight: float = 0.5
    memory_size: int = 1_024
    averaging: float = 0.98

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0: it rises, stays, and falls to nothing."""
        return self.peak_rate * min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / self.decay_steps)


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one step, as numbers."""

    alignment: float
    matching: float
    retrieval: float
    recall: float  # share of questions whose own context is the nearest sound of the batch


@dataclass(frozen=True, slots=True)
class HeardPassages:
    """Passages of the corpus with what is said in them."""

    texts: list[str]
    features: Tensor  # float32 (P, T, M)
    mask: Tensor  # bool (P, T)


class PassageBatches:
    """Passages by number: clips of a shard that follow each other, joined to some seconds, as segments of a lecture are."""

    def __init__(self, folder: Path, shares: Mapping[str, float], augmentation: Augmentation | None, max_passage_s: float) -> None:
        """Open the shards.

        Args:
            folder: with one folder of shards for each source.
            shares: of the sources among passages.
            augmentation: None leaves sounds as they are.
            max_passage_s: the length aimed at is drawn between 2 s and this.

        Raises:
            FileNotFoundError: a source has no shard.
        """
        self._shards: dict[str, list[SpeechShard]] = {name: list(open_shards(folder / name)) for name in shares}
        for name, shards in self._shards.items():
            if not any(shard.clips for shard in shards):
                raise FileNotFoundError(f"{folder / name} holds no shard of speech; make the corpus first or leave {name} out")
        self._names = list(shares)
        self._shares = np.array([shares[name] for name in self._names]) / sum(shares.values())
        self._augmentation = augmentation
        self._max_samples = int(max_passage_s * 16_000)

    def draw(self, number: int, num_passages: int, seed: int) -> HeardPassages:
        """Return the passages of a batch."""
        generator = np.random.default_rng((seed, number))
        passages = [self._passage(generator) for _ in range(num_passages)]
        sounds, warps = [sound for _, sound in passages], np.ones(num_passages)
        if self._augmentation is not None:
            sounds = [self._augmentation(sound, generator) for sound in sounds]
            warps = np.array([self._augmentation.warp(generator) for _ in sounds])
        return HeardPassages([text for text, _ in passages], *features_of(sounds, warps))

    def _passage(self, generator: np.random.Generator) -> tuple[str, Sound]:
        shards = self._shards[self._names[int(generator.choice(len(self._names), p=self._shares))]]
        sizes = np.array([shard.num_samples for shard in shards], np.float64)
        shard = shards[int(generator.choice(len(shards), p=sizes / sizes.sum()))]
        wanted, place = generator.uniform(32_000, self._max_samples), int(generator.integers(len(shard.clips)))
        texts: list[str] = []
        sounds: list[Sound] = []
        length = 0
        for clip in shard.clips[place:]:
            if texts and length + clip.num_samples > wanted:
                break
            texts.append(clip.text)
            sounds += [shard.samples(clip), PAUSE]
            length += clip.num_samples + len(PAUSE)
        return " ".join(texts), np.concatenate(sounds[:-1])


class Teacher:
    """The frozen text encoder."""

    def __init__(self, net: TextEncoder, tokenizer: Tokenizer, device: torch.device) -> None:
        self._net = net.to(device).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._device = device

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return vectors (B, D) of length 1 of texts as they are said."""
        return encode(self._net, self._tokenizer, texts, self._device)


class Trainer:
    """The dual encoder, its teacher, optimiser, memory, the running average of its weights, and the folder they are kept in."""

    def __init__(self, net: DualEncoder, teacher: Teacher, training: DualTraining, folder: Path) -> None:
        self.net = net
        self.teacher = teacher
        self.training = training
        self.folder = folder
        self.step = 0
        self.heard_s = 0.0
        self.device = next(net.parameters()).device
        self.memory = torch.zeros(0, net.config.dimension, device=self.device)
        self._optimiser = torch.optim.AdamW(net.parameters(), 0.0, (0.9, 0.98), weight_decay=training.weight_decay)
        self.average = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}

    def learn(self, batch: SpokenBatch, passages: HeardPassages) -> Losses:
        """Take one step."""
        training = self.training
        for group in self._optimiser.param_groups:
            group["lr"] = training.rate(self.step)
        self.net.train()
        texts = self.teacher([*batch.contexts, *passages.texts])  # (S, D)
        questions = self.teacher([as_said(one) for one in batch.questions])  # (B, D)
        with torch.autocast(self.device.type, torch.bfloat16):
            sounds = torch.cat([listen(self.net, part.features.to(self.device), part.mask.to(self.device)) for part in (batch, passages)])
        known = torch.cat([texts, self.memory])
        alignment = 1 - functional.cosine_similarity(sounds, texts).mean()
        matching = info_nce(sounds, known, ContrastiveConfig(training.temperature), texts @ known.T > SAME)
        numbers = {text: number for number, text in enumerate([*batch.contexts, *passages.texts])}
        same = same_context(torch.tensor([numbers[text] for text in [*batch.contexts, *passages.texts]], device=self.device))
        retrieval = info_nce(questions, sounds, ContrastiveConfig(training.temperature), same[: len(questions)])
        total = training.alignment_weight * alignment + training.matching_weight * matching + training.retrieval_weight * retrieval
        total.backward()  # type: ignore[no-untyped-call]
        size = nn.utils.clip_grad_norm_(self.net.parameters(), training.max_gradient)
        if bool(torch.isfinite(size)):
            self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.memory = torch.cat([texts, self.memory])[: training.memory_size]
        self.step += 1
        self.heard_s += float(batch.mask.sum() + passages.mask.sum()) / 100
        self._take_average()
        nearest = (questions @ sounds.detach().T).argmax(dim=1)
        recall = (nearest == torch.arange(len(questions), device=self.device)).float().mean()
        return Losses(alignment.item(), matching.item(), retrieval.item(), recall.item())

    @torch.no_grad()
    def recall(self, passages: HeardPassages) -> float:
        """Return the share of passages to which, among all, their own words are the nearest, by the averaged weights."""
        net = DualEncoder(self.net.config).to(self.device).eval()
        net.load_state_dict(self.average)
        texts = self.teacher(passages.texts)
        sounds = listen(net, passages.features.to(self.device), passages.mask.to(self.device))
        nearest = (sounds @ texts.T).argmax(dim=1)
        return (nearest == torch.arange(len(sounds), device=self.device)).float().mean().item()

    def _take_average(self) -> None:
        keep = min(self.training.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            for name, tensor in self.net.state_dict().items():
                self.average[name].lerp_(tensor, 1 - keep)

    def save(self) -> None:
        """Keep everything; the last file written makes it count."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / "net.safetensors", lambda path: save_file(self.net.state_dict(), path))
        replace_file(self.folder / "average.safetensors", lambda path: save_file(self.average, path))
        rest = {"optimiser": self._optimiser.state_dict(), "memory": self.memory}
        replace_file(self.folder / "optimiser.pt", lambda path: torch.save(rest, path))
        state = {"step": self.step, "heard_s": self.heard_s, "training": asdict(self.training), "config": asdict(self.net.config)}
        replace_file(self.folder / "state.json", lambda path: path.write_text(json.dumps({"kind": KIND, **state}, indent=1)))

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one."""
        if not (self.folder / "state.json").is_file():
            return False
        state = json.loads((self.folder / "state.json").read_text())
        self.step, self.heard_s = state["step"], state["heard_s"]
        self.net.load_state_dict(load_file(self.folder / "net.safetensors"))
        self.average = {name: tensor.to(self.device) for name, tensor in load_file(self.folder / "average.safetensors").items()}
        rest = torch.load(self.folder / "optimiser.pt", map_location=self.device, weights_only=True)
        self._optimiser.load_state_dict(rest["optimiser"])
        self.memory = rest["memory"]
        return True


def listen(net: DualEncoder, features: Tensor, mask: Tensor) -> Tensor:
    """Return vectors (S, D) of filter banks (S, T, M) with mask (S, T), heard in parts of similar length, so that little is padding."""
    lengths = mask.sum(dim=1)
    order = lengths.argsort()
    vectors = [net(features[rows, : int(lengths[rows].max())], mask[rows, : int(lengths[rows].max())]) for rows in torch.split(order, PART)]
    return torch.cat(vectors)[order.argsort()]


def load_trainer(arguments: argparse.Namespace, training: DualTraining) -> Trainer:
    """Return a trainer whose network begins with the recogniser's encoder, and goes on from its checkpoint if there is one."""
    recogniser = load_recogniser(arguments.recogniser)
    text_encoder = TextEncoder(TextEncoderConfig(**json.loads(arguments.text_config)))
    load_weights(text_encoder, arguments.text_weights, BERT_NAMES, BERT_UNUSED)  # names that are ours stay as they are
    net = DualEncoder(DualEncoderConfig(recogniser.config, dimension=text_encoder.config.dimension))
    net.begin_with(recogniser)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    device = torch.device(arguments.device)
    trainer = Trainer(net.to(device), Teacher(text_encoder, tokenizer, device), training, arguments.out)
    trainer.resume()
    return trainer


def train(trainer: Trainer, speaker: Speaker, pairs: PairBatches, passages: PassageBatches, arguments: argparse.Namespace) -> None:
    """Train until the last step, a signal, or the time is up."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    begun = saved = time.monotonic()
    sums = np.zeros(4)
    while trainer.step < trainer.training.steps and not stopped and time.monotonic() - begun < arguments.minutes * 60:
        batch = speaker.batch(pairs.draw(trainer.step), trainer.step)
        losses = trainer.learn(batch, passages.draw(trainer.step, arguments.num_passages, arguments.seed))
        sums += (losses.alignment, losses.matching, losses.retrieval, losses.recall)
        if trainer.step % arguments.log_every == 0:
            log.info("step %d: alignment %.3f, matching %.3f, retrieval %.3f, recall %.2f", trainer.step, *(sums / arguments.log_every))
            sums = np.zeros(4)
        if time.monotonic() - saved > arguments.save_minutes * 60:
            trainer.save()
            saved = time.monotonic()
    trainer.save()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, train, and say how often the words of held-out passages are found."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(arguments.seed)
    decay_steps = arguments.decay_steps or max(1, 2 * arguments.steps // 5)
    training = DualTraining(arguments.steps, decay_steps, peak_rate=arguments.peak_rate, temperature=arguments.temperature)
    trainer = load_trainer(arguments, training)
    augmentation = Augmentation.of_folder(AugmentationConfig(), arguments.noise)
    passages = PassageBatches(arguments.speech, _shares(arguments.shares), augmentation, arguments.max_passage_s)
    pairs = PairBatches(read_pairs(arguments.qa, arguments.sources.split(",")), arguments.num_pairs, arguments.group_size, arguments.seed)
    words = NgramModel.load(arguments.search / ngram_model.FILE_NAME).words
    lexicon = Lexicon(Pronunciations.load(arguments.search / pronunciations.FILE_NAME), words)
    log.info("%d pairs, from step %d", len(pairs), trainer.step)
    speaker = Speaker(lexicon, augmentation, arguments.flite_share, arguments.seed)
    train(trainer, speaker, pairs, passages, arguments)
    for name in filter(None, arguments.held_out.split(",") if trainer.step == training.steps else ()):
        heard = PassageBatches(arguments.speech, {name: 1.0}, None, arguments.max_passage_s).draw(0, arguments.num_held_out, arguments.seed)
        log.info("%s: own words nearest among %d passages: %.3f", name, arguments.num_held_out, trainer.recall(heard))


def _shares(text: str) -> dict[str, float]:
    return {name: float(share) for name, share in (item.split("=") for item in text.split(","))}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recogniser", type=Path, required=True, help="checkpoint of the recogniser's stage, whose encoder is the start")
    parser.add_argument("--search", type=Path, required=True, help="folder with the pronouncing dictionary and the language model")
    parser.add_argument("--text-weights", type=Path, required=True, help="safetensors of the text encoder, published or tuned")
    parser.add_argument("--text-config", default="{}", help="JSON, the fields of TextEncoderConfig that are not MiniLM's")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--qa", type=Path, required=True, help="folder of questions and contexts")
    parser.add_argument("--sources", default="nqg_train,new_wiki,qed,clapnq,covid_qa,qamr,fairytale_qa")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True, help="the recogniser's corpus")
    parser.add_argument("--shares", default="native=0.15,ocean=0.1,pseudo=0.05,flite=0.25,espeak=0.45", help="of the passages")
    parser.add_argument("--held-out", default="flite-dev,espeak-dev", help="sources to say at the end how well their words are found")
    parser.add_argument("--num-held-out", type=int, default=128)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--decay-steps", type=int, default=0, help="0: two fifths of the steps")
    parser.add_argument("--num-pairs", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=4, help="pairs of one article")
    parser.add_argument("--num-passages", type=int, default=24)
    parser.add_argument("--max-passage-s", type=float, default=20.0)
    parser.add_argument("--peak-rate", type=float, default=DualTraining().peak_rate)
    parser.add_argument("--temperature", type=float, default=DualTraining().temperature)
    parser.add_argument("--flite-share", type=float, default=0.35, help="the rest is spoken by espeak-ng")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so long")
    parser.add_argument("--save-minutes", type=float, default=3.0)
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    return parser


if __name__ == "__main__":
    main()
