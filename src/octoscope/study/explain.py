"""Explain a trained model on the scans of a split: maps in a store, and where their mass lies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from octoscope.attribution.consensus import combined
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS, methods_for, methods_named, sorted_out
from octoscope.attribution.store import MapStore
from octoscope.attribution.store_coding import Precision
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.evaluation.predictions import read_predictions
from octoscope.files import write_json
from octoscope.models.classifier import Classifier
from octoscope.progress import console, track
from octoscope.scans.wording import many
from octoscope.study.evaluate import in_order_of_model, is_evaluated, measure_run, rows_of
from octoscope.study.explainable import AXES
from octoscope.study.folder import RunFolder
from octoscope.study.made_by import made_by, maps_about
from octoscope.study.maps import clear_outdated
from octoscope.study.ranks import ALONE, PATIENCE, Ranks
from octoscope.study.retinas import retinas_of
from octoscope.study.stored import StoredMaps, as_images
from octoscope.trust.lesions import score_localisation
from octoscope.trust.scores import CHANCES, lift_summary, save_scores

BATCH = 16
"""Scans per pass; an interruption loses at most these."""


def explain_run(
    run: RunFolder,
    cache: ScanCache,
    methods: str | Sequence[str],
    *,
    resamples: int = 2000,
    precision: Precision | None = None,
    batch_size: int = BATCH,
    ranks: Ranks = ALONE,
    strict: bool = True,
) -> str:
    """Map every scan of the run's split for its predicted class and score where the mass lies.

    Writes ``maps.zarr`` (rows are rows of the cache; those that are there are not made again)
    and, where scans have lesion masks, ``scores.parquet`` and ``localisation.json``.

    Several processes may share the maps; the first of them waits for the others and scores.

    Args:
        run: A finished run; its `split` says which scans, and `results` where the maps go.
        cache: The cache of its study, or of an external test set.
        methods: Registry keys or families; of a family, what is not defined is left out.
        resamples: Bootstrap resamples of the patients.
        precision: Of the store; None for that of the store that is there, or float16.
        batch_size: Scans per pass. On a CPU the same number gives the same bytes, however often
            the work was interrupted and by however many processes it was done.
        ranks: Which of several processes this is.
        strict: Refuse a method that is asked for by its own name and not defined for the model;
            if not, it is left out, as in a study of several models.

    Returns:
        A sentence on the method with the highest lift over chance, or on the number of maps.

    Raises:
        OctoscopeError: If a method is unknown or not defined for the model, or another process
            has died.
    """
    if batch_size < 1:
        raise OctoscopeError(f"batch_size: {batch_size} is no number of scans; use 1 or more")
    rows = rows_of(cache, run.split)
    classifier = Classifier.load(run.model).to(ranks.device())
    cache = in_order_of_model(cache, classifier, run.name)
    names = _defined(classifier, methods, strict=strict, said=ranks.first)
    about = maps_about(run, cache)
    clear_outdated(run.maps, about)
    store = MapStore.create(
        run.maps,
        len(cache),
        precision=precision,
        about=about,
    )
    for name in names:
        if "maps" in METHODS[name].needs:  # with other methods it is another map
            taking_part = combined(METHODS[other] for other in names)
            store.renew(name, [f"weight_{other}" for other in taking_part])
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    slowest = _fill(store, classifier, cache, batches, names, ranks)
    if not ranks.first:
        return f"process {ranks.rank + 1} of {ranks.world} has written its maps"
    if names:
        ranks.wait(_scans_left(store, rows, names), "scans", patience=max(PATIENCE, 10 * slowest))
    if not is_evaluated(run, run.split, cache):
        measure_run(run, cache, split=run.split, resamples=resamples)
    whole = [name for name in names if not METHODS[name].parts]  # one map per scan
    said = _score(run, store, cache, rows, whole, resamples)
    return said or f"{len(rows)} scans × {many(len(names), 'method')}"


def _defined(
    classifier: Classifier, methods: str | Sequence[str], *, strict: bool, said: bool
) -> list[str]:
    """Return the names of the methods that are defined for a model, and say which are not."""
    if strict:
        defined, refused = methods_for(classifier, methods, AXES)
    else:
        defined, refused = sorted_out(classifier, methods_named(methods), AXES)
    for name, reason in refused.items() if said else ():
        console.print(f"· {name} is left out: {reason}", style="dim", highlight=False, markup=False)
    return [method.name for method in defined]


def _fill(
    store: MapStore,
    classifier: Classifier,
    cache: ScanCache,
    batches: Sequence[np.ndarray],
    methods: Sequence[str],
    ranks: Ranks,
) -> float:
    """Write the maps that the store lacks of this process's batches.

    A batch is explained as a whole even where some of its rows are there: the rounding of a map
    hangs on the batch that it is computed in, which must not hang on interruptions or processes.

    Returns:
        Seconds of the slowest batch.
    """
    mine = ranks.share(batches)
    if not mine:
        return 0.0
    rows = np.concatenate(mine)
    there = {method: set(rows[store.written(method, rows)].tolist()) for method in methods}
    combining = any("maps" in METHODS[method].needs for method in methods)
    work = []
    for batch in mine:
        lacking = [method for method in methods if not there[method].issuperset(batch)]
        if lacking:  # a method that combines others needs all of them
            work.append((batch, list(methods) if combining else lacking))
    slowest = 0.0
    bar = track(work, f"Explaining {store.path.parent.name}") if work and ranks.first else work
    for batch, lacking in bar:
        begun = time.perf_counter()
        store.add(batch, explain(classifier, as_images(cache.images[batch]), lacking))
        slowest = max(slowest, time.perf_counter() - begun)
    return slowest


def _scans_left(store: MapStore, rows: np.ndarray, methods: Sequence[str]) -> Callable[[], int]:
    """Return a function that counts the rows which still lack a map of some method."""

    def left() -> int:
        nonlocal rows
        rows = rows[np.any([~store.written(method, rows) for method in methods], axis=0)]
        return len(rows)

    return left


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
    predictions = read_predictions(run.predictions(run.split)).set_index("scan")
    predictions = predictions.loc[cache.table.frame["path"].iloc[rows]]
    right = (predictions["label"] == predictions["predicted"]).to_numpy()
    ill = cache.masks[rows].any(axis=(1, 2)) & cache.has_mask[rows]
    scored = rows[right & ill]
    counts = {"scored": len(scored), "left_out_as_wrong": int((ill & ~right).sum())}
    settings = {"methods": list(methods), "resamples": resamples}
    if not len(scored) or not methods:
        run.scores.unlink(missing_ok=True)  # of other methods or labels
        write_json(run.localisation, {**counts, **made_by(run, cache, settings)})
        return ""
    info = run.info
    table = cache.table.rows(scored)
    scores = score_localisation(
        StoredMaps(store, scored, methods, cache.images.shape[1:]),
        np.asarray(cache.masks[scored]),
        scans=table.frame["path"].tolist(),
        patients=table.groups.tolist(),
        labels=table.frame["label"].tolist(),
        model=info["model"],
        seed=info["seed"],
        lesions=table.lesions,
        retina=_retina_masks(cache, scored),
        progress=True,
    )
    save_scores(scores, run.scores)
    summaries = {
        chance: lift_summary(scores, chance=chance, resamples=resamples)
        for chance in track(CHANCES, "Intervals over patients")
    }
    write_json(
        run.localisation,
        {
            **counts,
            **{chance: frame.to_dict("records") for chance, frame in summaries.items()},
            **made_by(run, cache, settings, run.scores),
        },
    )
    whole = summaries["frame"][summaries["frame"]["lesion"] == "any"]
    return str(whole.sort_values("lift").iloc[-1]["sentence"])


def _retina_masks(cache: ScanCache, rows: np.ndarray) -> np.ndarray:
    """Return the retinas' masks ``(n, H, W)`` of rows; the whole frame where no retina is found."""
    shape = cache.images.shape[1:]
    layers = retinas_of(cache, rows)
    return np.stack([one.mask(shape) if one.found else np.ones(shape, bool) for one in layers])
