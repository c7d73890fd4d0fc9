import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")
pytest.importorskip("onnxscript", reason="export to ONNX needs onnxscript (extra `train`)")

from retriever.checkpoint import (  # noqa: E402
    BERT_NAMES,
    BERT_UNUSED,
    export_text_encoder,
    load_weights,
    rename,
    save_weights,
)
from retriever.errors import ModelFilesMissing  # noqa: E402
from retriever.nets.text_encoder import SelfAttention, TextEncoder, TextEncoderConfig, pool  # noqa: E402

TINY = TextEncoderConfig(vocabulary_size=50, max_positions=24, dimension=12, num_layers=2, num_heads=3, feed_forward_dimension=20)


@pytest.fixture
def net() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TINY).eval()


def sentences(*lengths: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Random token ids (B, N) and their mask, padded to the longest."""
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randint(1, TINY.vocabulary_size, mask.shape) * mask, mask


@torch.no_grad()
def test_attention_equals_its_definition(net: TextEncoder) -> None:
    attention: SelfAttention = net.layers[0].attention
    _, mask = sentences(5, 3)
    states = torch.randn(2, 5, TINY.dimension)
    query, key, value = attention.query(states), attention.key(states), attention.value(states)
    size = TINY.dimension // TINY.num_heads
    expected = torch.zeros_like(states)
    for b in range(2):
        for head in range(TINY.num_heads):
            part = slice(head * size, (head + 1) * size)
            for n in range(5):
                weights = [math.exp(query[b, n, part] @ key[b, m, part] / math.sqrt(size)) if mask[b, m] else 0.0 for m in range(5)]
                expected[b, n, part] = sum(w * value[b, m, part] for m, w in enumerate(weights)) / sum(weights)
    torch.testing.assert_close(attention(states, mask), attention.out(expected), atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing(net: TextEncoder) -> None:
    ids, mask = sentences(7)
    padded = torch.nn.functional.pad(ids, (0, 5), value=9), torch.nn.functional.pad(mask, (0, 5))
    torch.testing.assert_close(net(*padded)[0], net(ids, mask)[0], atol=1e-6, rtol=1e-5)


def test_a_sentence_does_not_depend_on_its_neighbours(net: TextEncoder) -> None:
    ids, mask = sentences(4, 9, 6)
    together, _ = net(ids, mask)
    for row, length in enumerate((4, 9, 6)):
        alone, _ = net(ids[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)


def test_vectors_have_length_1_and_are_the_mean_of_real_tokens(net: TextEncoder) -> None:
    ids, mask = sentences(3, 8)
    vectors, states = net(ids, mask)
    mean = states[0, :3].mean(dim=0)
    torch.testing.assert_close(vectors[0], mean / mean.norm())
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_a_sentence_without_real_tokens_gives_numbers(net: TextEncoder) -> None:
    states = net.token_states(torch.zeros((1, 4), dtype=torch.int64), torch.zeros((1, 4), dtype=torch.bool))
    assert torch.isfinite(states).all()
    assert torch.isfinite(pool(states, torch.zeros((1, 4), dtype=torch.bool))).all()


def test_token_types_count_and_default_to_the_first(net: TextEncoder) -> None:
    ids, mask = sentences(5)
    plain = net.token_states(ids, mask)
    torch.testing.assert_close(net.token_states(ids, mask, torch.zeros_like(ids)), plain)
    assert not torch.allclose(net.token_states(ids, mask, torch.ones_like(ids)), plain)


def test_gradients_are_those_of_the_function() -> None:
    torch.manual_seed(0)
    small = TextEncoderConfig(vocabulary_size=9, max_positions=6, dimension=4, num_layers=1, num_heads=2, feed_forward_dimension=5)
    net = TextEncoder(small).double().eval()
    mask = torch.tensor([[True, True, False]])
    states = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pool(net.layers[0](x, mask), mask), states)


def test_weights_saved_and_loaded_are_the_same(net: TextEncoder, tmp_path: Path) -> None:
    save_weights(net, tmp_path / "net.safetensors")
    other = TextEncoder(TINY).eval()
    load_weights(other, tmp_path / "net.safetensors")
    ids, mask = sentences(5, 2)
    torch.testing.assert_close(other(ids, mask)[0], net(ids, mask)[0], atol=0, rtol=0)


def foreign(net: TextEncoder) -> dict[str, "torch.Tensor"]:
    """The network's tensors under Hugging Face's names, with the tensors that nobody reads."""
    names = {
        "embeddings.token.": "embeddings.word_embeddings.",
        "embeddings.position.": "embeddings.position_embeddings.",
        "embeddings.token_type.": "embeddings.token_type_embeddings.",
        "embeddings.norm.": "embeddings.LayerNorm.",
        "layers.": "encoder.layer.",
        "attention.out.": "attention.output.dense.",
        "attention_norm.": "attention.output.LayerNorm.",
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "widen.": "intermediate.dense.",
        "narrow.": "output.dense.",
        "feed_forward_norm.": "output.LayerNorm.",
    }
    tensors = {"pooler.dense.weight": torch.zeros(12, 12), "embeddings.position_ids": torch.arange(24)}
    for name, tensor in net.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        tensors[name] = tensor
    return tensors


def test_foreign_names_become_ours(net: TextEncoder, tmp_path: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file(foreign(net), tmp_path / "bert.safetensors")
    other = TextEncoder(TINY)
    load_weights(other, tmp_path / "bert.safetensors", BERT_NAMES, BERT_UNUSED)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, msg=name)


def test_names_cover_every_tensor_of_the_network(net: TextEncoder) -> None:
    assert rename(foreign(net), BERT_NAMES, BERT_UNUSED).keys() == net.state_dict().keys()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("embeddings.norm.bias"), "missing embeddings.norm.bias"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda tensors: tensors.update({"embeddings.norm.bias": torch.zeros(3)}), r"has shape \(3,\), wanted \(12,\)"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(
    net: TextEncoder, tmp_path: Path, change: object, complaint: str
) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    tensors = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    change(tensors)  # type: ignore[operator]
    save_file(tensors, tmp_path / "other.safetensors")
    before = net.embeddings.token.weight.clone()
    with pytest.raises(ModelFilesMissing, match=complaint):
        load_weights(net, tmp_path / "other.safetensors")
    torch.testing.assert_close(net.embeddings.token.weight, before)


def test_a_file_that_is_no_weights_is_refused(net: TextEncoder, tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelFilesMissing, match="cannot be read"):
        load_weights(net, tmp_path / "net.safetensors")
    with pytest.raises(ModelFilesMissing, match="cannot be read"):
        load_weights(net, tmp_path / "absent.safetensors")


def test_onnx_gives_what_torch_gives_for_any_size(net: TextEncoder, tmp_path: Path) -> None:
    import onnxruntime  # noqa: PLC0415

    export_text_encoder(net, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for lengths in ((6,), (3, 9), (2, 24, 7, 1)):
        ids, mask = sentences(*lengths)
        with torch.no_grad():
            vectors, states = net(ids, mask)
        exported = session.run(["vectors", "states"], {"token_ids": ids.numpy(), "token_mask": mask.numpy()})
        np.testing.assert_allclose(exported[0], vectors.numpy(), atol=1e-5)
        np.testing.assert_allclose(exported[1], states.numpy(), atol=1e-5)


def test_the_int8_file_is_near_the_network_it_was_made_from(net: TextEncoder, tmp_path: Path) -> None:
    import onnxruntime  # noqa: PLC0415

    from retriever.training.export_text_encoder import quantise  # noqa: PLC0415

    quantise(net, tmp_path, tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    cosines = []
    for _ in range(20):
        ids, mask = sentences(8)
        with torch.no_grad():
            vectors, _ = net(ids, mask)
        (shrunk,) = session.run(["vectors"], {"token_ids": ids.numpy(), "token_mask": mask.numpy()})
        cosines.append(float((shrunk * vectors.numpy()).sum()))
    assert np.mean(cosines) > 0.98


def test_weights_other_than_the_published_ones_are_not_exported(net: TextEncoder, tmp_path: Path) -> None:
    from retriever.training.export_text_encoder import export  # noqa: PLC0415

    save_weights(net, tmp_path / "net.safetensors")
    with pytest.raises(ModelFilesMissing, match="all-MiniLM-L6-v2 has 53aa5117"):
        export(tmp_path / "net.safetensors", tmp_path / "tokenizer.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()
