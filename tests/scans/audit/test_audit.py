"""The audit end to end, on small studies with something planted or nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from octoscope.errors import OctoscopeError
from octoscope.scans.audit import Audit, audit, baseline, print_audit
from octoscope.scans.layouts import load_table
from octoscope.scans.phantom import write_study
from octoscope.scans.phantom.shortcut import Kind, Shortcut
from octoscope.scans.table import ScanTable

CLASSES = ("CNV", "DME", "NORMAL")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "TREES", 20)


def speckle_study(
    root: Path,
    *,
    seed: int = 0,
    patients: int = 24,
    tall: str | None = None,
    bordered: str | None = None,
    known_patients: bool = True,
    device_of: str | None = None,
) -> ScanTable:
    """Speckle pictures of 2 scans a patient; one class may be taller or have a white border."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(patients):
        label, split = CLASSES[p % 3], ("train", "val")[p // 3 % 2]
        height = int(rng.choice([56, 60, 64]))
        level, noise = rng.uniform(90, 130), rng.uniform(8, 14)
        for n in range(2):
            high = 90 if label == tall else height
            image = np.clip(rng.normal(level, noise, (high, 80)), 30, 220).astype(np.uint8)
            if label == bordered:
                image[:, :12] = 255
            name = f"{split}/{label}/{label}-{p}-{n}.png"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / name)
            device = "B" if label == device_of else "A" if p % 4 else "C"
            rows.append(
                {
                    "path": name,
                    "label": label,
                    "patient": str(p) if known_patients else None,
                    "split": split,
                    "device": device,
                }
            )
    return ScanTable.from_frame(pd.DataFrame(rows), root)


def sentences(found: Audit, level: str) -> str:
    return "\n".join(f.sentence for f in found.findings if f.level == level)


def test_planted_frame_size_is_named_with_its_class_and_number(tmp_path: Path) -> None:
    found = audit(speckle_study(tmp_path, tall="NORMAL"), permutations=300)
    said = sentences(found, "warning")
    assert "Frame size gives NORMAL away: from height and width alone" in said
    assert "balanced accuracy 1.00 [1.00, 1.00]" in said
    assert "90×80 pixels (height×width)" in said
    height = next(a for a in found.artefacts if a.association.feature == "frame height")
    assert height.association.effect_size == 1.0
    assert height.p_value < 0.05
    assert CLASSES[height.association.stands_out] == "NORMAL"


def test_planted_white_border_is_named(tmp_path: Path) -> None:
    found = audit(speckle_study(tmp_path, bordered="DME"), permutations=300)
    assert "White border gives DME away: on average 1" in sentences(found, "warning")
    assert found.metadata_baseline.result is not None
    assert found.metadata_baseline.result.by_class[1].value > 0.9


def test_planted_device_is_named(tmp_path: Path) -> None:
    found = audit(speckle_study(tmp_path, device_of="CNV"), permutations=300)
    assert (
        "Column 'device' gives CNV away: 100% of the scans of a CNV patient are 'B', against 0% "
        "in the other classes (Cramér's V"
    ) in sentences(found, "warning")


def test_nothing_planted_nothing_warned(tmp_path: Path) -> None:
    warned = 0
    for seed in range(5):
        found = audit(speckle_study(tmp_path / str(seed), seed=seed), permutations=100, seed=seed)
        assert not found.has_errors
        warned += any(f.level == "warning" for f in found.findings)
    assert warned <= 1  # three kinds of test at 5 % or less


def test_unknown_patients_are_tested_one_by_one_and_that_is_said(tmp_path: Path) -> None:
    table = speckle_study(tmp_path, tall="NORMAL", known_patients=False)
    found = audit(table, permutations=300)
    assert "Frame size gives NORMAL away" in sentences(found, "warning")
    assert "48 scans of CNV, DME and NORMAL have no patient id" in sentences(found, "info")
    height = next(a for a in found.artefacts if a.association.feature == "frame height")
    assert height.p_value < 0.05 < height.p_grouped
    assert "if scans without a patient id are of one patient a class" in height.sentence


def test_same_seed_same_audit_whatever_the_number_of_threads(tmp_path: Path) -> None:
    table = speckle_study(tmp_path, tall="CNV")
    first, second = (audit(table, permutations=100, seed=3, workers=w) for w in (1, 4))
    assert first.to_dict() == second.to_dict()
    other = audit(table, permutations=100, seed=4)
    assert first.metadata_baseline.to_dict(CLASSES) != other.metadata_baseline.to_dict(CLASSES)


def test_json_has_the_agreed_keys(tmp_path: Path) -> None:
    table = speckle_study(tmp_path / "scans", tall="NORMAL")
    (tmp_path / "scans" / table.frame["path"][0]).write_text("no picture")
    Image.new("L", (80, 60)).save(tmp_path / "scans" / table.frame["path"][1])
    found = audit(table, permutations=50)
    found.save(tmp_path / "audit.json")
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content == json.loads(json.dumps(found.to_dict()))
    assert {"layout", "root", "notes", "counts", "overlaps", "duplicates"} <= set(content)
    assert {"class", "split", "scans", "patients"} <= set(content["counts"][0])
    assert {"exact", "near", "across_splits"} <= set(content["duplicates"])
    assert content["unreadable"][0]["path"] == table.frame["path"][0]
    assert "no picture" in content["unreadable"][0]["reason"]
    assert content["blank"] == [table.frame["path"][1]]
    artefact = content["artefacts"][0]
    assert {"feature", "effect_size", "effect_name", "p_value", "by_class", "sentence"} <= set(
        artefact
    )
    assert set(artefact["by_class"]["NORMAL"]) == {"mean", "sd"}
    assert set(content["metadata_baseline"]["balanced_accuracy"]) == {"value", "low", "high"}
    assert content["metadata_baseline"]["chance"] == pytest.approx(1 / 3)
    assert set(content["findings"][0]) == {"level", "sentence"}
    assert "pixel type" in content["constant"]
    assert len(found.measurements) == len(table)


def test_errors_come_first(tmp_path: Path) -> None:
    table = speckle_study(tmp_path, tall="NORMAL")
    frame = table.frame.assign(patient=table.frame["patient"].replace({"3": "0"}))
    found = audit(ScanTable.from_frame(frame, tmp_path), permutations=50)
    order = [f.level for f in found.findings]
    assert order == sorted(order, key=["error", "warning", "info"].index)
    assert order[0] == "error"
    assert found.has_errors
    assert found.overlaps == [{"patient": "0", "splits": ["train", "val"], "scans": 4}]


def test_a_folder_of_nothing_readable(tmp_path: Path) -> None:
    table = speckle_study(tmp_path)
    for path in table.paths:
        path.write_bytes(b"\xff\xd8\xff rubbish")
    found = audit(table, permutations=50)
    assert found.findings[0].level == "error"
    assert found.findings[0].sentence.startswith("None of the files can be read (for example ")
    assert found.artefacts == []
    assert found.to_dict()["metadata_baseline"]["balanced_accuracy"] is None


@pytest.mark.parametrize("rows", [[0], [0, 1], [0, 1, 2, 3]])
def test_tiny_tables(tmp_path: Path, rows: list[int]) -> None:
    found = audit(speckle_study(tmp_path).rows(np.array(rows)), permutations=20)
    assert len(found.measurements) == len(rows)
    assert "could not be tested" in found.metadata_baseline.sentence
    print_audit(found, Console(file=io.StringIO()))


def test_unlabelled_scans(tmp_path: Path) -> None:
    frame = speckle_study(tmp_path).frame.assign(label=None, split=None)
    found = audit(ScanTable.from_frame(frame, tmp_path), permutations=20)
    assert found.artefacts == []
    assert found.counts[0]["class"] is None
    print_audit(found, Console(file=io.StringIO()))


@pytest.mark.parametrize("option", [{"permutations": 0}, {"workers": 0}])
def test_options_are_checked(tmp_path: Path, option: dict[str, int]) -> None:
    with pytest.raises(OctoscopeError, match=f"{next(iter(option))} 0 is not positive"):
        audit(speckle_study(tmp_path, patients=3), **option)


def test_printed(tmp_path: Path) -> None:
    table = speckle_study(tmp_path, tall="NORMAL", device_of="CNV")
    found = audit(table.noting("a [note] with brackets"), permutations=100)
    out = io.StringIO()
    print_audit(found, Console(file=out, width=200))
    text = out.getvalue()
    assert "a [note] with brackets" in text
    assert "8 (4)" in text  # scans and patients of a class in a split
    assert "AUROC 1.00" in text
    assert "90.0 ± 0.0" in text
    assert "device = B" in text
    assert "warning  Frame size gives NORMAL away" in text
    assert "the same in all scans:" in text


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("size", "Frame size gives NORMAL away"),
        ("border", "White border gives NORMAL away"),
        ("marker", "Upper left corner gives NORMAL away"),
        ("device", "Column 'device' gives NORMAL away"),
    ],
)
def test_shortcuts_planted_in_phantoms_are_named(tmp_path: Path, kind: Kind, said: str) -> None:
    shortcut = Shortcut(kind=kind, label="NORMAL")
    size = {"patients": 20, "scans_per_patient": 1, "height": 96, "width": 128}
    table = write_study(tmp_path / "study", shortcut=shortcut, workers=1, **size)
    assert said in sentences(audit(table, permutations=400), "warning")


def test_real_mix_of_whole_and_cropped_frames(real_data: Path, tmp_path: Path) -> None:
    """Cropped lesions beside whole normal frames: the frame's size gives NORMAL away."""
    for name in ("kermany-lesions", "kermany-normal"):
        (tmp_path / name).symlink_to(real_data / name)
    found = audit(load_table(tmp_path), permutations=300)
    assert sum(c["scans"] for c in found.counts) == 337
    assert found.unreadable == []
    assert found.blank == []
    assert not found.has_errors
    said = sentences(found, "warning")
    assert "Frame size gives NORMAL away: from height and width alone" in said
    result = found.frame_size_baseline.result
    assert result is not None
    assert result.by_class[found.classes.index("NORMAL")].low > 0.95
    height = next(a for a in found.artefacts if a.association.feature == "frame height")
    assert found.classes[height.association.stands_out] == "NORMAL"
    assert height.association.effect_size > 0.95
    # The only copy among the 337: one scan, exported in two frame sizes.
    normal = "kermany-normal/NORMAL-"
    assert found.duplicates.near == [[f"{normal}b5.png", f"{normal}b6.png"]]
    assert found.duplicates.exact == []
    several = [(s["patient"], s["classes"]) for s in found.several_classes]
    assert several == [("53018", ["CNV", "DRUSEN"])]


def test_neighbours_in_a_dense_volume_are_not_taken_for_copies(real_data: Path) -> None:
    """B-scans 30 µm apart look alike; the threshold still tells them from copies."""
    paths = sorted((real_data / "volumes" / "drusen-spectralis").glob("*.jpeg"))
    frame = pd.DataFrame({"path": [p.name for p in paths], "patient": "one"})
    found = audit(ScanTable.from_frame(frame, paths[0].parent), permutations=20)
    assert len(paths) == 145
    assert found.duplicates.near == found.duplicates.exact == []
