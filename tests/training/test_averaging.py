"""The moving average of the weights, against PyTorch's and by hand."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from octoscope.training.averaging import MovingAverage


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))


def walk(network: nn.Module, steps: int):
    """Yield n, and the network after n random changes, statistics included."""
    for step in range(steps):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter)
        network(torch.randn(4, 1, 8, 8))
        yield step


def test_it_is_the_same_as_pytorchs_with_our_decay() -> None:
    network = model()
    ours = MovingAverage(network, 0.9)

    def average(averaged, current, count):
        decay = min(0.9, (1 + count) / (10 + count))
        return decay * averaged + (1 - decay) * current

    for step in walk(network, 1):
        ours.update(network, step)
    theirs = AveragedModel(ours.model, avg_fn=average, use_buffers=False)
    theirs.n_averaged += 1  # without this it would copy the next weights instead of averaging
    for step in walk(network, 12):
        ours.update(network, step + 1)
        theirs.update_parameters(network)
    for mine, other in zip(ours.model.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_statistics_are_averaged_and_counters_copied() -> None:
    network = model()
    average = MovingAverage(network, 0.5)
    expected = network[1].running_mean.clone()
    for step in walk(network, 3):
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[1].running_mean
    torch.testing.assert_close(average.model[1].running_mean, expected)
    assert average.model[1].num_batches_tracked == network[1].num_batches_tracked == 3


def test_the_average_is_not_trained_and_shares_nothing() -> None:
    network = model()
    average = MovingAverage(network, 0.9)
    assert not average.model.training
    assert not any(p.requires_grad for p in average.model.parameters())
    before = average.model[0].weight.clone()
    list(walk(network, 1))
    assert torch.equal(average.model[0].weight, before)
