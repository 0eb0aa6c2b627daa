"""One store by one process, by two, and by one that was interrupted: the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.files import write_json
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from octoscope.scans.phantom import write_study
from octoscope.study import explain as explain_module
from octoscope.study.explain import explain_run
from octoscope.study.folder import RunFolder
from octoscope.study.ranks import Ranks

METHODS = ["gradcam", "eigencam", "layercam"]
OCTOSCOPE = "import sys; from octoscope.cli import main; sys.exit(main(sys.argv[1:]))"
BATCH = 8


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 44 phantoms, all for validation, with an untrained network; returns its run."""
    folder = tmp_path_factory.mktemp("study")
    table = write_study(
        folder / "phantoms", patients=22, scans_per_patient=2, height=64, width=96, workers=1
    )
    table.frame["split"] = "val"
    framing = Framing(height=64, width=96)
    cache = ScanCache.build(table, framing, folder / "cache", workers=1)
    torch.manual_seed(0)
    options: dict[str, Any] = {"in_channels": 1, "image_size": (64, 96)}
    network = build_network("test_resnet", len(table.classes), **options)
    architecture = {"name": "test_resnet", "options": {}, **options}
    run = folder / "runs" / "test_resnet-seed0"
    preprocess = Preprocess(framing=framing, channels=1, mean=(0.5,), std=(0.25,))
    Classifier(network, table.classes, preprocess, architecture).save(run / "model")
    write_json(
        run / "run.json",
        {"finished": True, "model": "test_resnet", "seed": 0, "cache_digest": cache.digest},
    )
    return run


@pytest.fixture
def run(study: Path, tmp_path: Path) -> RunFolder:
    """The run in a study folder of its own, without maps."""
    for name in ("cache", "phantoms"):
        (tmp_path / name).symlink_to(study.parents[1] / name)
    return RunFolder.open(Path(shutil.copytree(study, tmp_path / "runs" / study.name)))


def explained(run: RunFolder, **options: Any) -> None:
    explain_run(run, run.open_cache(), METHODS, resamples=20, batch_size=BATCH, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".partial"  # left by a process that was killed
    }


@pytest.fixture
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps only."""
    monkeypatch.setattr(explain_module, "_score", lambda *_: "")


@pytest.fixture(scope="module")
def alone(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes without interruption."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("alone")
    for name in ("cache", "phantoms"):
        (folder / name).symlink_to(study.parents[1] / name)
    whole = RunFolder.open(Path(shutil.copytree(study, folder / "runs" / study.name)))
    explained(whole)
    assert MapStore.open(whole.maps).precision == "float16", "by default"
    return content(whole.maps)


def test_two_processes_write_what_one_does(run: RunFolder, alone: dict[str, bytes]) -> None:
    words = ["explain", str(run.path), "--methods", ",".join(METHODS), "--batch-size", str(BATCH)]
    launched = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}  # as torchrun does
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OCTOSCOPE, *words],
            env={**launched, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "process 2 of 2 has written its maps" in said[1][1]
    assert [out.count("maps.zarr") for out, _ in said] == [1, 0], "the first alone goes on"
    assert content(run.maps) == alone
    assert run.scores.exists() and run.localisation.exists()


def test_each_process_writes_its_batches_only(run: RunFolder) -> None:
    explained(run, ranks=Ranks(1, 3))
    rows = MapStore.open(run.maps).written("gradcam").nonzero()[0]
    assert rows.tolist() == [*range(8, 16), *range(32, 40)]
    assert not run.scores.exists(), "scoring waits for all maps"


@pytest.mark.parametrize("writes", [1, 5])
def test_interrupted_and_continued_is_the_same(
    run: RunFolder,
    alone: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    unscored: None,
    writes: int,
) -> None:
    original, left = MapStore.write, iter(range(writes))

    def interrupted(self: MapStore, rows: np.ndarray, *rest: Any) -> None:
        if next(left, None) is None:
            original(self, rows[:3], *(_first(3, part) for part in rest))  # some of the rows
            raise KeyboardInterrupt
        original(self, rows, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MapStore, "write", interrupted)
        explained(run)
    before = content(run.maps)
    assert before.keys() < alone.keys()
    explained(run)
    assert content(run.maps) == alone


def _first(count: int, part: Any) -> Any:
    """Take the first rows of an argument of `MapStore.write`."""
    if isinstance(part, Mapping):
        return {name: _first(count, value) for name, value in part.items()}
    return part[:count] if isinstance(part, torch.Tensor) else part


def test_what_is_there_is_not_made_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, unscored: None, alone: dict[str, bytes]
) -> None:
    asked: list[tuple[int, list[str]]] = []
    original = explain_module.explain

    def watched(model: Any, images: Any, methods: Any) -> Any:
        asked.append((len(images), list(methods)))
        return original(model, images, methods)

    monkeypatch.setattr(explain_module, "explain", watched)
    cache = run.open_cache()
    explain_run(run, cache, ["gradcam"], resamples=20, batch_size=BATCH)
    assert asked == [(8, ["gradcam"])] * 5 + [(4, ["gradcam"])]
    asked.clear()
    explained(run)
    assert asked == [(8, ["eigencam", "layercam"])] * 5 + [(4, ["eigencam", "layercam"])]
    asked.clear()
    explained(run)
    assert not asked
    assert content(run.maps) == alone, "methods added later are as if all had been asked for"


def test_precision_of_a_store_is_kept_and_checked(run: RunFolder, unscored: None) -> None:
    explained(run, precision="uint8")
    assert MapStore.open(run.maps).precision == "uint8"
    explained(run)
    with pytest.raises(OctoscopeError, match=r"made otherwise \(precision differ\)"):
        explained(run, precision="float32")
    with pytest.raises(OctoscopeError, match="batch_size: 0"):
        explain_run(run, run.open_cache(), METHODS, batch_size=0)


def test_the_first_process_waits_for_a_dead_one_only_so_long(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain_module, "PATIENCE", 0.2)
    original = Ranks.wait
    monkeypatch.setattr(Ranks, "wait", lambda *a, **k: original(*a, **{**k, "pause": 0.01}))
    monkeypatch.setattr(explain_module.time, "perf_counter", lambda: 0.0)
    with pytest.raises(OctoscopeError, match="20 scans are lacking") as fault:
        explained(run, ranks=Ranks(0, 2))
    assert "run the same command again and it goes on" in str(fault.value)
    explained(run, ranks=Ranks(1, 2))  # as it says: it goes on
    monkeypatch.setattr(explain_module, "_score", lambda *_: "scored")
    cache = run.open_cache()
    assert explain_run(run, cache, METHODS, batch_size=BATCH, ranks=Ranks(0, 2)) == "scored"


def test_waiting_goes_on_while_something_is_written() -> None:
    counts = iter([5, 5, 4, 4, 3, 2, 1, 0])
    Ranks(0, 2).wait(lambda: next(counts), "scans", patience=5, pause=0.01)
    assert next(counts, None) is None
    with pytest.raises(OctoscopeError, match="3 scans are lacking"):
        Ranks(0, 2).wait(lambda: 3, "scans", patience=0.05, pause=0.01)
    Ranks(0, 1).wait(lambda: 3, "scans", patience=0.05, pause=0.01)  # nobody to wait for


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2, 0)),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, (0, 1, 0)),  # as Lightning leaves after training
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, (0, 1, 0)),  # no srun
        (
            {
                "SLURM_NTASKS": "8",
                "SLURM_PROCID": "5",
                "SLURM_LOCALID": "1",
                "SLURM_STEP_NUM_TASKS": "8",
            },
            (5, 8, 1),
        ),
        (
            {
                "RANK": "1",
                "WORLD_SIZE": "2",
                "SLURM_PROCID": "0",
                "SLURM_STEP_NUM_TASKS": "1",
            },
            (1, 2, 0),
        ),
    ],
)
def test_what_launchers_set(environment: dict[str, str], expected: tuple[int, int, int]) -> None:
    assert Ranks.of(environment) == Ranks(*expected)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is no process among WORLD_SIZE=2"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK=-1 is no process"),
        ({"RANK": "zero", "WORLD_SIZE": "2"}, 'RANK="zero" is no number'),
    ],
)
def test_launchers_that_contradict_themselves(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        Ranks.of(environment)


def test_shares_are_all_the_pieces_once() -> None:
    shares = [list(Ranks(rank, 3).share(range(11))) for rank in range(3)]
    assert sorted(piece for share in shares for piece in share) == list(range(11))
    assert shares[1] == [1, 4, 7, 10]


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks(0, 1).device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = [Ranks(rank, 4, local).device() for rank, local in enumerate((0, 1, 2, 3))]
    assert devices == [torch.device("cuda", index) for index in (0, 1, 0, 1)]
