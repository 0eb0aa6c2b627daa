"""All metrics of faithfulness in one call."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.faithfulness import scores
from octoscope.trust.faithfulness.curves import area, curves, mean_kept
from octoscope.trust.faithfulness.infidelity import infidelity
from octoscope.trust.faithfulness.road import mean_height, road
from octoscope.trust.faithfulness.scores import METRICS, ROWS, faithfulness
from trust.faithfulness.known import Linear, Small


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = drawn(5, 1, 12, 14)
MAPS = {"a": drawn(5, 12, 14, seed=1), "b": drawn(5, 12, 14, seed=2).relu()}
TARGETS = torch.tensor([0, 1, 2, 1, 0])


def test_every_row_has_a_definition_and_two_are_headlines() -> None:
    assert list(scores.MADE_OF) == list(METRICS) == [row.name for row in ROWS]
    assert all(row.family == "faithfulness" and row.source and row.sentence for row in ROWS)
    assert [row.name for row in ROWS if row.headline] == ["insertion_minus_deletion", "road"]


def test_values_are_those_of_the_parts() -> None:
    model = Small()
    found = faithfulness(model, IMAGES, MAPS, TARGETS)
    kinds = ("deletion", "insertion", "positive", "negative")
    part = curves(model, IMAGES, MAPS, TARGETS, kinds=kinds, steps=10)
    imputed = road(model, IMAGES, MAPS, TARGETS)
    error = infidelity(model, IMAGES, MAPS, TARGETS)
    assert list(found.values) == list(METRICS)
    for method in MAPS:
        deletion, insertion = (
            area(part.values[kind][method], part.fractions) for kind in ("deletion", "insertion")
        )
        morf, lerf = (mean_height(imputed.values[kind][method]) for kind in ("morf", "lerf"))
        expected = {
            "deletion": deletion,
            "insertion": insertion,
            "insertion_minus_deletion": insertion - deletion,
            "positive_perturbation": mean_kept(part.kept["positive"][method], part.fractions),
            "negative_perturbation": mean_kept(part.kept["negative"][method], part.fractions),
            "road_morf": morf,
            "road_lerf": lerf,
            "road": lerf - morf,
            "infidelity": error[method],
        }
        for metric, value in expected.items():
            got = found.values[metric][method]
            assert got.shape == (5,) and got.dtype == torch.float64
            torch.testing.assert_close(got, value, equal_nan=True)
    assert set(found.curves) == {*kinds, "morf", "lerf"}
    for kind, curve in found.curves.items():
        assert curve.values[kind]["a"].shape == (5, len(curve.fractions))


def test_blocks_of_scans_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.zeros(5, 12, 14, dtype=torch.bool)
    mask[:, 3:8] = True
    rows = (torch.full((5, 14), 3.0), torch.full((5, 14), 8.0))

    def values(retina: Tensor | tuple[Tensor, Tensor]) -> dict[str, dict[str, Tensor]]:
        return faithfulness(Small(), IMAGES, MAPS, TARGETS, baseline="retina", retina=retina).values

    whole = values(mask)
    monkeypatch.setattr(scores, "BLOCK", 2)
    for retina in (mask, rows):
        cut = values(retina)
        for metric in METRICS:
            for method in MAPS:
                torch.testing.assert_close(
                    cut[metric][method], whole[metric][method], atol=1e-4, rtol=0, equal_nan=True
                )


@pytest.mark.parametrize("steps", [7, 20])
def test_perturbation_is_read_off_the_curves_only_where_tenths_are_among_their_points(
    steps: int,
) -> None:
    model = Linear(drawn(1, 12, 14, seed=4))
    metrics = ("deletion", "insertion", "positive_perturbation", "negative_perturbation")
    targets = TARGETS % 2
    found = faithfulness(model, IMAGES, MAPS, targets, metrics=metrics, steps=steps)
    scans, pairs = 5, 10
    first = 2 * scans + pairs * 2 * (steps - 1)
    second = 0 if steps == 20 else 2 * scans + pairs * 2 * 9
    assert sum(model.seen) == 1 + first + second
    points = len(found.curves["positive"].fractions)
    assert points == (21 if steps == 20 else 11)


def test_only_what_is_asked_for_is_run() -> None:
    model = Linear(drawn(1, 12, 14, seed=4))
    found = faithfulness(model, IMAGES, MAPS, TARGETS % 2, metrics=("deletion",), steps=4)
    assert list(found.values) == ["deletion"] and list(found.curves) == ["deletion"]
    assert sum(model.seen) == 1 + 2 * 5 + 10 * 3
    found = faithfulness(model, IMAGES, MAPS, TARGETS % 2, metrics=("infidelity",))
    assert list(found.values) == ["infidelity"] and found.curves == {}


def test_perfect_inverted_and_empty_maps() -> None:
    weight = torch.zeros(1, 14, 14)
    weight[0, 4:8, 5:9] = 0.5
    images = 0.05 * drawn(3, 1, 14, 14) + 2 * weight
    right = weight.expand(3, 14, 14) + 0.001 * drawn(3, 14, 14, seed=3)
    maps = {"right": right, "wrong": -right, "constant": torch.ones(3, 14, 14)}
    model = Linear(weight)
    found = faithfulness(model, images, maps, torch.zeros(3, dtype=torch.int64), baseline=-0.1)
    for row in ROWS:
        values = {name: found.values[row.name][name] for name in maps}
        assert values["constant"].isnan().all(), row.name
        better = values["right"] - values["wrong"]
        assert ((better if row.higher_is_better else -better) > 0.3).all(), row.name
        low = -1 if row.range.startswith("−") else 0
        for name in ("right", "wrong"):
            assert ((values[name] >= low) & (values[name] <= 1)).all(), row.name


def test_a_scan_that_is_not_predicted_as_the_class_counts_in_no_accuracy() -> None:
    model = Small()
    with torch.no_grad():
        predicted = model.eval()(IMAGES).argmax(1)
    found = faithfulness(model, IMAGES, MAPS, TARGETS, metrics=("positive_perturbation",))
    undefined = found.values["positive_perturbation"]["a"].isnan()
    assert torch.equal(undefined, predicted != TARGETS)
    assert bool(undefined.any()) and not bool(undefined.all())


def test_a_volume_is_measured_like_an_image() -> None:
    images, maps = drawn(2, 1, 4, 8, 6), {"m": drawn(2, 4, 8, 6, seed=1)}
    found = faithfulness(Linear(drawn(1, 4, 8, 6, seed=2)), images, maps, torch.tensor([0, 1]))
    assert all(found.values[metric]["m"].shape == (2,) for metric in METRICS)
    assert bool(found.values["road"]["m"].isfinite().all())


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(OctoscopeError, match='did you mean "insertion"'):
        faithfulness(Small(), IMAGES, MAPS, TARGETS, metrics=("insertio",))


ORDER = """
import json, torch
from octoscope.trust.faithfulness.scores import METRICS, faithfulness
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3))
images, maps = torch.rand(2, 1, 16, 16), {"b": torch.rand(2, 16, 16), "a": torch.rand(2, 16, 16)}
found = faithfulness(model, images, maps, torch.tensor([0, 1]), metrics=METRICS[::-1])
curves = {kind: {m: v.tolist() for m, v in one.values[kind].items()}
          for kind, one in found.curves.items()}
print(json.dumps([curves, {m: {k: v.tolist() for k, v in by.items()}
                           for m, by in found.values.items()}]))
"""


def test_two_processes_give_the_same_bytes() -> None:
    """The order of a set of texts hangs on the hash seed of the process."""
    commands = [[sys.executable, "-c", ORDER]] * 2
    running = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": str(seed)}
        )
        for seed, command in enumerate(commands, 1)
    ]
    one, other = (process.communicate(timeout=120)[0] for process in running)
    assert one and one == other
    kinds = ["deletion", "insertion", "positive", "negative", "morf", "lerf"]
    assert list(json.loads(one)[0]) == kinds
