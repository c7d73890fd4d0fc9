import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")
onnx = pytest.importorskip("onnx", reason="export to ONNX needs onnx (extra `train`)")

from safetensors.torch import save_file  # noqa: E402

from retriever.acoustic import INPUTS, NETWORK, OUTPUTS, AcousticModel  # noqa: E402
from retriever.errors import ModelFilesMissing  # noqa: E402
from retriever.features import filter_banks, stacked  # noqa: E402
from retriever.nets.frontend import FrontendConfig  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig  # noqa: E402
from retriever.nets.recogniser import Recogniser, RecogniserConfig, read_config  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402
from retriever.runtime import Session, ShippedModel, sha256  # noqa: E402
from retriever.training.export_recogniser import difference, export_float, float_weights, load_recogniser, quantise  # noqa: E402

TINY = RecogniserConfig(
    encoder=ParaformerConfig(num_encoder_blocks=2, num_decoder_blocks=0, block=BlockConfig(64, 2, 96, num_taps=5)), tap_block=1
)


def made_up() -> Recogniser:
    torch.manual_seed(0)
    net = Recogniser(TINY).eval()
    net.frontend.set_cmvn(torch.full((560,), -9.0), torch.full((560,), 0.3))
    return net


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the float and the int8 network."""
    folder = tmp_path_factory.mktemp("exported")
    export_float(made_up(), folder / "float.onnx")
    quantise(folder / "float.onnx", folder / NETWORK)
    return folder


def sounds(num: int, num_frames: int) -> "torch.Tensor":
    return torch.randn(num, num_frames, 560) * 3 + 9


@torch.no_grad()
def test_the_float_network_says_what_torch_says_at_other_lengths_and_with_padding(exported: Path) -> None:
    net, session = made_up(), Session.of_file(exported / "float.onnx")
    for lengths in ((1,), (7, 3), (30, 30, 1), (501,)):
        mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        frames = sounds(*mask.shape)
        (found,) = session.run(dict(zip(INPUTS, (frames.numpy(), mask.numpy()), strict=True)), OUTPUTS)
        output = net.from_stacked(frames, mask)
        torch.testing.assert_close(torch.from_numpy(found)[output.mask], output.log_probs[output.mask], atol=2e-5, rtol=1e-4)


def test_int8_stays_close_and_only_products_with_weights_are_int8(exported: Path) -> None:
    torch.manual_seed(1)
    found = difference(made_up(), exported / NETWORK, sounds(4, 60))
    assert found.num_frames == 480
    assert 0 < found.mean < 0.03
    assert found.largest < 0.3
    assert found.same_best > 0.95
    left = float_weights(exported / NETWORK)
    assert sorted(size for name, size in left.items() if "taps" in name) == [64 * 5] * 2
    assert max(size for name, size in left.items() if "taps" not in name) <= 560  # biases, norms and scales
    assert (exported / NETWORK).stat().st_size < 0.6 * (exported / "float.onnx").stat().st_size


def test_a_neighbour_changes_what_is_heard_in_int8_but_not_in_float(exported: Path) -> None:
    """Why sounds are run one at a time."""
    torch.manual_seed(1)
    quiet, loud = sounds(1, 20), 8 * sounds(1, 20)
    for name, is_same in (("float.onnx", True), (NETWORK, False)):
        session = Session.of_file(exported / name)
        alone, beside = (
            session.run({"frames": frames.numpy(), "frame_mask": np.ones(frames.shape[:2], np.bool_)}, OUTPUTS)[0][0]
            for frames in (quiet, torch.cat((quiet, loud)))
        )
        assert np.allclose(alone, beside, atol=1e-4) is is_same


def checkpoint(folder: Path, net: Recogniser, name: str) -> None:
    (folder / "state.json").write_text(json.dumps({"step": 5, "config": dataclasses.asdict(net.config)}))
    save_file(net.state_dict(), folder / name)


@pytest.mark.parametrize("name", ["average.safetensors", "net.safetensors"])
def test_a_checkpoint_is_read_as_it_was_trained(tmp_path: Path, name: str) -> None:
    net = made_up()
    checkpoint(tmp_path, net, name)
    found = load_recogniser(tmp_path)
    assert found.config == TINY
    assert not found.training
    frames, mask = sounds(2, 9), torch.ones(2, 9, dtype=torch.bool)
    torch.testing.assert_close(found.from_stacked(frames, mask).log_probs, net.from_stacked(frames, mask).log_probs, atol=0, rtol=0)


def test_the_average_is_taken_before_the_last_weights(tmp_path: Path) -> None:
    checkpoint(tmp_path, Recogniser(TINY), "net.safetensors")
    averaged = made_up()
    checkpoint(tmp_path, averaged, "average.safetensors")
    torch.testing.assert_close(load_recogniser(tmp_path).ctc.weight, averaged.ctc.weight, atol=0, rtol=0)


def test_a_configuration_survives_json() -> None:
    for config in (RecogniserConfig(), TINY, dataclasses.replace(TINY, frontend=FrontendConfig(70, 8, 4))):
        assert read_config(json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize("state", ["", "{}", '{"config": {"frontend": {"colour": 1}, "encoder": {"block": {}}}}'])
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(ModelFilesMissing, match=r"state\.json does not say"):
        load_recogniser(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, made_up(), "average.safetensors")
    (tmp_path / "state.json").write_text(json.dumps({"config": dataclasses.asdict(RecogniserConfig())}))
    with pytest.raises(ModelFilesMissing, match="does not fit"):
        load_recogniser(tmp_path)


@torch.no_grad()
def test_the_run_time_hears_what_the_trained_network_hears(exported: Path) -> None:
    """From samples to phones: the numpy filter banks and the int8 network against torch."""
    config = {"phones": "p " * 39, "outputs_per_frame": 2, "files": {NETWORK: sha256(exported / NETWORK)}}
    (exported / "config.json").write_text(json.dumps(config))
    model = AcousticModel(ShippedModel.read(exported))
    samples = np.random.default_rng(0).normal(0, 0.05, 20_000).astype(np.float32).clip(-1, 1)
    frames = torch.from_numpy(stacked(filter_banks(samples)))[None]
    expected = made_up().from_stacked(frames, torch.ones(frames.shape[:2], dtype=torch.bool)).log_probs[0]
    found = model.log_probs(samples)
    assert model.output_samples == 480
    assert found.shape == (2 * 21, 40) == tuple(expected.shape)
    assert np.abs(found - expected.numpy()).mean() < 0.03
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-4)


def test_a_sound_too_short_for_a_frame_gives_no_phones(exported: Path) -> None:
    config = {"phones": "p " * 39, "outputs_per_frame": 2, "files": {NETWORK: sha256(exported / NETWORK)}}
    (exported / "config.json").write_text(json.dumps(config))
    assert AcousticModel(ShippedModel.read(exported)).log_probs(np.zeros(79, np.float32)).shape == (0, 40)
