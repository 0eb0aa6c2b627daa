"""Examining runs: what a user may ask for, what is measured again and what is not."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.files import read_json, write_json
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from octoscope.scans.phantom import write_study
from octoscope.study import trust as trust_module
from octoscope.study.config import TrustSettings
from octoscope.study.explain import explain_run
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.trust import NULLS, trust_runs
from octoscope.study.trust_costs import too_slow
from octoscope.trust.scores import read_scores

QUICK = TrustSettings(
    scans=8, steps=2, sanity_scans=5, stages=2, stability_scans=5, draws=1, probes=False
)
SIZE = (32, 48)


def save_run(study: Path, cache: ScanCache, seed: int) -> None:
    """Save an untrained network as a finished run."""
    options: dict[str, Any] = {"in_channels": 1, "image_size": SIZE}
    network = build_network("test_resnet", len(cache.table.classes), **options)
    with torch.no_grad():  # heads begin near zero; the seeds differ by little
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
            parameter.mul_(1 + 0.001 * seed)
    preprocess = Preprocess(Framing(height=32, width=48), channels=1, mean=(0.5,), std=(0.25,))
    architecture = {"name": "test_resnet", "options": {}, **options}
    run = study / "runs" / f"test_resnet-seed{seed}"
    Classifier(network, cache.table.classes, preprocess, architecture).save(run / "model")
    about = {"finished": True, "model": "test_resnet", "seed": seed, "cache_digest": cache.digest}
    write_json(run / "run.json", about)


def make_study(folder: Path, *, patients: int = 8, masks: bool = True, classes: int = 4) -> Path:
    """Make a study of phantoms, some patients of which are for validation, with two seeds."""
    table = write_study(
        folder / "phantoms", patients=12, scans_per_patient=2, height=64, width=96, workers=1
    )
    frame = table.frame
    names = sorted(set(frame["patient"]))  # in turn of every class
    frame["split"] = np.where(frame["patient"].isin(names[:patients]), "val", "train")
    if not masks:
        frame["mask"] = None
    if classes == 2:
        frame["label"] = ["NORMAL" if label == "NORMAL" else "ILL" for label in frame["label"]]
        table = replace(table, frame=frame, classes=("ILL", "NORMAL"))
    cache = ScanCache.build(table, Framing(height=32, width=48), folder / "cache", workers=1)
    for seed in (0, 1):
        save_run(folder, cache, seed)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def examined(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study with both runs explained by more methods than are examined."""
    folder = tmp_path_factory.mktemp("examined") / "study"
    shutil.copytree(made, folder)
    for run in runs_of(folder):
        explain_run(run, run.open_cache(), ["eigencam", "gradcam", "layercam", *NULLS])
    examine(folder, ["gradcam", "layercam"])
    return folder


def runs_of(study: Path) -> list[RunFolder]:
    return [RunFolder.open(path) for path in sorted((study / "runs").iterdir())]


def examine(
    study: Path, methods: Sequence[str], *, runs: Sequence[RunFolder] = (), **options: Any
) -> dict[str, Any]:
    """Examine all runs, or some; return the card of the first."""
    chosen = list(runs) or runs_of(study)
    options = {"settings": QUICK, "resamples": 50, **options}
    trust_runs(chosen, chosen[0].open_cache(), methods, **options)
    card: dict[str, Any] = read_json(chosen[0].trust)
    return card


@pytest.fixture
def study(examined: Path, tmp_path: Path) -> Path:
    """A copy of the examined study."""
    return Path(shutil.copytree(examined, tmp_path / "study"))


def card_of(study: Path) -> dict[str, Any]:
    card: dict[str, Any] = read_json(runs_of(study)[0].trust)
    return card


def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of every part that is measured is added."""
    done: list[str] = []
    for name, task in trust_module.TASKS.items():

        def measure(examined: Any, name: str = name, task: Any = task) -> Any:
            done.append(name)
            return task.measure(examined)

        changed = type(task)(measure, task.uses, task.builds_on, task.scored, task.wanted)
        monkeypatch.setitem(trust_module.TASKS, name, changed)
    return done


def test_only_methods_asked_for_are_on_the_card(examined: Path) -> None:
    card = card_of(examined)
    wanted = {"gradcam", "layercam", *NULLS}
    assert set(read_scores(runs_of(examined)[0].scores)["method"]) == wanted | {"eigencam"}
    assert {row["method"] for row in card["scoreboard"]} == wanted
    assert {row["method"] for row in card["ranking"]} == wanted
    assert any(row["metric"] == "pixel_ap" for row in card["scoreboard"])


def test_the_card_says_what_rests_on_which_scans(examined: Path) -> None:
    first, second = card_of(examined)["notes"]
    assert first.startswith("Of 16 validation scans, faithfulness, agreement and consensus rest")
    counts = read_json(runs_of(examined)[0].localisation)
    assert f"{counts['scored']} scans with lesions that the model tells right" in second
    assert f"{counts['left_out_as_wrong']} that it tells wrong" in second


def test_without_probes_there_is_no_clean_bill(examined: Path) -> None:
    verdict = card_of(examined)["verdict"]
    assert verdict["level"] != "no objection found"
    assert "no shortcut probe was run" in verdict["headline"]


def test_seeds_of_one_model_are_named(examined: Path) -> None:
    found = read_json(StudyFolder(examined).trust)
    seeds = found["seeds"]["test_resnet"]
    assert set(seeds["methods"]) == {"gradcam", "layercam"}
    assert seeds["sentence"].startswith("Seed agreement of test_resnet (2 seeds")
    assert seeds["sentence"] in found["sentences"]
    assert card_of(examined)["seeds"] == seeds
    values = seeds["methods"]["gradcam"]["seed_agreement"]
    if seeds["scans"]:
        pair = found["agreement"]["methods"]["gradcam"]["pairs"][0]
        assert values["value"] == pytest.approx(pair["spearman"])  # of two seeds it is the same


def test_the_weights_can_be_given_to_explain(examined: Path) -> None:
    found = card_of(examined)["consensus"]
    classifier = Classifier.load(runs_of(examined)[0].model)
    images = torch.rand(2, 1, *SIZE, generator=torch.manual_seed(0))
    maps = explain(classifier, images, found["methods"], options=found["options"])
    assert set(found["methods"]) == {"gradcam", "layercam", "consensus"}
    assert maps["consensus"].shape == (2, *SIZE)


def test_nothing_is_measured_twice_and_one_run_keeps_what_was_found_of_both(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = measured(monkeypatch)
    before = read_json(StudyFolder(study).trust)
    card = card_of(study)
    one = runs_of(study)[0]
    assert examine(study, ["gradcam", "layercam"], runs=[one, one]) == card
    assert done == []
    assert read_json(StudyFolder(study).trust) == before


def test_what_builds_on_scores_is_measured_again_when_they_change(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = measured(monkeypatch)
    one = runs_of(study)[0]
    one.trust_part("faithfulness.parquet").unlink()  # a part is whole with its scores only
    examine(study, ["gradcam", "layercam"], runs=[one])
    assert done == ["faithfulness"]  # the same scores again: nothing else
    examine(study, ["gradcam", "layercam"], runs=[one], settings=TrustSettings(
        **{**vars(QUICK), "scans": 9}))  # fmt: skip
    assert done[1:] == ["faithfulness", "agreement", "clusters", "consensus"]


def test_one_method_alone(study: Path) -> None:
    card = examine(study, ["gradcam"])
    assert card["consensus"] is None
    assert card["agreement"] is not None
    assert [row["method"] for row in card["ranking"] if not row["null"]] == ["gradcam"]


def test_maps_that_know_no_model_alone(study: Path) -> None:
    card = examine(study, "null")
    assert card["consensus"] is None and card["clusters"] is None
    assert card["verdict"]["believe"] is None


def test_a_consensus_of_other_methods_is_made_anew(study: Path) -> None:
    one = runs_of(study)[0]
    explain_run(one, one.open_cache(), ["eigencam", "gradcam", "layercam", "consensus", *NULLS])
    names = ["gradcam", "layercam", "consensus"]
    assert not trust_module._explained(one, one.open_cache(), [*names, *NULLS])
    card = examine(study, names, runs=[one])
    assert trust_module._explained(one, one.open_cache(), [*names, *NULLS])
    assert "consensus" in {row["method"] for row in card["ranking"]}


def test_slow_methods_are_left_out_of_what_is_made_again_and_that_is_said(study: Path) -> None:
    one = runs_of(study)[0]
    names = ["gradcam", "occlusion", "consensus"]
    card = examine(study, names, runs=[one])
    checked = {r["method"] for r in card["scoreboard"] if r["metric"] == "randomisation_spearman"}
    assert checked == {"gradcam", *NULLS}
    assert {"occlusion", "consensus"} <= {
        row["method"] for row in card["scoreboard"] if row["metric"] == "road"
    }
    notes = card["methods"]["occlusion"]["notes"]
    assert len(notes) == 2 and all("passes, more than 64" in note for note in notes)
    assert "it combines Occlusion" in card["methods"]["consensus"]["notes"][0]
    assert any(note.startswith("Occlusion, Consensus: not put") for note in card["notes"])


def test_costs_are_of_a_method_alone() -> None:
    model = build_network("test_resnet", 2, image_size=SIZE, in_channels=1)
    image = torch.zeros(1, 1, *SIZE)
    assert too_slow(model, image, ["gradcam", "rise"], 64) == {
        "rise": "a map takes 4001 passes, more than 64"
    }
    assert too_slow(model, image, ["gradcam", "layercam", "consensus"], 64) == {}
    assert too_slow(model, image, ["rise"], float("inf")) == {}


@pytest.mark.parametrize("patients", [1, 2, 4])
def test_few_patients_without_masks_get_no_verdict_but_a_card(
    tmp_path: Path, patients: int
) -> None:
    """Neither masks; two classes, or one where there is one patient."""
    study = make_study(tmp_path / "study", patients=patients, masks=False, classes=2)
    card = examine(study, ["gradcam", "layercam"])
    assert card["patients"] == patients
    assert (card["consensus"] is None) == (patients == 1)
    assert not any(row["metric"] == "pixel_ap" for row in card["scoreboard"])
    assert card["verdict"]["believe"] is None
    text = " ".join([card["verdict"]["headline"], *card["verdict"]["sentences"]])
    assert "too few patients" in text and "nan" not in text
    assert "too few to tell" in card["methods"]["gradcam"]["notes"][-1]


def test_runs_of_two_studies_or_of_other_scans_are_refused(study: Path, made: Path) -> None:
    with pytest.raises(OctoscopeError, match="several studies"):
        examine(study, ["gradcam"], runs=[runs_of(study)[0], runs_of(made)[0]])
    second = runs_of(study)[1]
    write_json(second.path / "run.json", {**second.info, "cache_digest": "other"})
    with pytest.raises(OctoscopeError, match="seed1: was trained on other scans"):
        examine(study, ["gradcam"])


def test_maps_of_another_model_are_not_taken_for_its_own(study: Path) -> None:
    one, other = runs_of(study)
    shutil.rmtree(one.model)
    shutil.copytree(other.model, one.model)
    with pytest.raises(OctoscopeError, match="holds maps made otherwise"):
        examine(study, ["gradcam", "layercam"], runs=[one])


def test_a_cache_that_is_gone_is_said(study: Path) -> None:
    shutil.rmtree(study / "cache")
    with pytest.raises(OctoscopeError, match="cache"):
        runs_of(study)[0].open_cache()


def test_every_null_is_among_the_methods() -> None:
    assert all(METHODS[name].family == "null" for name in NULLS) and len(NULLS) == 4
