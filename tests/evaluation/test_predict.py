"""Prediction: batches do not matter, the model comes back as it was, faults are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.evaluation.predict import predict


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 8, 10), dtype=np.uint8)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def test_logits_are_those_of_the_plain_forward(net: nn.Module, images: np.ndarray) -> None:
    got = predict(net, images, batch_size=4)
    net.eval()
    with torch.no_grad():
        expected = net(torch.from_numpy(images)[:, None].float() / 255).numpy()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_batch_size_rows_and_memory_maps_do_not_matter(net, images, tmp_path) -> None:
    whole = predict(net, images)
    np.testing.assert_allclose(predict(net, images, batch_size=1), whole, rtol=1e-5, atol=1e-6)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.array([7, 0, 3])
    np.testing.assert_allclose(predict(net, mapped, rows=rows), whole[rows], rtol=1e-5, atol=1e-6)


def test_the_model_comes_back_as_it_was(net: nn.Module, images: np.ndarray) -> None:
    net.train()
    net[1].eval()  # a frozen batch norm inside a training model
    state = {k: v.clone() for k, v in net.state_dict().items()}
    predict(net, images)
    assert net.training and net[0].training and not net[1].training
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_the_model_comes_back_as_it_was_after_an_exception(images: np.ndarray) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError

    model = Broken().train()
    with pytest.raises(ZeroDivisionError):
        predict(model, images)
    assert model.training and model.inner.training


def test_an_outer_autocast_changes_nothing(net: nn.Module, images: np.ndarray) -> None:
    plain = predict(net, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(predict(net, images), plain)


def test_predicting_twice_gives_the_same_bits(net: nn.Module, images: np.ndarray) -> None:
    np.testing.assert_array_equal(predict(net, images), predict(net, images))


class Constant(nn.Module):
    def __init__(self, value: float, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__()
        self.value, self.shape = value, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), *self.shape), self.value)


def test_a_model_without_parameters_will_do(images: np.ndarray) -> None:
    assert (predict(Constant(2.0), images) == 2).all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Constant(float("nan")), r"resnet: the logits of 11 of 11 scans are NaN.*image 0"),
        (Constant(float("-inf")), "resnet: the logits of 11"),
        (Constant(1.0, (2, 4)), r"resnet: gives \(11, 2, 4\) for 11 images"),
        (nn.Linear(10, 2).bfloat16(), r"resnet: holds torch.bfloat16 weights"),
    ],
)
def test_faults_name_the_model(model: nn.Module, images: np.ndarray, message: str) -> None:
    with pytest.raises(OctoscopeError, match=message):
        predict(model, images, batch_size=11, name="resnet")


def test_images_of_another_kind_are_refused(net: nn.Module, images: np.ndarray) -> None:
    with pytest.raises(OctoscopeError, match="must be uint8"):
        predict(net, images.astype(np.float32))
    with pytest.raises(OctoscopeError, match="must be uint8 of shape"):
        predict(net, images[0])
    with pytest.raises(OctoscopeError, match="no image to predict"):
        predict(net, images[:0])


def test_weights_come_back_as_they_lay(net: nn.Module, images: np.ndarray) -> None:
    net = nn.Sequential(net[0], nn.Conv2d(4, 4, 3), *net[2:])  # a kernel of several channels
    before = [(p, p.data_ptr(), p.stride()) for p in net.parameters()]
    predict(net, images)
    assert [(p.data_ptr(), p.stride()) for p in net.parameters()] == [b[1:] for b in before]
    assert all(p is q for p, (q, *_) in zip(net.parameters(), before, strict=True))


def test_kernels_lie_channels_last_and_a_model_that_minds_is_run_as_it_is(images) -> None:
    seen = []

    class Net(nn.Module):
        def __init__(self, minds: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.more, self.minds = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3), minds

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.more(self.conv(x))
            seen.append(features.is_contiguous(memory_format=torch.channels_last))
            return (features.view(len(x), -1) if self.minds else features.flatten(1))[:, :5]

    with torch.no_grad():
        expected = Net(False)(torch.from_numpy(images)[:, None] / 255).numpy()
    for minds, last in ((False, True), (True, False)):
        np.testing.assert_allclose(predict(Net(minds), images), expected, rtol=1e-5, atol=1e-6)
        assert seen[-1] is last
