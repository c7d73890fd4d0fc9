"""CLSR: speech to a vector of its text, trained from end to end.

Hu et al. 2025, "CLSR" (arXiv 2511.09282): speech encoder (equation 1), a distribution over tokens, an adaptor (equation 4), a frozen text
encoder, cosine (equation 5). Where the distribution over tokens comes from is a configuration:

- `CifWordPieces`, as published: CIF (equations 2 and 6), sampler (Algorithm 1), parallel decoder and output layer over the text encoder's
  vocabulary (equation 3), the adaptor of each token.
- `PhoneCtcHypotheses`, ours: CTC over phones and a beam search over words; the adaptor chooses among whole hypotheses.

What gradient a beam search gets: the search itself none. It only proposes K hypotheses h with their texts; each is scored again by a
function of the encoder's output that has a gradient, the log-likelihood of its phones over all alignments (CTC's forward sum), plus what
does not depend on the encoder (the language model). With p = softmax((s + prior) / gamma) over the K and v_h the text encoder's vectors,

    value     v_best, exactly what the search's best text gives,
    gradient  that of sum over h of p_h v_h,

the straight-through estimate of the VQ adaptor with hypotheses for words. So the encoder learns to move probability towards those proposed
texts whose vector retrieves better; a text that the search did not propose gets none, and with one hypothesis there is no gradient.

Shapes: B utterances, T frames of 10 ms, M bands, U frames of 60 ms, O outputs of a frame, N tokens, V words, K hypotheses, L phones of the
longest, D channels of the text encoder. Masks are boolean, True = real, and what is real comes first.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from einops import rearrange, repeat
from torch import Generator, Tensor, nn
from torch.nn import functional

from retriever.nets.cif import CifConfig, CifPredictor, Fired
from retriever.nets.frontend import Frontend, FrontendConfig
from retriever.nets.losses import ctc_fits
from retriever.nets.paraformer import BASE, ParaformerConfig, SpeechDecoder, SpeechEncoder
from retriever.nets.recogniser import Recogniser, RecogniserConfig, RecogniserOutput
from retriever.nets.sampler import Glanced, GlancingSampler, SamplerConfig
from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig, pool
from retriever.nets.vq import VqAdaptor, VqConfig

Pooling = Literal["mean", "first"]
NO_PATH = -1e9  # the score of a hypothesis that is not there or has no alignment; not -inf: 0 x inf is NaN


@dataclass(frozen=True, slots=True)
class CifWordPieces:
    """Tokens as published: CIF and a parallel decoder over the text encoder's WordPieces.

    Attributes:
        num_words: that the output layer knows; None is the text encoder's whole vocabulary, as published. Fewer spare a small model
            the rows of what its training text never says; `WordPieceClsr.words` tells which they are.
    """

    speech: ParaformerConfig = BASE
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    cif: CifConfig = field(default_factory=CifConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    vq: VqConfig = field(default_factory=VqConfig)
    first_token: int = 101  # BERT's [CLS], put before the tokens
    last_token: int = 102  # its [SEP], put behind them; CLSR names only the first
    num_words: int | None = None


@dataclass(frozen=True, slots=True)
class PhoneCtcHypotheses:
    """Tokens by a beam search over what a CTC of phones says.

    Attributes:
        gamma: the temperature of the shares of the hypotheses; not published. Above 1, as the scores are sums over frames that are not
            independent: at 1 the best takes all and nothing is learnt.
        quantised: False passes the mean of the hypotheses' vectors on: the control without a choice.

    Raises:
        ValueError: gamma is not above 0.
    """

    recogniser: RecogniserConfig = field(default_factory=RecogniserConfig)
    gamma: float = 3.0
    quantised: bool = True

    def __post_init__(self) -> None:
        if not self.gamma > 0.0:
            raise ValueError(f"scores are divided by gamma, so it must be above 0, got {self.gamma}")


TokenSource: TypeAlias = CifWordPieces | PhoneCtcHypotheses


@dataclass(frozen=True, slots=True)
class ClsrConfig:
    """A joint model.

    Attributes:
        pooling: how the text encoder's token states become a vector: their mean (MiniLM), or the first token's (BGE).
    """

    source: TokenSource
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    pooling: Pooling = "mean"


BGE_BASE = TextEncoderConfig(dimension=768, num_layers=12, feed_forward_dimension=3072)
CLSR_BASE = ClsrConfig(CifWordPieces(), BGE_BASE, "first")  # the paper's sizes
CLSR_SMALL = ClsrConfig(PhoneCtcHypotheses())  # ours: what ships


@dataclass(frozen=True, slots=True)
class Written:
    """The distribution over tokens."""

    logits: Tensor  # (B, N, V) over the words that the output layer knows; of round two in training
    fired: Fired
    glanced: Glanced | None  # the sampler's, in training


@dataclass(frozen=True, slots=True)
class WordPieceOutput:
    """What the published form makes of a batch."""

    vectors: Tensor  # (B, D) of length 1
    logits: Tensor  # (B, N, V), as `Written`
    token_ids: Tensor  # int64 (B, N) of the text encoder's vocabulary, zero in padding
    fired: Fired
    glanced: Glanced | None  # the sampler's, in training


class WordPieceClsr(nn.Module):
    """Speech encoder, CIF, decoder, output layer, adaptor and frozen text encoder."""

    words: Tensor

    def __init__(self, config: ClsrConfig, source: CifWordPieces) -> None:
        """Build the published form.

        Raises:
            ValueError: speech encoder and predictor have another number of channels.
        """
        super().__init__()
        dimension = source.speech.block.dimension
        if source.cif.dimension != dimension:
            raise ValueError(f"the encoder has {dimension} channels, the predictor {source.cif.dimension}; give both the same")
        self.config, self.source = config, source
        num_words = source.num_words or config.text.vocabulary_size
        self.frontend = Frontend(source.frontend)
        self.encoder = SpeechEncoder(source.speech)
        self.predictor = CifPredictor(source.cif)
        self.sampler = GlancingSampler(source.sampler)
        self.decoder = SpeechDecoder(source.speech)
        self.output = nn.Linear(dimension, num_words)
        self.adaptor = VqAdaptor(source.vq)
        self.text_encoder = frozen(TextEncoder(config.text))
        # int64 (V,): which of the text encoder's tokens each row of the output layer writes
        self.register_buffer("words", torch.arange(num_words), persistent=source.num_words is not None)

    def forward(self, features: Tensor, mask: Tensor) -> WordPieceOutput:
        """Listen to filter banks (B, T, M) with mask (B, T)."""
        return self.read(self.write(*self.listen(features, mask)))

    def teach(self, features: Tensor, mask: Tensor, targets: Tensor, token_mask: Tensor, generator: Generator) -> WordPieceOutput:
        """Listen in two rounds to what was said (Algorithm 1); the second gives logits and vectors.

        Args:
            features: (B, T, M).
            mask: bool (B, T).
            targets: int64 (B, N) of the output layer's rows, without first and last token; padding may hold anything.
            token_mask: bool (B, N).
            generator: of the sampler's positions, on the device of the features.
        """
        return self.read(self.write_taught(*self.listen(features, mask), targets, token_mask, generator))

    def listen(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the speech encoder's states (B, U, D) of filter banks (B, T, M) with mask (B, T), and their mask (B, U)."""
        frames, frame_mask = self.frontend(features, mask)
        return self.encoder(frames, frame_mask), frame_mask

    def write(self, states: Tensor, frame_mask: Tensor) -> Written:
        """Write the tokens of what `listen` gives."""
        fired = self.predictor(states, frame_mask)
        return Written(self.output(self.decoder(fired.embeddings, fired.mask, states, frame_mask)), fired, None)

    def write_taught(
        self,
        states: Tensor,
        frame_mask: Tensor,
        targets: Tensor,
        token_mask: Tensor,
        generator: Generator,
        weights: Tensor | None = None,
    ) -> Written:
        """Write the tokens of what `listen` gives in two rounds, some of what was said shown to the second.

        Args:
            states: (B, U, D).
            frame_mask: bool (B, U).
            targets: as of `teach`.
            token_mask: as of `teach`.
            generator: as of `teach`.
            weights: (B, U) to gather tokens with instead of the predicted, where it is known when each was said.
        """
        fired = self.predictor(states, frame_mask, token_mask.sum(dim=1), weights)
        with torch.no_grad():
            predicted = self.output(self.decoder(fired.embeddings, token_mask, states, frame_mask)).argmax(dim=-1)
        glanced = self.sampler(fired.embeddings, predicted, targets, token_mask, self.output.weight, generator)
        return Written(self.output(self.decoder(glanced.embeddings, token_mask, states, frame_mask)), fired, glanced)

    def read(self, written: Written) -> WordPieceOutput:
        """Choose the tokens and let the text encoder read them."""
        mask = written.fired.mask
        table = self.text_encoder.embeddings.token.weight
        known = table if self.source.num_words is None else table[self.words]
        tokens = self.adaptor(written.logits, mask, known)
        first, last = table[self.source.first_token], table[self.source.last_token]
        framed, framed_mask = enclose(tokens.embeddings, mask, first, last)
        vectors = pooled(self.text_encoder.states_of(framed, framed_mask), framed_mask, self.config.pooling)
        token_ids = self.words[tokens.token_ids].masked_fill(~mask, 0)
        return WordPieceOutput(vectors, written.logits, token_ids, written.fired, written.glanced)


@dataclass(frozen=True, slots=True)
class Proposals:
    """The hypotheses of a search, best first; each utterance has at least one."""

    phones: Tensor  # int64 (B, K, L), of classes without blank; padding may hold anything
    phone_mask: Tensor  # bool (B, K, L)
    prior: Tensor  # (B, K) what is added to the log-likelihood and does not depend on the encoder
    mask: Tensor  # bool (B, K)


@dataclass(frozen=True, slots=True)
class HypothesisOutput:
    """What our form makes of a batch."""

    vectors: Tensor  # (B, D): of length 1 if quantised
    scores: Tensor  # (B, K): log-likelihood and prior, NO_PATH where there is no hypothesis or no alignment
    shares: Tensor  # (B, K), their sum is 1


class HypothesisClsr(nn.Module):
    """The recogniser of phones and the frozen text encoder; the search between them is the caller's."""

    bonus: Tensor

    def __init__(self, config: ClsrConfig, source: PhoneCtcHypotheses) -> None:
        super().__init__()
        self.config, self.source = config, source
        self.recogniser = Recogniser(source.recogniser)
        self.text_encoder = frozen(TextEncoder(config.text))
        self.register_buffer("bonus", torch.zeros(source.recogniser.num_phones + 1), persistent=False)

    def set_bonus(self, bonus: Tensor) -> None:
        """Take (P,) what the search adds to each class before it compares hypotheses, so that it and the scores agree which is best."""
        self.bonus.copy_(bonus)

    def forward(self, output: RecogniserOutput, proposals: Proposals, vectors: Tensor) -> HypothesisOutput:
        """Choose among hypotheses.

        Args:
            output: of the recogniser, with gradient.
            proposals: of a search over it.
            vectors: (B, K, D) of the hypotheses' texts, from `read`; padding may hold anything.
        """
        scores = self.score(output, proposals)
        chosen = choose(scores, vectors.masked_fill(~proposals.mask[:, :, None], 0.0), self.source)
        return HypothesisOutput(chosen.vectors, scores, chosen.shares)

    def score(self, output: RecogniserOutput, proposals: Proposals) -> Tensor:
        """Return (B, K): the CTC log-likelihood of each hypothesis' phones, and its prior.

        The search's bonus is added and each frame made a distribution again: torch's CTC has no other gradient, and what a frame loses by
        it is lost by all hypotheses alike.
        """
        num = proposals.phones.shape[1]
        log_probs = repeat(functional.log_softmax(output.log_probs.float() + self.bonus, dim=-1), "b t p -> t (b k) p", k=num)
        frame_mask = repeat(output.mask, "b t -> (b k) t", k=num)
        phone_mask = rearrange(proposals.phone_mask, "b k l -> (b k) l")
        phones = rearrange(proposals.phones, "b k l -> (b k) l").masked_fill(~phone_mask, 1)
        lengths = frame_mask.sum(dim=1), phone_mask.sum(dim=1)
        losses = functional.ctc_loss(log_probs, phones, *lengths, reduction="none", zero_infinity=True)  # (B x K,)
        has_path = ctc_fits(frame_mask, phones, phone_mask) & rearrange(proposals.mask, "b k -> (b k)")
        likelihoods = (-losses).masked_fill(~has_path, NO_PATH)
        return rearrange(likelihoods, "(b k) -> b k", k=num) + proposals.prior.masked_fill(~proposals.mask, 0.0)

    def read(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Return (…, D) vectors of length 1 of texts (…, N), first and last token included, with mask (…, N)."""
        flat_ids, flat_mask = token_ids.flatten(0, -2), token_mask.flatten(0, -2)
        vectors = pooled(self.text_encoder.token_states(flat_ids, flat_mask), flat_mask, self.config.pooling)
        return vectors.reshape(*token_ids.shape[:-1], -1)


Clsr: TypeAlias = WordPieceClsr | HypothesisClsr


@dataclass(frozen=True, slots=True)
class Chosen:
    """The vectors of hypotheses joined to one."""

    vectors: Tensor  # (B, D)
    shares: Tensor  # (B, K)


def build_clsr(config: ClsrConfig) -> Clsr:
    """Return the joint model that a configuration asks for."""
    match config.source:
        case CifWordPieces():
            return WordPieceClsr(config, config.source)
        case PhoneCtcHypotheses():
            return HypothesisClsr(config, config.source)


def choose(scores: Tensor, vectors: Tensor, source: PhoneCtcHypotheses) -> Chosen:
    """Return the first hypothesis' vector with the gradient of the mean by shares, or that mean itself.

    Args:
        scores: (B, K), with gradient.
        vectors: (B, K, D).
        source: temperature, and which of the two.
    """
    shares = functional.softmax(scores / source.gamma, dim=-1)  # (B, K)
    mean = (shares.unsqueeze(1) @ vectors).squeeze(1)  # (B, D)
    if not source.quantised:
        return Chosen(mean, shares)
    best = vectors[:, 0]
    return Chosen(best + (mean - mean.detach()), shares)  # the difference is exactly 0


def enclose(tokens: Tensor, token_mask: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, N + 2, D) of tokens (B, N, D) between a first and a last one (D,), and their mask."""
    lengths = token_mask.sum(dim=1, keepdim=True)  # (B, 1)
    places = torch.arange(tokens.shape[1] + 2, device=tokens.device)
    framed = functional.pad(tokens, (0, 0, 1, 1))
    framed = torch.where((places == 0)[None, :, None], first, framed)
    framed = torch.where((places == lengths + 1).unsqueeze(-1), last, framed)
    return framed, places < lengths + 2


def pooled(states: Tensor, token_mask: Tensor, pooling: Pooling) -> Tensor:
    """Return vectors (B, D) of length 1 of token states (B, N, D)."""
    return pool(states, token_mask) if pooling == "mean" else functional.normalize(states[:, 0], dim=-1)


def frozen(net: TextEncoder) -> TextEncoder:
    """Return the network whose weights no step of training changes; gradients pass through it."""
    return net.requires_grad_(False)


def count(net: nn.Module) -> int:
    """Return the number of weights."""
    return sum(weights.numel() for weights in net.parameters())
