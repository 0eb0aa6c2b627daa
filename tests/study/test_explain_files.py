"""Explaining scan files: what is drawn, with which lesions, and what is said when it cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from octoscope.study.drawing import FIGURES, Wish
from octoscope.study.explain_files import explain_files
from octoscope.study.explained import Explained, Model, likely
from octoscope.study.folder import RunFolder
from octoscope.study.lesion_masks import LesionMasks

CLASSES = ("CNV", "DME", "NORMAL")


def save_run(
    study: Path, model: str, classes: Sequence[str] = CLASSES, side: int = 64
) -> RunFolder:
    """Save an untrained network as a finished run of a study."""
    network = build_network(model, len(classes), image_size=(side, side), seed=3)
    with torch.no_grad():
        for parameter in network.parameters():  # heads begin near zero, and logits with them
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    described = {"name": model, "in_channels": 1, "image_size": [side, side], "options": {}}
    preprocess = Preprocess(Framing(height=side, width=side), 1, (0.2,), (0.2,))
    folder = study / "runs" / f"{model}-seed0"
    Classifier(network, classes, preprocess, described).save(folder / "model")
    about = {"finished": True, "model": model, "seed": 0}
    (folder / "run.json").write_text(json.dumps(about))
    return RunFolder.open(folder)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return save_run(tmp_path_factory.mktemp("a") / "study", "test_resnet")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return save_run(tmp_path_factory.mktemp("b") / "study", "test_vit", side=96)


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """Two noise scans with masks beside them, in folders of their own, of one name."""
    rng = np.random.default_rng(0)
    paths = []
    for label in ("CNV", "DME"):
        path = tmp_path / "data" / "images" / label / "scan-1.png"
        mask = tmp_path / "data" / "masks" / label / "scan-1.png"
        for file, highest in ((path, 255), (mask, 1)):
            file.parent.mkdir(parents=True)
            pixels = rng.integers(0, highest, (48, 64), dtype=np.uint8)
            if file is mask:
                pixels[10:20, 30:40] = 2
            Image.fromarray(pixels).save(file)
        paths.append(path)
    (tmp_path / "data" / "lesions.json").write_text('{"0": "background", "2": "drusen"}')
    return paths


def wish(out: Path, **options: object) -> Wish:
    """Two quick methods and one panel, but for what is asked for otherwise."""
    asked = {"methods": ["gradcam", "hirescam"], "figures": ["panel"], "target": None, **options}
    return Wish(out=out, **asked)  # type: ignore[arg-type]


def drawn(paths: Sequence[Path]) -> list[str]:
    """Check that all are pictures and return their names."""
    for path in paths:
        width, height = Image.open(path).size
        assert 400 < width < 5000 and 150 < height < 6000
    return [path.name for path in paths]


def test_panels_of_scans_of_one_name_do_not_overwrite_one_another(
    cnn: RunFolder, scans: list[Path], tmp_path: Path
) -> None:
    names = drawn(list(explain_files([cnn], scans, wish(tmp_path / "out"))))
    assert names == ["scan-1-test_resnet-seed0.png", "scan-1-test_resnet-seed0-2.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


def test_every_figure_of_two_models(
    cnn: RunFolder, vit: RunFolder, scans: list[Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = wish(tmp_path, figures="all", methods=["gradcam", "rollout"])
    names = drawn(list(explain_files([cnn, vit], scans[:1], asked)))
    assert names == [
        "scan-1-test_resnet-seed0.png",
        "scan-1-test_vit-seed0.png",
        "scan-1-methods.png",
        "scan-1-test_resnet-seed0-occlusion.png",
        "scan-1-test_vit-seed0-occlusion.png",
        "scan-1-test_vit-seed0-patches.png",
        "models-gradcam.png",
        "models-rollout.png",
        "heads-test_vit-seed0.png",
    ]
    said = capsys.readouterr().err
    assert "test_resnet-seed0: left out rollout" in said
    assert said.count("no figure of heads") == said.count("no figure of patches") == 1


def test_one_failure_leaves_the_others_drawn_and_is_named_at_the_end(
    cnn: RunFolder, scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    got = explain_files(
        [cnn],
        [scans[0], broken, tmp_path / "gone.png", scans[1]],
        wish(tmp_path / "out", figures=["panel", "models"]),
    )
    seen = []
    with pytest.raises(OctoscopeError, match=r"2 failures.*broken\.png.*gone\.png"):
        for path in got:
            seen.append(path)
    assert drawn(seen) == [
        "scan-1-test_resnet-seed0.png",
        "scan-1-test_resnet-seed0-2.png",
        "models-gradcam.png",
        "models-hirescam.png",
    ]
    assert capsys.readouterr().err.count("failed: ") == 2, "at once, each"
    with pytest.raises(OctoscopeError, match=r"broken\.png"):
        list(explain_files([cnn], [broken], wish(tmp_path / "out")))
    assert "broken" not in capsys.readouterr().err, "the error says it"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"figures": ["panle"]}, 'did you mean "panel"'),
        ({"figures": ["heads"]}, "no attention"),
        ({"figures": ["patches"]}, "transformer such as a ViT"),
        ({"target": "DMA"}, 'did you mean "DME"'),
        ({"methods": ["gradcm"]}, 'did you mean "gradcam"'),
        ({"methods": ["rollout"]}, "Attention rollout is not defined here"),
        ({"masks": Path("nowhere")}, "nowhere: no such folder of masks"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_drawn(
    options: dict[str, object], words: str, cnn: RunFolder, scans: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(OctoscopeError, match=words):
        next(explain_files([cnn], scans, wish(tmp_path / "out", **options)))
    assert not (tmp_path / "out").exists()


def test_a_model_given_twice_is_refused(cnn: RunFolder, scans: list[Path], tmp_path: Path) -> None:
    with pytest.raises(OctoscopeError, match="stands twice"):
        next(explain_files([cnn, cnn], scans, wish(tmp_path)))


def test_runs_of_one_name_are_told_apart_by_their_study(
    cnn: RunFolder, scans: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(cnn.path, tmp_path / "other" / "runs" / cnn.name)
    twin = RunFolder.open(tmp_path / "other" / "runs" / cnn.name)
    names = drawn(list(explain_files([cnn, twin], scans[:1], wish(tmp_path / "out"))))
    assert names == [
        "scan-1-study-test_resnet-seed0.png", "scan-1-other-test_resnet-seed0.png",
    ]  # fmt: skip


def test_pages_of_many_scans(
    cnn: RunFolder, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoscope.study.drawing.ON_A_PAGE", 2)
    three = [*scans, scans[0]]
    asked = wish(tmp_path, figures=["models"], across=["gradcam"])
    names = drawn(list(explain_files([cnn], three, asked)))
    assert names == ["models-gradcam.png", "models-gradcam-2.png"]


# --- one scan, as one model sees it -------------------------------------------------------------


def test_claims_name_the_class_explained_and_its_probability(
    cnn: RunFolder, scans: list[Path]
) -> None:
    for target in (None, "NORMAL"):
        model = Model.load("m", cnn, target, ["gradcam", "eigencam"])
        one = Explained.read(scans[0], model, LesionMasks())
        classifier = Classifier.load(cnn.model)
        with torch.no_grad():
            expected = classifier(classifier.prepare([scans[0]])).softmax(1)[0]
        assert list(one.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        name = CLASSES[int(expected.argmax())] if target is None else target
        assert one.predicted == CLASSES[int(expected.argmax())]
        assert one.claim("gradcam") == f"for {name}, p = {expected[CLASSES.index(name)]:.2f}"
        assert one.claim("eigencam").startswith(f"of no class ({name}: p = ")


def test_probabilities_are_never_certain() -> None:
    assert [likely(p) for p in (1.0, 0.996, 0.995, 0.5, 0.005, 0.0)] == [
        "p > 0.99", "p > 0.99", "p = 0.99", "p = 0.50", "p = 0.01", "p < 0.01",
    ]  # fmt: skip


def test_maps_keep_their_sign_and_their_reason(cnn: RunFolder, scans: list[Path]) -> None:
    model = Model.load("m", cnn, None, ["gradcam", "hirescam", "rollout"])
    one = Explained.read(scans[0], model, LesionMasks())
    signed, unsigned, missing = (one.map(key) for key in ("hirescam", "gradcam", "rollout"))
    assert not isinstance(signed, str) and signed.signed and signed.diverging
    assert not isinstance(unsigned, str) and not unsigned.signed and (unsigned.values >= 0).all()
    assert isinstance(missing, str) and "attention" in missing


# --- masks --------------------------------------------------------------------------------------


def test_masks_lie_beside_the_scans(cnn: RunFolder, scans: list[Path]) -> None:
    model = Model.load("m", cnn, None, [])
    one = Explained.read(scans[1], model, LesionMasks.of(cnn))
    assert one.scan.mask is not None and one.scan.mask.max() == 2
    assert [outline.name for outline in one.scan.outlines] == ["drusen"]
    assert LesionMasks().find(scans[0])[0] != LesionMasks().find(scans[1])[0]
    rows = np.flatnonzero((one.scan.mask == 2).any(1))  # 48 rows in a frame of 64, 8 above
    assert rows[0] == pytest.approx(18, abs=1) and rows[-1] == pytest.approx(27, abs=1)


def test_masks_of_a_folder_stand_by_name_or_in_the_same_tree(
    scans: list[Path], tmp_path: Path
) -> None:
    tree = tmp_path / "elsewhere"
    (tree / "DME").mkdir(parents=True)
    Image.fromarray(np.ones((48, 64), dtype=np.uint8)).save(tree / "DME" / "scan-1.png")
    masks = LesionMasks.of(RunFolder(tmp_path), tree)
    assert masks.find(scans[0])[0] is None, "CNV/scan-1 is another scan"
    assert masks.find(scans[1]) == (tree / "DME" / "scan-1.png", {})
    Image.fromarray(np.ones((48, 64), dtype=np.uint8)).save(tree / "scan-1.png")
    assert masks.find(scans[0])[0] == tree / "scan-1.png"
    assert masks.find(scans[1])[0] == tree / "DME" / "scan-1.png", "the nearer place first"


def test_names_with_two_dots_are_followed_before_masks_are_looked_for(
    scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, here = tmp_path / "data", tmp_path / "data" / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    scan, mask = Path("../images/CNV/scan-1.png"), data / "masks" / "CNV" / "scan-1.png"
    names = {2: "drusen"}
    assert LesionMasks.of(RunFolder(tmp_path), Path("../masks")).find(scan) == (mask, names)
    assert LesionMasks().find(scan) == (mask, names), "beside the scan"
    tabled = LesionMasks(None, {str(scans[0]): scans[1]}, {1: "fluid"})
    assert tabled.find(scan) == (scans[1], {1: "fluid"})


def test_a_scan_is_never_its_own_mask(scans: list[Path], tmp_path: Path) -> None:
    masks = LesionMasks.of(RunFolder(tmp_path), tmp_path / "data" / "images")
    assert masks.find(scans[0])[0] is None
    own = tmp_path / "data" / "masks" / "CNV" / "scan-1.png"
    assert LesionMasks().find(own)[0] is None
    beside = own.with_name("scan-1.tif")
    own.rename(beside)
    assert LesionMasks().find(scans[0])[0] == beside
    assert masks.find(tmp_path / "gone" / "scan-2.png")[0] is None, "a scan that is not there"


def test_a_mask_that_does_not_fit_is_told_and_left_out(
    cnn: RunFolder, scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = scans[0].parents[2] / "masks" / "CNV" / "scan-1.png"
    Image.fromarray(np.ones((10, 10), dtype=np.uint8)).save(mask)
    assert len(drawn(list(explain_files([cnn], scans[:1], wish(tmp_path / "out"))))) == 1
    assert "without lesions" in capsys.readouterr().err


def test_all_is_every_kind_of_figure(tmp_path: Path) -> None:
    assert wish(tmp_path, figures="all").kinds == FIGURES == wish(tmp_path, figures=["all"]).kinds
    assert wish(tmp_path, figures=["heads", "panel", "heads"]).kinds == ("heads", "panel")
    assert wish(tmp_path, figures="heads").kinds == ("heads",)
    with pytest.raises(OctoscopeError, match='"small" is not a figure'):
        wish(tmp_path, figures="small")
