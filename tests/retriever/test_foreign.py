from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from retriever.errors import ModelFilesMissing  # noqa: E402
from retriever.foreign import OURS_ALONE, load_paraformer, load_published, paraformer_tensors, read_cmvn  # noqa: E402
from retriever.nets.cif import CifConfig  # noqa: E402
from retriever.nets.clsr import CLSR_BASE, CifWordPieces, ClsrConfig, WordPieceClsr  # noqa: E402
from retriever.nets.frontend import FrontendConfig  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402
from retriever.nets.text_encoder import TextEncoderConfig  # noqa: E402

SOURCE = CifWordPieces(
    ParaformerConfig(28, 3, 2, BlockConfig(8, 2, 12, num_taps=3)), FrontendConfig(4), CifConfig(8), first_token=1, last_token=2
)
TINY = ClsrConfig(SOURCE, TextEncoderConfig(50, 20, 2, 12, 2, 3, 16), "first")


class Funasr:
    """Makes up a Paraformer with FunASR's names and shapes: `sizes` are input, channels, feed-forward and taps."""

    def __init__(self, blocks: int, decoder_blocks: int, sizes: tuple[int, int, int, int], vocabulary: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.wide, self.narrow, self.middle, self.taps = sizes
        for number in range(blocks):
            self.encoder_block(*(("encoder.encoders0.0", self.wide) if not number else (f"encoder.encoders.{number - 1}", self.narrow)))
        for number in range(decoder_blocks):
            self.decoder_block(f"decoder.decoders.{number}")
        self.decoder_feed_forward("decoder.decoders3.0.feed_forward")
        for name in ("encoder.after_norm", "decoder.after_norm", "decoder.decoders3.0.norm1"):
            self.norm(name, self.narrow)
        self.put("decoder.embed.0.weight", vocabulary, self.narrow)
        self.linear("decoder.output_layer", vocabulary, self.narrow)
        self.put("predictor.cif_conv1d.weight", self.narrow, self.narrow, 3)
        self.put("predictor.cif_conv1d.bias", self.narrow)
        self.linear("predictor.cif_output", 1, self.narrow)

    def put(self, name: str, *shape: int) -> None:
        self.tensors[name] = torch.randn(shape)

    def linear(self, name: str, out: int, size: int) -> None:
        self.put(f"{name}.weight", out, size)
        self.put(f"{name}.bias", out)

    def norm(self, name: str, size: int) -> None:
        self.put(f"{name}.weight", size)
        self.put(f"{name}.bias", size)

    def encoder_block(self, name: str, size: int) -> None:
        self.linear(f"{name}.self_attn.linear_out", self.narrow, self.narrow)
        self.linear(f"{name}.self_attn.linear_q_k_v", 3 * self.narrow, size)
        self.put(f"{name}.self_attn.fsmn_block.weight", self.narrow, 1, self.taps)
        self.linear(f"{name}.feed_forward.w_1", self.middle, self.narrow)
        self.linear(f"{name}.feed_forward.w_2", self.narrow, self.middle)
        self.norm(f"{name}.norm1", size)
        self.norm(f"{name}.norm2", self.narrow)

    def decoder_block(self, name: str) -> None:
        self.put(f"{name}.self_attn.fsmn_block.weight", self.narrow, 1, self.taps)
        self.linear(f"{name}.src_attn.linear_q", self.narrow, self.narrow)
        self.linear(f"{name}.src_attn.linear_k_v", 2 * self.narrow, self.narrow)
        self.linear(f"{name}.src_attn.linear_out", self.narrow, self.narrow)
        self.decoder_feed_forward(f"{name}.feed_forward")
        for part in ("norm1", "norm2", "norm3"):
            self.norm(f"{name}.{part}", self.narrow)

    def decoder_feed_forward(self, name: str) -> None:
        self.linear(f"{name}.w_1", self.middle, self.narrow)
        self.put(f"{name}.w_2.weight", self.narrow, self.middle)  # without a bias
        self.norm(f"{name}.norm", self.middle)


def funasr(blocks: int, decoder_blocks: int, sizes: tuple[int, int, int, int], vocabulary: int) -> dict[str, Tensor]:
    return Funasr(blocks, decoder_blocks, sizes, vocabulary).tensors


def bert(config: TextEncoderConfig) -> dict[str, Tensor]:
    """A made-up BERT with the published names."""
    size, wide = config.dimension, config.feed_forward_dimension
    made = {"embeddings.word_embeddings.weight": torch.randn(config.vocabulary_size, size)}
    made["embeddings.position_embeddings.weight"] = torch.randn(config.max_positions, size)
    made["embeddings.token_type_embeddings.weight"] = torch.randn(2, size)
    shapes = {"attention.self.query": (size, size), "attention.self.key": (size, size), "attention.self.value": (size, size)}
    shapes |= {"attention.output.dense": (size, size), "intermediate.dense": (wide, size), "output.dense": (size, wide)}
    for number in range(config.num_layers):
        for name, shape in shapes.items():
            made[f"encoder.layer.{number}.{name}.weight"] = torch.randn(shape)
            made[f"encoder.layer.{number}.{name}.bias"] = torch.randn(shape[0])
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            made |= {f"encoder.layer.{number}.{name}.{part}": torch.randn(size) for part in ("weight", "bias")}
    made |= {f"embeddings.LayerNorm.{part}": torch.randn(size) for part in ("weight", "bias")}
    return made | {"pooler.dense.weight": torch.randn(size, size), "pooler.dense.bias": torch.randn(size)}


def cmvn_text(shift: list[float], scale: list[float]) -> str:
    size = len(shift)
    added, scaled = (" ".join(map(str, values)) for values in (shift, scale))
    return (
        f"<Nnet>\n<Splice> {size} {size}\n[ 0 ]\n<AddShift> {size} {size}\n<LearnRateCoef> 0 [ {added} ]\n"
        f"<Rescale> {size} {size}\n<LearnRateCoef> 0 [ {scaled} ]\n</Nnet>\n"
    )


@pytest.fixture
def net() -> WordPieceClsr:
    torch.manual_seed(0)
    return WordPieceClsr(TINY, SOURCE)


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_published_weights_fill_all_but_the_output_layer(net: WordPieceClsr, tmp_path: Path, is_wrapped: bool) -> None:
    theirs, text = funasr(3, 2, (28, 8, 12, 3), 33), bert(TINY.text)
    torch.save({"state_dict": theirs} if is_wrapped else theirs, tmp_path / "model.pt")
    save_file(text, tmp_path / "model.safetensors")
    (tmp_path / "am.mvn").write_text(cmvn_text([-8.5] * 28, [0.25] * 28))
    output = net.output.weight.detach().clone()
    load_published(net, tmp_path / "model.pt", tmp_path / "am.mvn", tmp_path / "model.safetensors")
    ours = net.state_dict()
    for name, theirs_name in {
        "encoder.blocks.0.attention.query_key_value.weight": "encoder.encoders0.0.self_attn.linear_q_k_v.weight",
        "encoder.blocks.2.attention.memory.taps.weight": "encoder.encoders.1.self_attn.fsmn_block.weight",
        "encoder.blocks.1.attention_norm.bias": "encoder.encoders.0.norm1.bias",
        "encoder.norm.weight": "encoder.after_norm.weight",
        "decoder.blocks.1.feed_forward_norm.weight": "decoder.decoders.1.norm1.weight",
        "decoder.blocks.0.memory_norm.weight": "decoder.decoders.0.norm2.weight",
        "decoder.blocks.0.attention_norm.weight": "decoder.decoders.0.norm3.weight",
        "decoder.tail.feed_forward.narrow.weight": "decoder.decoders3.0.feed_forward.w_2.weight",
        "predictor.conv.weight": "predictor.cif_conv1d.weight",
    }.items():
        torch.testing.assert_close(ours[name], theirs[theirs_name], atol=0, rtol=0)
    torch.testing.assert_close(ours["text_encoder.layers.1.widen.weight"], text["encoder.layer.1.intermediate.dense.weight"])
    torch.testing.assert_close(net.output.weight, output, atol=0, rtol=0)
    assert (net.frontend.shift.unique().tolist(), net.frontend.scale.unique().tolist()) == ([-8.5], [0.25])


def test_every_name_of_paraformer_large_is_one_of_the_papers_size_with_its_shape() -> None:
    with torch.device("meta"):
        source = CLSR_BASE.source
        assert isinstance(source, CifWordPieces)
        ours = {
            name: value.shape for name, value in WordPieceClsr(CLSR_BASE, source).state_dict().items() if not name.startswith(OURS_ALONE)
        }
        theirs = {name: value.shape for name, value in paraformer_tensors(funasr(50, 16, (560, 512, 2048, 11), 4_200)).items()}
    assert theirs == ours


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("predictor.cif_output.bias"), "missing predictor.output.bias"),
        (lambda tensors: tensors.update({"bias_encoder.weight": torch.zeros(2)}), "unexpected bias_encoder.weight"),
        (lambda tensors: tensors.update({"encoder.after_norm.bias": torch.zeros(3)}), r"encoder.norm.bias has shape \(3,\), wanted \(8,\)"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(net: WordPieceClsr, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    tensors = funasr(3, 2, (28, 8, 12, 3), 33)
    change(tensors)
    torch.save(tensors, tmp_path / "model.pt")
    before = net.encoder.norm.weight.detach().clone()
    with pytest.raises(ModelFilesMissing, match=message):
        load_paraformer(net, tmp_path / "model.pt")
    torch.testing.assert_close(net.encoder.norm.weight, before, atol=0, rtol=0)


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_file_that_is_no_weights_is_refused(net: WordPieceClsr, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ModelFilesMissing, match=r"model\.pt"):
        load_paraformer(net, tmp_path / "model.pt")


def test_a_normalisation_is_read_as_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "am.mvn").write_text(cmvn_text([-8.25, 1e-3, 4.0], [0.5, 2.0, 1.5]))
    found = read_cmvn(tmp_path / "am.mvn")
    torch.testing.assert_close(found.shift, torch.tensor([-8.25, 1e-3, 4.0]))
    torch.testing.assert_close(found.scale, torch.tensor([0.5, 2.0, 1.5]))


@pytest.mark.parametrize(
    "text", ["", "<AddShift> 1 1 [ 2 ]", cmvn_text([1.0, 2.0], [1.0]), cmvn_text([], []), "<AddShift> [ x ] <Rescale> [ 1 ]"]
)
def test_a_damaged_normalisation_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "am.mvn").write_text(text)
    with pytest.raises(ModelFilesMissing, match=r"am\.mvn"):
        read_cmvn(tmp_path / "am.mvn")
