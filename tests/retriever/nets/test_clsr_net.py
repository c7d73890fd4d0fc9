import math
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from torch import Tensor  # noqa: E402

from retriever.nets.cif import CifConfig  # noqa: E402
from retriever.nets.clsr import (  # noqa: E402
    CLSR_BASE,
    CLSR_SMALL,
    NO_PATH,
    CifWordPieces,
    ClsrConfig,
    HypothesisClsr,
    PhoneCtcHypotheses,
    Proposals,
    WordPieceClsr,
    build_clsr,
    choose,
    count,
    enclose,
)
from retriever.nets.frontend import FrontendConfig  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig  # noqa: E402
from retriever.nets.recogniser import RecogniserConfig, RecogniserOutput  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402
from retriever.nets.text_encoder import TextEncoderConfig, pool  # noqa: E402
from retriever.nets.vq import VqConfig  # noqa: E402

SPEECH = ParaformerConfig(28, 2, 1, BlockConfig(8, 2, 12, num_taps=3, dropout=0.0))
TEXT = TextEncoderConfig(20, 16, 2, 12, 2, 3, 16)
WORDS = CifWordPieces(SPEECH, FrontendConfig(4), CifConfig(8), first_token=1, last_token=2)
PHONES = PhoneCtcHypotheses(RecogniserConfig(FrontendConfig(4), SPEECH, num_phones=5, tap_block=1))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def word_pieces(vq: VqConfig | None = None, pooling: str = "first") -> WordPieceClsr:
    source = CifWordPieces(SPEECH, FrontendConfig(4), CifConfig(8), vq=vq or VqConfig(), first_token=1, last_token=2)
    net = build_clsr(ClsrConfig(source, TEXT, pooling)).eval()  # type: ignore[arg-type]
    assert isinstance(net, WordPieceClsr)
    torch.nn.init.normal_(net.text_encoder.embeddings.token.weight)
    return net


def sounds(lengths: list[int]) -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randn(*mask.shape, 4), mask


def targets(lengths: list[int]) -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randint(3, 20, mask.shape), mask


def test_the_papers_size_has_227_and_109_million_weights() -> None:
    with torch.device("meta"):
        net = build_clsr(CLSR_BASE)
    num_text = count(net.text_encoder)
    assert round((count(net) - num_text) / 1e6) == 227
    assert round(num_text / 1e6) == 109
    assert {weights.requires_grad for weights in net.text_encoder.parameters()} == {False}


def test_our_size_is_the_recogniser_and_minilm() -> None:
    with torch.device("meta"):
        net = build_clsr(CLSR_SMALL)
    assert isinstance(net, HypothesisClsr)
    assert round(count(net.recogniser) / 1e6, 1) == 6.6
    assert round(count(net.text_encoder) / 1e6, 1) == 22.6  # without the pooler, which is not used


def test_encoder_and_predictor_must_agree() -> None:
    with pytest.raises(ValueError, match="8 channels, the predictor 512"):
        build_clsr(ClsrConfig(CifWordPieces(SPEECH, FrontendConfig(4)), TEXT))


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_vector_is_the_text_encoders_of_the_tokens_chosen(pooling: str) -> None:
    """What the paper's inference amounts to: recognise, then encode the tokens as text."""
    net = word_pieces(pooling=pooling)
    features, mask = sounds([90, 60])
    output = net.teach(features, mask, *targets([5, 3]), torch.Generator().manual_seed(0))
    for row, length in enumerate((5, 3)):
        ids = torch.tensor([[1, *output.token_ids[row, :length].tolist(), 2]])
        real = torch.ones_like(ids, dtype=torch.bool)
        states = net.text_encoder.token_states(ids, real)
        expected = pool(states, real)[0] if pooling == "mean" else torch.nn.functional.normalize(states[0, 0], dim=0)
        torch.testing.assert_close(output.vectors[row], expected, atol=1e-5, rtol=1e-4)


def test_the_retrieval_loss_reaches_the_speech_encoder_through_the_adaptor_and_not_the_text_encoder() -> None:
    net = word_pieces()
    net.teach(*sounds([90, 60]), *targets([5, 3]), torch.Generator().manual_seed(0)).vectors[:, 0].sum().backward()
    for name in ("encoder.blocks.0.attention.query_key_value.weight", "predictor.output.weight", "decoder.norm.weight", "output.weight"):
        gradient = net.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0
    assert all(weights.grad is None for weights in net.text_encoder.parameters())


def test_a_padded_batch_of_the_published_form_is_heard_as_each_alone() -> None:
    net = word_pieces()
    net.predictor.output.bias.data.fill_(1.0)  # so that tokens fire
    features, mask = sounds([90, 30, 54])
    together = net(features.masked_fill(~mask[:, :, None], 1e3), mask)
    for row, length in enumerate((90, 30, 54)):
        alone = net(features[row : row + 1, :length], mask[row : row + 1, :length])
        num = int(alone.fired.num_tokens[0])
        assert num == together.fired.num_tokens[row] > 0
        assert together.token_ids[row, :num].tolist() == alone.token_ids[0].tolist()
        torch.testing.assert_close(together.vectors[row], alone.vectors[0], atol=1e-4, rtol=1e-3)


def test_without_quantisation_the_text_encoder_reads_the_mean_over_all_words() -> None:
    quantised, soft = word_pieces(), word_pieces(VqConfig(quantised=False))
    soft.load_state_dict(quantised.state_dict())
    batch = (*sounds([90]), *targets([5]))
    hard, mean = (net.teach(*batch, torch.Generator().manual_seed(0)) for net in (quantised, soft))
    assert torch.equal(hard.token_ids, mean.token_ids)
    assert not torch.allclose(hard.vectors, mean.vectors, atol=1e-3)


def test_first_and_last_token_enclose_the_real_ones() -> None:
    tokens, first, last = torch.arange(1.0, 7).view(2, 3, 1), torch.tensor([-1.0]), torch.tensor([-2.0])
    framed, mask = enclose(tokens, torch.tensor([[True, True, True], [True, False, False]]), first, last)
    assert framed[0, :, 0].tolist() == [-1, 1, 2, 3, -2]
    assert framed[1, :3, 0].tolist() == [-1, 4, -2]
    assert mask.sum(dim=1).tolist() == [5, 3]


# Hypotheses


def proposals(phones: list[list[list[int]]], prior: list[list[float]] | None = None) -> Proposals:
    num, longest = max(map(len, phones)), max(len(said) for row in phones for said in row)
    ids, mask = torch.zeros(len(phones), num, longest, dtype=torch.int64), torch.zeros(len(phones), num, longest, dtype=torch.bool)
    real = torch.zeros(len(phones), num, dtype=torch.bool)
    for row, some in enumerate(phones):
        for column, said in enumerate(some):
            ids[row, column, : len(said)] = torch.tensor(said)
            mask[row, column, : len(said)] = True
            real[row, column] = True
    added = torch.zeros(len(phones), num) if prior is None else torch.tensor(prior)
    return Proposals(ids, mask, added, real)


def hypothesis_net(quantised: bool = True, gamma: float = 3.0) -> HypothesisClsr:
    net = build_clsr(ClsrConfig(PhoneCtcHypotheses(PHONES.recogniser, gamma, quantised), TEXT)).eval()
    assert isinstance(net, HypothesisClsr)
    return net


def output_of(log_probs: Tensor, lengths: list[int]) -> RecogniserOutput:
    mask = torch.arange(log_probs.shape[1])[None] < torch.tensor(lengths)[:, None]
    return RecogniserOutput(log_probs, mask, torch.zeros(0), torch.zeros(0))


def likelihood_slowly(log_probs: Tensor, phones: list[int]) -> float:
    """The sum over all alignments, by listing them."""
    total = 0.0
    num, classes = log_probs.shape
    for path in torch.cartesian_prod(*[torch.arange(classes)] * num).tolist():
        merged = [path[0], *(after for before, after in pairwise(path) if after != before)]
        if [one for one in merged if one] == phones:
            total += math.exp(sum(float(log_probs[frame, one]) for frame, one in enumerate(path)))
    return math.log(total)


def test_a_score_is_the_likelihood_over_all_alignments_and_the_prior() -> None:
    log_probs = torch.randn(2, 5, 6).log_softmax(dim=-1)
    said = [[[1, 2], [3]], [[2], [1, 1]]]
    scores = hypothesis_net().score(output_of(log_probs, [5, 3]), proposals(said, [[0.5, -1.0], [0.0, 2.0]]))
    expected = [
        [likelihood_slowly(log_probs[0], [1, 2]) + 0.5, likelihood_slowly(log_probs[0], [3]) - 1.0],
        [likelihood_slowly(log_probs[1, :3], [2]), likelihood_slowly(log_probs[1, :3], [1, 1]) + 2.0],
    ]
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_the_searchs_bonus_counts_once_a_frame_and_its_gradient_is_right() -> None:
    bonus, leaf = torch.tensor([-2.0, 0.5, 0.0, 1.0, 0.0, 0.0]), torch.randn(1, 4, 6, requires_grad=True)
    net, said = hypothesis_net(), [[1, 2], [3], [2]]
    net.set_bonus(bonus)
    shares = net(output_of(leaf.log_softmax(dim=-1), [4]), proposals([said]), torch.randn(1, 3, 12)).shares
    raw = leaf.detach()[0].log_softmax(dim=-1) + bonus  # as the search adds: no distribution any more
    expected = torch.tensor([likelihood_slowly(raw, one) for one in said]) / 3.0
    torch.testing.assert_close(shares[0].detach(), expected.softmax(dim=0), atol=1e-5, rtol=1e-4)
    (gradient,) = torch.autograd.grad(shares[0, 1], leaf)
    moved = leaf.detach().clone()
    moved[0, 2, 3] += 1e-2
    after = net(output_of(moved.log_softmax(dim=-1), [4]), proposals([said]), torch.randn(1, 3, 12)).shares[0, 1]
    assert (after - shares[0, 1].detach()).item() / 1e-2 == pytest.approx(gradient[0, 2, 3].item(), abs=3e-3)


def test_the_empty_hypothesis_is_all_blanks_and_one_without_an_alignment_gets_no_share() -> None:
    log_probs = torch.randn(1, 2, 6).log_softmax(dim=-1).requires_grad_()
    net = hypothesis_net()
    output = net(output_of(log_probs, [2]), proposals([[[1], [], [1, 1]]]), torch.randn(1, 3, 12))
    assert output.scores[0, 1].item() == pytest.approx(float(log_probs.detach()[0, :, 0].sum()))
    assert output.scores[0, 2].item() == NO_PATH
    assert output.shares[0, 2] == 0
    output.vectors.sum().backward()
    assert torch.isfinite(log_probs.grad).all()


def test_the_value_is_the_best_texts_vector_and_the_gradient_that_of_the_mean() -> None:
    log_probs = torch.randn(2, 6, 6).log_softmax(dim=-1)
    said, vectors, wanted = [[[1, 2], [3], [1]], [[2], [1, 1]]], torch.randn(2, 3, 12), torch.randn(2, 12)
    gradients = []
    for quantised in (True, False):
        net, leaf = hypothesis_net(quantised), log_probs.clone().requires_grad_()
        output = net(output_of(leaf, [6, 4]), proposals(said), vectors)
        if quantised:
            torch.testing.assert_close(output.vectors, vectors[:, 0], atol=0, rtol=0)
        else:
            mean = (output.shares[:, :, None] * vectors.masked_fill(torch.tensor([[[0]] * 3, [[0], [0], [1]]]) > 0, 0)).sum(dim=1)
            torch.testing.assert_close(output.vectors, mean)
        (output.vectors * wanted).sum().backward()
        gradients.append(leaf.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_gradient_of_the_shares_is_the_softmaxs() -> None:
    vectors, wanted = torch.randn(2, 3, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    scores = (4 * torch.randn(2, 3, dtype=torch.float64)).requires_grad_()
    source = PhoneCtcHypotheses(PHONES.recogniser, gamma=2.0)
    (choose(scores, vectors, source).vectors * wanted).sum().backward()
    share = torch.softmax(scores.detach() / 2.0, dim=-1)
    gain = (vectors * wanted[:, None]).sum(dim=-1)  # what each hypothesis is worth
    torch.testing.assert_close(scores.grad, share * (gain - (share * gain).sum(dim=-1, keepdim=True)) / 2.0)


def test_one_step_moves_probability_to_the_text_that_retrieves_better() -> None:
    net = hypothesis_net()
    features, mask = torch.randn(1, 60, 4), torch.ones(1, 60, dtype=torch.bool)
    given, vectors = proposals([[[1, 2], [3, 4]]]), torch.nn.functional.normalize(torch.randn(1, 2, 12), dim=-1)
    before = net(net.recogniser(features, mask), given, vectors)
    (-(before.vectors * vectors[:, 1]).sum()).backward()  # the second is wanted
    with torch.no_grad():
        for weights in net.recogniser.parameters():
            if weights.grad is not None:
                weights.sub_(0.05 * weights.grad)
    after = net(net.recogniser(features, mask), given, vectors)
    assert after.shares[0, 1] > before.shares[0, 1]


def test_with_one_hypothesis_nothing_is_learnt() -> None:
    net = hypothesis_net()
    net(net.recogniser(*sounds([40])), proposals([[[1, 2]]]), torch.randn(1, 1, 12)).vectors.sum().backward()
    assert net.recogniser.ctc.weight.grad is not None
    assert net.recogniser.ctc.weight.grad.abs().max() == 0


def test_texts_are_read_in_any_arrangement() -> None:
    net = hypothesis_net()
    ids, mask = torch.randint(0, 20, (2, 3, 6)), torch.arange(6) < torch.tensor([[[3], [6], [2]], [[4], [2], [5]]])
    together = net.read(ids, mask)
    assert together.shape == (2, 3, 12)
    alone = net.read(ids[1:2, 0, :4], mask[1:2, 0, :4])[0]
    torch.testing.assert_close(together[1, 0], alone, atol=1e-5, rtol=1e-4)


def test_a_gamma_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma"):
        PhoneCtcHypotheses(gamma=0.0)
