import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")
pytest.importorskip("onnxscript", reason="export to ONNX needs onnxscript (extra `train`)")
onnxruntime = pytest.importorskip("onnxruntime", reason="exported networks run in onnxruntime")

from torch import Tensor, nn  # noqa: E402

from retriever.nets.frontend import Frontend, FrontendConfig  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig, SpeechDecoder, SpeechEncoder  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402

TINY = ParaformerConfig(14, 1, 1, BlockConfig(dimension=8, num_heads=2, feed_forward_dimension=12))


class Speech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frontend = Frontend(FrontendConfig(num_bands=2))
        self.encoder = SpeechEncoder(TINY)
        self.decoder = SpeechDecoder(TINY)

    def forward(self, features: Tensor, mask: Tensor, tokens: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        frames, frame_mask = self.frontend(features, mask)
        states = self.encoder(frames, frame_mask)
        return states, self.decoder(tokens, token_mask, states, frame_mask)


def batch(num_frames: list[int], num_tokens: list[int]) -> tuple[Tensor, ...]:
    mask, token_mask = (torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None] for sizes in (num_frames, num_tokens))
    return torch.randn(*mask.shape, 2), mask, torch.randn(*token_mask.shape, 8), token_mask


@torch.no_grad()
def test_the_exported_stacks_say_what_torch_says_at_other_lengths(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, path, names = Speech().eval(), tmp_path / "speech.onnx", ["features", "mask", "tokens", "token_mask"]
    size, length, tokens = torch.export.Dim("B"), torch.export.Dim("T", min=7, max=6000), torch.export.Dim("N")
    shapes = tuple({0: size, 1: dimension} for dimension in (length, length, tokens, tokens))
    with warnings.catch_warnings():  # the exporter warns of its own insides
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            batch([40, 22, 9], [5, 2, 1]),
            path,
            input_names=names,
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    for inputs in (batch([61], [3]), batch([13, 1], [4, 9]), batch([12, 30, 7, 18], [2, 2, 2, 1])):
        found = session.run(None, dict(zip(names, (part.numpy() for part in inputs), strict=True)))
        for exported, wanted in zip(found, net(*inputs), strict=True):
            torch.testing.assert_close(torch.from_numpy(exported), wanted, atol=1e-5, rtol=1e-4)
