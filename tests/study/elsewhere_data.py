"""A small study, a model whose logits stand in no alphabetical order, and scans from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from octoscope.data.cache import ScanCache
from octoscope.files import write_json
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from octoscope.scans.table import ScanTable

CLASSES = ("DME", "CNV", "NORMAL", "DRUSEN")
"""As the logits of the model stand; a folder would have them in alphabetical order."""
FRAMING = Framing(height=32, width=48)
SIZE = (48, 72)


def picture(seed: int, *, lesion: bool = False) -> np.ndarray:
    """A bright band on a dark ground, unlike for every seed; with a black hole if asked for."""
    rng = np.random.default_rng([17, seed])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    top = 14 + 4 * np.sin(x / rng.uniform(6, 20) + rng.uniform(0, 6)) + rng.uniform(-4, 4)
    band = np.where((y > top) & (y < top + 18), rng.uniform(90, 180), 12)
    if lesion:
        band = np.where((y - 30) ** 2 + (x - 36) ** 2 < 30, 20, band)
    return np.clip(band * rng.gamma(10, 0.1, SIZE), 0, 255).astype(np.uint8)


def save_picture(path: Path, seed: int, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, **options)).save(path)
    return path


def save_scans(
    root: Path, labels: Mapping[str, int], *, first: int, masks: bool = False
) -> dict[str, str]:
    """Write ``LABEL/PATIENT/n.png``, two scans of each patient; return path → label."""
    said = {}
    for place, (label, patients) in enumerate(labels.items()):
        for patient in range(patients):
            for n in range(2):
                seed = first + 100 * place + 10 * patient + n
                name = f"{label}/p{first + 100 * place + patient}/{n}.png"
                save_picture(root / "images" / name, seed, lesion=masks)
                said[name] = label
                if masks:
                    mask = np.zeros(SIZE, np.uint8)
                    mask[25:36, 31:42] = 1
                    (root / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(root / "masks" / name)
    return said


def save_named(root: Path, scans: Sequence[tuple[str, str, int]]) -> None:
    """Write ``LABEL-PATIENT-n.png`` of (label, patient, seed), all in one folder."""
    for n, (label, patient, seed) in enumerate(scans):
        save_picture(root / f"{label}-{patient}-{n}.png", seed)


def make_study(study: Path, data: Path, *, model: str = "test_resnet") -> Path:
    """Make a study of scans of four classes, with an untrained model; return the run's folder."""
    said = save_scans(data, dict.fromkeys(sorted(CLASSES), 3), first=1000)
    frame = pd.DataFrame({"path": [f"images/{name}" for name in said], "label": said.values()})
    frame["patient"] = [name.split("/")[1] for name in said]
    order = {name: k for k, name in enumerate(dict.fromkeys(frame["patient"]))}
    parts = {name: ("train", "val", "test")[k % 3] for name, k in order.items()}
    frame["split"] = frame["patient"].map(parts)
    table = ScanTable.from_frame(frame, data, classes=CLASSES, layout="folders")
    cache = ScanCache.build(table, FRAMING, study / "cache", workers=1)
    options: dict[str, Any] = {"in_channels": 1, "image_size": (32, 48)}
    network = build_network(model, len(CLASSES), **options)
    with torch.no_grad():  # heads begin near zero, and logits with them
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    preprocess = Preprocess(FRAMING, 1, (0.2,), (0.2,))
    run = study / "runs" / f"{model}-seed0"
    described = {"name": model, "options": {}, **options}
    centred = Classifier(network, CLASSES, preprocess, described).eval()
    _spread_predictions(centred, cache.images)
    centred.save(run / "model")
    about = {"finished": True, "model": model, "seed": 0, "cache_digest": cache.digest}
    write_json(run / "run.json", about)
    return run


def _spread_predictions(classifier: Classifier, images: np.ndarray) -> None:
    """Shift the biases of the last layer so that no class is predicted for all scans."""
    x = torch.from_numpy(images.astype(np.float32) / 255)[:, None]
    last = [m for m in classifier.network.modules() if isinstance(m, torch.nn.Linear)][-1]
    with torch.no_grad():
        logits = classifier(x)
        last.bias -= logits.mean(0)
        scale = 2 / logits.std(0)  # logits of one size, so that each class wins somewhere
        last.weight *= scale[:, None]
        last.bias *= scale


def names_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock") and path.name != "files.parquet"
    }


def labelled(paths: Sequence[str], said: Mapping[str, str]) -> list[str]:
    """Return the label of each path that ends like one of `said`."""
    return [next(label for name, label in said.items() if path.endswith(name)) for path in paths]
