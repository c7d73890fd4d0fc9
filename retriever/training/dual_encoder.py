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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
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
from retriever.training.dual_head import SAME, HeadTraining, HeardStates, hear, teach_head
from retriever.training.export_recogniser import load_recogniser
from retriever.training.frame import RATE_FACTOR, STATE, Pace, Schedule, Trainer, train
from retriever.training.joint_batches import Lexicon, Speaker, SpokenBatch
from retriever.training.speech_shards import SpeechShard, open_shards
from retriever.training.spoken_pairs import PairBatches, read_pairs
from retriever.training.text_encoder import encode
from retriever.training.utterances import features_of, read_shares

KIND: Final = "dual-encoder"  # what a checkpoint calls itself
PAUSE: Final = np.zeros(4_800, np.float32)  # 0.3 s between the clips of a passage
HEAD_PART: Final = 48  # passages read at once for the head
PART: Final = 6  # sounds of a batch that go through together

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DualTraining:
    """What to train for.

    Attributes:
        alignment_weight, matching_weight, retrieval_weight: of the three losses.
        memory_size: R at most; a run that goes on begins with none.
        head_factor: what the rate is multiplied by for what pools and maps, which begins from nothing.
    """

    temperature: float = 0.05
    alignment_weight: float = 2.0
    matching_weight: float = 1.0
    retrieval_weight: float = 0.5
    memory_size: int = 1_024
    head_factor: float = 4.0


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


class DualStage:
    """The dual encoder in training, its teacher, and what the teacher said of late."""

    def __init__(self, trainer: Trainer, net: DualEncoder, teacher: Teacher, training: DualTraining) -> None:
        self.trainer = trainer
        self.net = net
        self.teacher = teacher
        self.training = training
        self.device = trainer.device
        self.memory = torch.zeros(0, net.config.dimension, device=self.device)

    def learn(self, batch: SpokenBatch, passages: HeardPassages) -> dict[str, float]:
        """Take one step and return its losses, and the share of questions whose own context is the nearest sound of the batch."""
        training = self.training
        self.trainer.prepare()
        said = [*batch.contexts, *passages.texts]
        texts = self.teacher(said)  # (S, D)
        questions = self.teacher([as_said(one) for one in batch.questions])  # (B, D)
        with torch.autocast(self.device.type, torch.bfloat16):
            sounds = torch.cat([listen(self.net, part.features.to(self.device), part.mask.to(self.device)) for part in (batch, passages)])
        known = torch.cat([texts, self.memory])
        alignment = 1 - functional.cosine_similarity(sounds, texts).mean()
        matching = info_nce(sounds, known, ContrastiveConfig(training.temperature), texts @ known.T > SAME)
        numbers = {text: number for number, text in enumerate(said)}
        same = same_context(torch.tensor([numbers[text] for text in said], device=self.device))
        retrieval = info_nce(questions, sounds, ContrastiveConfig(training.temperature), same[: len(questions)])
        total = training.alignment_weight * alignment + training.matching_weight * matching + training.retrieval_weight * retrieval
        total.backward()  # type: ignore[no-untyped-call]
        self.trainer.update(float(batch.mask.sum() + passages.mask.sum()) / 100)
        self.memory = torch.cat([texts, self.memory])[: training.memory_size]
        nearest = (questions @ sounds.detach().T).argmax(dim=1)
        recall = (nearest == torch.arange(len(questions), device=self.device)).float().mean()
        return {"alignment": alignment.item(), "matching": matching.item(), "retrieval": retrieval.item(), "recall": recall.item()}

    @torch.no_grad()
    def recall(self, passages: HeardPassages) -> float:
        """Return the share of passages to which, among all, their own words are the nearest, by the averaged weights."""
        net = DualEncoder(self.net.config).to(self.device).eval()
        net.load_state_dict(self.trainer.average)
        sounds = listen(net, passages.features.to(self.device), passages.mask.to(self.device))
        nearest = (sounds @ self.teacher(passages.texts).T).argmax(dim=1)
        return (nearest == torch.arange(len(sounds), device=self.device)).float().mean().item()


def listen(net: DualEncoder, features: Tensor, mask: Tensor) -> Tensor:
    """Return vectors (S, D) of filter banks (S, T, M) with mask (S, T), heard in parts of similar length, so that little is padding."""
    lengths = mask.sum(dim=1)
    order = lengths.argsort()
    vectors = [net(features[rows, : int(lengths[rows].max())], mask[rows, : int(lengths[rows].max())]) for rows in torch.split(order, PART)]
    return torch.cat(vectors)[order.argsort()]


def load_stage(arguments: argparse.Namespace, schedule: Schedule, training: DualTraining) -> DualStage:
    """Return the stage whose network begins with the recogniser's encoder, or goes on from its checkpoint if there is one."""
    recogniser = load_recogniser(arguments.recogniser)
    text_encoder = TextEncoder(TextEncoderConfig(**json.loads(arguments.text_config)))
    load_weights(text_encoder, arguments.text_weights, BERT_NAMES, BERT_UNUSED)  # names that are ours stay as they are
    net = DualEncoder(DualEncoderConfig(recogniser.config, dimension=text_encoder.config.dimension))
    net.begin_with(recogniser)
    device = torch.device(arguments.device)
    record = {"kind": KIND, "schedule": asdict(schedule), "training": asdict(training), "config": asdict(net.config)}
    net.to(device)
    head = [weight for part in (net.pooling, net.narrow, net.output) for weight in part.parameters()]
    groups: list[dict[str, Any]] = [{"params": list(net.encoder.parameters())}, {"params": head, RATE_FACTOR: training.head_factor}]
    trainer = Trainer(net, schedule, arguments.out, record, groups)
    trainer.resume()
    return DualStage(trainer, net, Teacher(text_encoder, Tokenizer.from_file(str(arguments.tokenizer)), device), training)


def begin_with_head(stage: DualStage, arguments: argparse.Namespace) -> None:
    """Teach the head on undistorted passages before the first step."""
    passages = PassageBatches(arguments.speech, read_shares(arguments.shares), None, arguments.max_passage_s)
    states: list[Tensor] = []
    texts = []
    for number in range(-(-arguments.head_passages // HEAD_PART)):
        heard = passages.draw(number, HEAD_PART, arguments.seed + 1)
        for rows in torch.split(heard.mask.sum(dim=1).argsort(), PART):
            length = int(heard.mask[rows].sum(dim=1).max())
            states += hear(stage.net, heard.features[rows, :length].to(stage.device), heard.mask[rows, :length].to(stage.device))
            texts.append(stage.teacher([heard.texts[row] for row in rows.tolist()]))
    log.info("%d passages heard for the head", len(states))
    training = HeadTraining(arguments.head_steps, temperature=arguments.temperature)
    heard_states = HeardStates(states, torch.cat(texts))
    teach_head(stage.net, heard_states, training, arguments.seed, lambda *told: log.info("head: step %d, loss %.3f", *told))
    stage.trainer.restart_average()
    stage.trainer.save()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, train, and say how often the words of held-out passages are found."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(arguments.seed)
    decay_steps = arguments.decay_steps or max(1, 2 * arguments.steps // 5)
    schedule = Schedule(arguments.steps, decay_steps, arguments.warmup_steps, arguments.peak_rate, averaging=0.98)
    is_fresh = not (arguments.out / STATE).is_file()
    stage = load_stage(arguments, schedule, DualTraining(arguments.temperature))
    augmentation = Augmentation.of_folder(AugmentationConfig(), arguments.noise)
    passages = PassageBatches(arguments.speech, read_shares(arguments.shares), augmentation, arguments.max_passage_s)
    pairs = PairBatches(read_pairs(arguments.qa, arguments.sources.split(",")), arguments.num_pairs, arguments.group_size, arguments.seed)
    words = NgramModel.load(arguments.search / ngram_model.FILE_NAME).words
    lexicon = Lexicon(Pronunciations.load(arguments.search / pronunciations.FILE_NAME), words)
    speaker = Speaker(lexicon, augmentation, arguments.flite_share, arguments.seed)

    def learn() -> dict[str, float]:
        step = stage.trainer.step
        return stage.learn(speaker.batch(pairs.draw(step), step), passages.draw(step, arguments.num_passages, arguments.seed))

    def evaluate(_: bool) -> dict[str, float]:
        held_out = {name: PassageBatches(arguments.speech, {name: 1.0}, None, arguments.max_passage_s) for name in names}
        return {name: stage.recall(one.draw(0, arguments.num_held_out, arguments.seed)) for name, one in held_out.items()}

    if is_fresh and arguments.head_passages:
        begin_with_head(stage, arguments)
    names = [name for name in arguments.held_out.split(",") if name]
    train(stage.trainer, learn, Pace(arguments.minutes, arguments.save_minutes, arguments.log_every), evaluate)


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
    parser.add_argument("--head-passages", type=int, default=3_000, help="heard once to teach what is fresh before the rest; 0: not at all")
    parser.add_argument("--head-steps", type=int, default=HeadTraining().steps)
    parser.add_argument("--warmup-steps", type=int, default=30)
    parser.add_argument("--num-pairs", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=4, help="pairs of one article")
    parser.add_argument("--num-passages", type=int, default=24)
    parser.add_argument("--max-passage-s", type=float, default=20.0)
    parser.add_argument("--peak-rate", type=float, default=6e-4)
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
