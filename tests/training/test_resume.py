"""A run that was killed goes on and ends in the same bits as one that was not."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from octoscope.training.checkpoints import load_checkpoint
from training.runs import KILLS

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS), "OCTOSCOPE_QUIET": "1"}


def everything(run: Path) -> dict[str, object]:
    """Return what two equal runs have in common: all but the times."""
    last = load_checkpoint(run / "checkpoints/last.ckpt")
    optimiser = last["optimizer_states"][0]["state"]
    with (run / "log.csv").open() as file:
        rows = [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(file)]
    record = json.loads((run / "run.json").read_text())
    record.pop("seconds")
    record.pop("log_sha256")  # of log.csv with its times
    return {
        "model": load_file(run / "model/model.safetensors"),
        "last": last["state_dict"],
        "best": load_checkpoint(run / "checkpoints/best.ckpt")["state_dict"],
        "optimiser": {f"{i} {key}": v for i, s in optimiser.items() for key, v in s.items()},
        "log": rows,
        "record": record,
    }


def assert_same(one: dict, other: dict) -> None:
    for part, value in one.items():
        if part in ("log", "record"):
            assert other[part] == value
            continue
        assert other[part].keys() == value.keys(), part
        for key in value:
            assert torch.equal(value[key], other[part][key]), (part, key)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every run of runs.py has ended."""
    root = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, TESTS / "training/runs.py", root],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("place", KILLS)
def test_killed_and_called_again(runs: Path, place: str) -> None:
    ends = json.loads((runs / "ends.json").read_text())
    assert ends[place] == [-signal.SIGKILL, 0], "it was to be killed, or this tests nothing"
    assert_same(everything(runs / "unbroken"), everything(runs / place))


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_killed_twice_with_another_optimiser(runs: Path, optimizer: str) -> None:
    ends = json.loads((runs / "ends.json").read_text())
    assert ends[optimizer] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert_same(everything(runs / f"{optimizer} unbroken"), everything(runs / optimizer))


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from training.toy import stripes
from octoscope.training.supervised import Recipe, train

# A shell hands its background jobs an ignored Ctrl-C, and with it all their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
train(stripes(), Recipe(model="test_resnet", epochs=5000), Path(sys.argv[1]))
"""


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    """Ctrl-C says how to go on, ends as Python ends on Ctrl-C, and keeps what was finished."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, tmp_path / "run"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run/log.csv").exists():
            assert process.poll() is None and time.monotonic() < deadline, "it never began"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # a failed test leaves nothing running
    assert process.returncode == -signal.SIGINT
    assert "the same command goes on from there" in errors.replace("\n", " ")
    assert "KeyboardInterrupt" in errors.splitlines()[-1]
    assert load_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["epoch"] >= 0
    assert json.loads((tmp_path / "run/run.json").read_text())["finished"] is False
