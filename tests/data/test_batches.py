from __future__ import annotations

import numpy as np
import pytest
import torch

from octoscope.data.augment import Augment
from octoscope.data.batches import Batch, Batches


def batches(count: int = 25, **options: object) -> Batches:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 10, 14), dtype=np.uint8)
    options = {"batch_size": 4, **options}
    return Batches(images, np.arange(40) % 3, np.arange(5, 5 + count), **options)


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a
    )


def test_a_batch_is_the_rows_of_the_cache():
    loader = batches()
    seen = list(loader)
    assert len(seen) == len(loader) == 7
    for batch in seen:
        index = batch["index"].numpy()
        assert batch["image"].dtype == torch.float32
        assert batch["target"].dtype == batch["index"].dtype == torch.int64
        expected = loader.images[index][:, None].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(batch["image"].numpy(), expected)
        np.testing.assert_array_equal(batch["target"].numpy(), index % 3)
    assert torch.cat([batch["index"] for batch in seen]).tolist() == list(range(5, 30))
    assert len(seen[-1]["index"]) == 1  # kept: nothing is left out of a validation


def test_shuffling_leaves_out_a_last_batch_of_one():
    loader = batches(shuffle=True)
    seen = list(loader)
    assert len(seen) == len(loader) == 6
    assert len(torch.cat([batch["index"] for batch in seen]).unique()) == 24
    assert [len(batch["index"]) for batch in batches(26, shuffle=True)] == [4] * 6 + [2]


def test_what_an_epoch_holds_depends_on_seed_and_epoch_only():
    options = {"shuffle": True, "augment": Augment(), "seed": 3}
    unbroken = batches(**options)
    epochs = []
    for epoch in range(4):
        unbroken.set_epoch(epoch)
        epochs.append(list(unbroken))
    assert not same(epochs[0], epochs[1])
    for epoch in (2, 3, 0):  # in any order, with or without the others before
        resumed = batches(**options)
        resumed.set_epoch(epoch)
        assert same(list(resumed), epochs[epoch])
        assert same(list(resumed), epochs[epoch])
    other = batches(**{**options, "seed": 4})
    assert not same(list(other), epochs[0])


def test_augmentation_does_not_depend_on_what_was_read_before():
    options = {"shuffle": True, "augment": Augment()}
    skipping = iter(batches(**options))
    next(skipping)
    torch.rand(7)
    np.random.default_rng().random(7)
    assert same([next(skipping)], list(batches(**options))[1:2])


def test_global_random_states_are_neither_used_nor_moved():
    before = torch.get_rng_state()
    list(batches(shuffle=True, augment=Augment()))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_announced_during_a_pass_is_that_of_the_next():
    loader = batches(shuffle=True, augment=Augment())
    expected = list(loader)
    seen = []
    for batch in loader:
        loader.set_epoch(1)
        seen.append(batch)
    assert same(seen, expected)


@pytest.mark.parametrize("shuffle", [False, True])
def test_processes_share_the_rows(shuffle):
    loaders = [batches(24, shuffle=shuffle, rank=rank, world=3, batch_size=4) for rank in range(3)]
    seen = [torch.cat([batch["index"] for batch in loader]) for loader in loaders]
    assert [len(loader) for loader in loaders] == [2, 2, 2]
    assert sorted(torch.cat(seen).tolist()) == list(range(5, 29))


def test_processes_augment_differently():
    images = np.full((2, 10, 14), 128, np.uint8)
    options = {"batch_size": 1, "augment": Augment(noise=1.0, noise_sd=(0.1, 0.1))}
    first, second = (
        next(iter(Batches(images, np.zeros(2), np.arange(2), rank=rank, world=2, **options)))
        for rank in range(2)
    )
    assert not torch.equal(first["image"], second["image"])


def test_batches_own_their_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 3, 3), 51, np.uint8))
    images = np.load(tmp_path / "a.npy", mmap_mode="r")
    for batch in Batches(images, np.zeros(4), np.arange(4), batch_size=2):
        batch["image"].zero_()
    assert (images == 51).all()
