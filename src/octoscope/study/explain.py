"""Explain a trained model on the validation scans: maps in a store, and where their mass lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from octoscope.attribution.explain import explain
from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.evaluation.predictions import read_predictions
from octoscope.files import write_json
from octoscope.models.classifier import Classifier
from octoscope.progress import track
from octoscope.scans.geometry import segment_retina
from octoscope.study.evaluate import evaluate_run, rows_of
from octoscope.study.folder import RunFolder
from octoscope.trust.lesions import score_localisation
from octoscope.trust.scores import CHANCES, lift_summary, save_scores

BATCH = 16
"""Scans per pass; an interruption loses at most these."""


def explain_run(
    run: RunFolder, cache: ScanCache, methods: Sequence[str], *, resamples: int = 2000
) -> str:
    """Map every validation scan for its predicted class and score where the mass lies.

    Writes ``maps.zarr`` (rows are rows of the cache; those that are there are not made again)
    and, where scans have lesion masks, ``scores.parquet`` and ``localisation.json``.

    Args:
        run: A finished run.
        cache: The cache of its study.
        methods: Registry keys.
        resamples: Bootstrap resamples of the patients.

    Returns:
        A sentence on the method with the highest lift over chance, or on the number of maps.

    Raises:
        OctoscopeError: If a method is unknown or not defined for the model.
    """
    rows = rows_of(cache, "val")
    store = MapStore.create(
        run.maps, len(cache), about={"model": run.digest, "cache": cache.digest}
    )
    _fill(store, Classifier.load(run.model), cache, rows, methods)
    if not run.predictions("val").exists():
        evaluate_run(run, cache, resamples=resamples)
    said = _score(run, store, cache, rows, methods, resamples)
    return said or f"{len(rows)} scans × {len(methods)} methods"


def _fill(
    store: MapStore,
    classifier: Classifier,
    cache: ScanCache,
    rows: np.ndarray,
    methods: Sequence[str],
) -> None:
    """Write the maps that the store lacks."""
    there = np.all([store.written(method) for method in methods], axis=0)
    missing = rows[~there[rows]]
    batches = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]
    for batch in track(batches, f"Explaining {store.path.parent.name}") if batches else ():
        store.add(batch, explain(classifier, as_images(cache.images[batch]), methods))


def as_images(pixels: np.ndarray) -> Tensor:
    """Return uint8 ``(B, H, W)`` as what a `Classifier` takes, (B, 1, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(1).float() / 255


class _StoredMaps(Mapping[str, np.ndarray]):
    """Maps of some rows at the size of the image, read when asked for.

    Attributes:
        store: The map store.
        rows: Rows of the store.
        methods: Method names.
        size: ``(H, W)``.
    """

    def __init__(
        self, store: MapStore, rows: np.ndarray, methods: Sequence[str], size: tuple[int, ...]
    ) -> None:
        self.store, self.rows, self.methods, self.size = store, rows, tuple(methods), size

    def __getitem__(self, method: str) -> np.ndarray:
        return np.stack([self.store.read(int(row), method, self.size) for row in self.rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)


def _score(
    run: RunFolder,
    store: MapStore,
    cache: ScanCache,
    rows: np.ndarray,
    methods: Sequence[str],
    resamples: int,
) -> str:
    """Score the maps of the scans that are told right against their lesion masks.

    A map explains the class predicted. Where that is wrong, the map is not evidence for the
    disease the lesions belong to; those scans are left out and counted.
    """
    if cache.masks is None:
        return ""
    predictions = read_predictions(run.predictions("val")).set_index("scan")
    predictions = predictions.loc[cache.table.frame["path"].iloc[rows]]
    right = (predictions["label"] == predictions["predicted"]).to_numpy()
    ill = cache.masks[rows].any(axis=(1, 2)) & cache.has_mask[rows]
    scored = rows[right & ill]
    counts = {"scored": len(scored), "left_out_as_wrong": int((ill & ~right).sum())}
    if not len(scored):
        write_json(run.localisation, counts)
        return ""
    info = run.info
    table = cache.table.rows(scored)
    scores = score_localisation(
        _StoredMaps(store, scored, methods, cache.images.shape[1:]),
        np.asarray(cache.masks[scored]),
        scans=table.frame["path"].tolist(),
        patients=table.groups.tolist(),
        labels=table.frame["label"].tolist(),
        model=info["model"],
        seed=info["seed"],
        lesions=table.lesions,
        retina=np.stack([_retina(image) for image in cache.images[scored]]),
    )
    save_scores(scores, run.scores)
    summaries = {
        chance: lift_summary(scores, chance=chance, resamples=resamples) for chance in CHANCES
    }
    write_json(
        run.localisation,
        {
            **counts,
            **{chance: frame.to_dict("records") for chance, frame in summaries.items()},
        },
    )
    whole = summaries["frame"][summaries["frame"]["lesion"] == "any"]
    return str(whole.sort_values("lift").iloc[-1]["sentence"])


def _retina(image: np.ndarray) -> np.ndarray:
    """Return the retina's mask ``(H, W)``; the whole frame where no retina is found."""
    layers = segment_retina(image)
    return layers.mask(image.shape) if layers.found else np.ones(image.shape, dtype=bool)
