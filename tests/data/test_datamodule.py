from __future__ import annotations

import warnings

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from octoscope.data.augment import Augment
from octoscope.data.cache import ScanCache
from octoscope.data.datamodule import ScanData
from octoscope.errors import OctoscopeError
from octoscope.scans.framing import Framing
from octoscope.scans.table import ScanTable


def cache(labels: str = "AAAAAABBBBCC" * 3, splits: str | None = None) -> ScanCache:
    """A cache in memory, one row per letter; '-' is unlabelled; splits by first letter."""
    names = {"t": "train", "v": "val", "e": "test", "-": None}
    splits = splits or ("t" * (len(labels) - 10) + "v" * 7 + "e" * 3)
    frame = pd.DataFrame(
        {
            "path": [f"{row}.png" for row in range(len(labels))],
            "label": [None if letter == "-" else letter for letter in labels],
            "patient": [str(row // 2) for row in range(len(labels))],
            "split": [names[letter] for letter in splits],
        }
    )
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 12), dtype=np.uint8)
    from pathlib import Path

    table = ScanTable.from_frame(frame, Path("scans"), classes="ABC")
    return ScanCache(images, None, table, Framing(8, 12))


def rows_of(loader) -> list[int]:
    return torch.cat([batch["index"] for batch in loader]).tolist()


def test_loaders_hold_their_split():
    data = ScanData(cache(), batch_size=5)
    train = rows_of(data.train_dataloader())
    assert sorted(set(train)) == sorted(train)
    assert set(train) <= set(range(26))
    assert len(train) == 25  # 26 scans in batches of 5: the last scan is left out
    assert rows_of(data.val_dataloader()) == list(range(26, 33))
    assert data.classes == ("A", "B", "C")


def test_only_training_batches_are_augmented():
    augment = Augment(flip=1.0, affine=0.0, intensity=0.0, noise=0.0)
    data = ScanData(cache(), augment=augment)
    for loader, mirrored in ((data.train_dataloader(), True), (data.val_dataloader(), False)):
        batch = next(iter(loader))
        expected = torch.from_numpy(data.cache.images[batch["index"].numpy()]).float()[:, None]
        expected = expected.flip(-1) if mirrored else expected
        torch.testing.assert_close(batch["image"] * 255, expected, atol=1e-3, rtol=0)


def test_the_test_split_is_opened_on_purpose_only():
    with pytest.raises(OctoscopeError, match="on purpose"):
        ScanData(cache()).test_dataloader()
    assert rows_of(ScanData(cache(), open_test=True).test_dataloader()) == [33, 34, 35]


def test_rows_without_label_or_split_are_in_no_batch():
    data = ScanData(cache("AB-ABC-C", "ttttvvv-"), batch_size=2)
    data.train_dataloader()
    assert sorted(data.rows("train")) == [0, 1, 3]
    assert rows_of(data.val_dataloader()) == [4, 5]


@pytest.mark.parametrize(
    ("labels", "splits", "why"),
    [
        ("AABB", "ttte", "no readable scan is in it"),
        ("AAB-", "tttv", "no readable scan in it has a label"),
    ],
)
def test_an_empty_split_is_said(labels, splits, why):
    with pytest.raises(OctoscopeError, match=f'"val".*{why}'):
        ScanData(cache(labels, splits)).val_dataloader()


def test_one_training_scan_is_too_few():
    with pytest.raises(OctoscopeError, match="only one scan"):
        ScanData(cache("AAB", "tvv")).train_dataloader()


def test_class_weights_are_those_of_the_training_scans():
    data = ScanData(cache(), balance="loss")
    targets = data.targets[:26]
    np.testing.assert_allclose(
        data.class_weights, compute_class_weight("balanced", classes=np.arange(3), y=targets)
    )
    assert data.class_weights.dtype == torch.float32


def test_the_sampler_shows_classes_equally_often():
    data = ScanData(cache("A" * 300 + "B" * 60 + "C" * 30 + "ABC", "t" * 390 + "vvv"))
    for balance, low, high in (("sampler", 0.30, 0.37), ("none", 0.07, 0.08), ("loss", 0.07, 0.08)):
        data.balance = balance
        loader = data.train_dataloader()
        seen = []
        for epoch in range(10):
            loader.set_epoch(epoch)
            seen += [target for batch in loader for target in batch["target"].tolist()]
        assert len(seen) == 3900
        # 5 standard deviations of the share of C are 0.038 under the sampler.
        assert low < seen.count(2) / len(seen) < high


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"balance": "samplr"}, 'did you mean "sampler"'),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_out_of_range_are_said(options, words):
    with pytest.raises(OctoscopeError, match=words):
        ScanData(cache(), **options)


def test_processes_that_train_together_share_the_rows(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    seen = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        seen.append(rows_of(ScanData(cache(), batch_size=4).train_dataloader()))
    assert len(seen[0]) == len(seen[1])
    assert not set(seen[0]) & set(seen[1])


class Recorder(pl.LightningModule):
    """A model of one weight that writes down what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.shown: list[tuple[str, int, list[int], float]] = []

    def _see(self, stage: str, batch) -> None:
        self.shown.append(
            (stage, self.current_epoch, batch["index"].tolist(), batch["image"].sum().item())
        )

    def training_step(self, batch, _):
        self._see("train", batch)
        return self.weight * batch["image"].mean()

    def validation_step(self, batch, _):
        self._see("val", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(epochs: int, folder, resume=None) -> list[tuple[str, int, list[int], float]]:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    model = Recorder()
    data = ScanData(cache(), batch_size=4, augment=Augment(), balance="sampler", seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return model.shown


def test_the_trainer_announces_epochs_and_a_resumed_run_sees_the_same_batches(tmp_path):
    unbroken = fit(4, tmp_path)
    training = [[batch for stage, e, *batch in unbroken if stage == "train" and e == epoch] for
                epoch in range(4)]  # fmt: skip
    assert all(len(epoch) == 7 for epoch in training)
    assert len({str(epoch) for epoch in training}) == 4  # every epoch differs
    validation = [batch[0] for stage, _, *batch in unbroken if stage == "val"]
    assert validation == [[26, 27, 28, 29], [30, 31, 32]] * 4

    first = fit(2, tmp_path)
    rest = fit(4, tmp_path, resume=tmp_path / "2.ckpt")
    assert first + rest == unbroken
