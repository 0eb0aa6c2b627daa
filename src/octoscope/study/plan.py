"""The plan of a study: what is there, what is to be done, and what is refused; nothing is written.

A study is refused here, before its folder is touched, or not at all: whoever reads the folder
after a refusal finds every byte as it was.

What can change without a refusal are options of what is made anew from the trained models
(``resamples``, ``explain``, ``trust``), the name, and models and seeds that come or go. What cannot
change once a model is trained are the scans, their labels, splits and framing, and its recipe.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from octoscope.attribution.registry import methods_named
from octoscope.data.augment import Augment
from octoscope.data.cache import ScanCache
from octoscope.data.identity import FileRecord
from octoscope.data.lock import is_held
from octoscope.errors import OctoscopeError
from octoscope.files import read_parquet
from octoscope.models.network import build_network
from octoscope.models.pretrained import weights_from
from octoscope.scans.table import ScanTable
from octoscope.study.config import StudyConfig
from octoscope.study.differences import Former, differences
from octoscope.study.folder import StudyFolder
from octoscope.study.stage import read_object
from octoscope.training.checkpoints import LOCK
from octoscope.training.compute import Compute
from octoscope.training.recipe import Recipe
from octoscope.training.records import scans_of, what_is_there

NAMED = 3
"""Differences that a refusal lists; the first is the plainest."""


@dataclass(frozen=True)
class Plan:
    """What a study is about to do in its folder.

    Attributes:
        config: The study.
        folder: Its folder.
        recipes: One per model and seed.
        table: The scans, with their splits.
        trained: Run folder → digest of the scans it was trained on.
        moved_from: Where the scans lay before, None if they are where they were.
    """

    config: StudyConfig
    folder: StudyFolder
    recipes: tuple[Recipe, ...]
    table: ScanTable
    trained: Mapping[Path, str]
    moved_from: str | None = None


def require_possible(config: StudyConfig) -> None:
    """Refuse what is wrong with the settings themselves, before a scan is looked at.

    Raises:
        OctoscopeError: On an unknown method or model, or weights that are not there.
    """
    methods_named(config.explain.methods)  # a mistyped name is said now, not after the training
    for recipe in config.models:
        recipe.require_known()
        if isinstance(recipe.augment, Mapping):
            Augment.from_dict(recipe.augment)
        if recipe.weights is not None:
            weights_from(Path(recipe.weights))
        Compute.choose(recipe)


def plan_study(config: StudyConfig, table: ScanTable) -> Plan:
    """Compare a study with what its folder holds.

    Args:
        config: The study.
        table: Its scans, with splits.

    Raises:
        OctoscopeError: If the folder holds the study of other scans, or a model that was trained on
            other scans, splits or framing, or by another recipe, or is not its own.
    """
    folder = StudyFolder(config.folder)
    recipes = tuple(replace(recipe, seed=seed) for recipe in config.models for seed in config.seeds)
    trained = _trained(folder)
    root, former = str(table.root.resolve()), read_object(folder.config).get("root")
    moved = former if isinstance(former, str) and former != root else None
    plan = Plan(config, folder, recipes, table, trained, moved)
    found = ScanCache.find(table, config.framing, folder.cache)
    if moved is not None and not _moved_whole(plan, found):
        said = differences(_former(plan, None), asdict(config), table, config.framing)
        raise OctoscopeError(
            f"{folder.path}: holds the study of {former}, not of {root}"
            f"{' (' + '; '.join(said[:NAMED]) + ')' if said else ''}; choose another folder "
            "with --out"
        )
    for run, digest in trained.items():
        if found is not None and found.digest != digest:
            raise OctoscopeError(_refusal(plan, run, digest))
        if found is None and _former(plan, digest).cache is not None:
            raise OctoscopeError(_refusal(plan, run, digest))
    if found is not None:
        require_own_runs(plan, found.digest)
    return plan


def require_own_runs(plan: Plan, cache_digest: str) -> None:
    """Refuse a run of another recipe or other scans, a damaged checkpoint, an exchanged model.

    Raises:
        OctoscopeError: Naming the run, and what differs.
    """
    for recipe in plan.recipes:
        run = plan.folder.run(recipe.model, recipe.seed)
        if run in plan.trained:
            what_is_there(run, recipe, cache_digest)


@contextmanager
def rebuilt_cache(plan: Plan) -> Iterator[None]:
    """Where the cache of trained models is gone, build it aside and take it if it is the same.

    Raises:
        OctoscopeError: If it is another, so that the models were trained on other scans.
    """
    config, folder = plan.config, plan.folder
    if not plan.trained or ScanCache.find(plan.table, config.framing, folder.cache) is not None:
        yield
        return
    aside = Path(tempfile.mkdtemp(dir=folder.path, prefix=".cache-"))
    try:
        cache = ScanCache.build(plan.table, config.framing, aside)
        for run, digest in plan.trained.items():
            if cache.digest != digest:
                raise OctoscopeError(_refusal(plan, run, digest))
        require_own_runs(plan, cache.digest)
        assert cache.folder is not None  # it was built into one
        folder.cache.mkdir(exist_ok=True)
        request = cache.folder.name.partition("-")[0]
        for damaged in folder.cache.glob(f"{request}-*"):
            shutil.rmtree(damaged, ignore_errors=True)
        cache.folder.rename(folder.cache / cache.folder.name)
        yield
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _trained(folder: StudyFolder) -> dict[Path, str]:
    """Return the runs of a folder that hold a training, or are being trained, and their scans."""
    found: dict[Path, str] = {}
    for run in sorted(path for path in folder.path.glob("runs/*") if path.is_dir()):
        digest = scans_of(run)
        if digest is None and is_held(run / LOCK):
            digest = read_object(run / "run.json").get("cache_digest")
        if isinstance(digest, str):
            found[run] = digest
    return found


def require_buildable(plan: Plan) -> None:
    """Build every network that is to be trained without numbers: what cannot be built is said now.

    Raises:
        OctoscopeError: On an option that the architecture lacks, or a size that it cannot take.
    """
    config, classes = plan.config, len(plan.table.classes)
    size = (config.framing.height, config.framing.width)
    for recipe in config.models:
        if all(plan.folder.run(recipe.model, seed) in plan.trained for seed in config.seeds):
            continue
        with torch.device("meta"):
            build_network(
                recipe.model,
                classes,
                in_channels=recipe.in_channels,
                image_size=size,
                **recipe.model_options,
            )


def _moved_whole(plan: Plan, found: ScanCache | None) -> bool:
    """Say whether scans in another place may be, row for row, those that the study is of.

    Where there is a cache every file was compared by its content; where there is none, but trained
    models, the cache that is built must be theirs. Else nothing can tell, and they are refused.
    """
    same = read_object(plan.folder.config).get("table_digest") == plan.table.digest()
    return same and (found is not None or bool(plan.trained))


def _refusal(plan: Plan, run: Path, digest: str) -> str:
    """Return the sentence that refuses other scans than those of a trained model."""
    config, others = plan.config, len(plan.trained) - 1
    found = differences(_former(plan, digest), asdict(config), plan.table, config.framing)
    also = f" (and {others} more)" if others else ""
    what = "; ".join(found[:NAMED]) or "scans, labels, splits or framing differ"
    return (
        f"{run}{also}: was trained on other scans, splits or framing than are asked for ({what}); "
        f"ask for what it was trained on, choose another folder with --out, or delete "
        f"{run.parent} to train anew"
    )


def _former(plan: Plan, digest: str | None) -> Former:
    """Read what a study's folder says of the scans of its models, as far as it can be read."""
    folder = plan.folder
    config = read_object(folder.config).get("config")
    try:
        table: pd.DataFrame | None = read_parquet(folder.table)
    except Exception:  # pyarrow raises many kinds on damaged files; then there is nothing to say
        table = None
    try:
        cache = None if digest is None else ScanCache.open(folder.cache, digest)
        if cache is not None and cache.folder is not None:
            FileRecord.load(cache.folder / "files.parquet")  # else it cannot tell what changed
    except OctoscopeError:
        cache = None
    return Former(config if isinstance(config, dict) else {}, table, cache)
