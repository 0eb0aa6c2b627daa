"""A study: from scans to a report, in stages that are done once.

``table → audit → cache → train → evaluate → explain → trust → report``. What is asked for is first
compared with what the folder holds (`octoscope.study.plan`); a study that cannot go on there is
refused before anything is written. Every stage depends on the ones before it through digests, so
that a changed option redoes what hangs on it and nothing else, and an interrupted study goes on
where it stopped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from octoscope.data.cache import ScanCache
from octoscope.data.lock import exclusive
from octoscope.errors import OctoscopeError, PatientOverlapError
from octoscope.evaluation.ledger import elsewhere_sentence
from octoscope.files import digest_of, require_text_path, write_json
from octoscope.progress import console, tell
from octoscope.scans.audit import audit
from octoscope.scans.layouts import load_table
from octoscope.scans.splits import ready_splits
from octoscope.scans.table import ScanTable
from octoscope.study.config import StudyConfig
from octoscope.study.contents import test_scans
from octoscope.study.explainable import require_defined
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.made_by import code_of, rows_digest
from octoscope.study.plan import (
    Plan,
    plan_study,
    rebuilt_cache,
    require_buildable,
    require_possible,
)
from octoscope.study.provenance import provenance
from octoscope.study.results import finish
from octoscope.study.stage import Stage, content_digest, read_object
from octoscope.training.recipe import Recipe
from octoscope.training.supervised import train


def run_study(config: StudyConfig, *, until: str = "report") -> Path:
    """Run the stages of a study and return what it ends in: the report, or the study folder.

    Args:
        config: The study.
        until: The last stage: ``train`` or ``report``.

    Raises:
        OctoscopeError: For every fault in data or options, naming it, and if the folder holds
            models of other scans, splits, framing or recipes; nothing in it is changed then.
    """
    require_text_path(config.folder)
    require_possible(config)
    folder = StudyFolder(config.folder)
    table = prepare_table(config)
    plan = plan_study(config, table)
    require_buildable(plan)
    if until != "train":
        require_defined(config, len(table.classes))
    audited = _audited(plan)
    with exclusive(folder.path / ".study.lock", f"preparing {folder.path}"):
        plan = plan_study(config, table)  # another process may have been faster
        with rebuilt_cache(plan):
            cache = _prepared(plan, audited, until)
    runs = [_train(plan, cache, recipe) for recipe in plan.recipes]
    if until == "train":
        return folder.path
    with exclusive(folder.path / ".results.lock", f"at the results of {folder.path}"):
        return finish(folder, runs, cache, config)


def prepare_table(config: StudyConfig) -> ScanTable:
    """Return the scans of a study with patient-safe splits; phantoms where it has no data.

    Raises:
        OctoscopeError: If there are no scans, or patients stand in several splits.
    """
    folder = StudyFolder(config.folder)
    if config.data is None:
        _require_phantoms_are_its_own(folder, config)
        table = config.phantom.write(folder.phantoms)
    else:
        if not config.data.exists() and "root" in read_object(folder.config):
            raise OctoscopeError(
                f"{config.data}: no such file or folder; if the scans of {folder.path} were moved, "
                "say where they are now with --data"
            )
        table = load_table(config.data, config.layout, config.columns)
    return ready_splits(
        table,
        seed=config.split_seed,
        on_overlap=config.on_overlap,
        unknown_patients=config.unknown_patients,
    )


def _require_phantoms_are_its_own(folder: StudyFolder, config: StudyConfig) -> None:
    """Refuse to write phantoms into the study of other scans, or others into a phantom study."""
    about = read_object(folder.config)
    former = about.get("config")
    if folder.phantoms.exists() or not isinstance(former, dict):
        return  # what is there is compared with what is asked for when it is read
    if former.get("data") is not None:
        raise OctoscopeError(
            f"{folder.path}: holds the study of {about.get('root')}, not of phantoms; name its "
            "scans with --data, or choose another folder with --out"
        )
    if digest_of(former.get("phantom")) != digest_of(asdict(config.phantom)):
        raise OctoscopeError(
            f"{folder.path}: holds the study of phantoms written with other options; choose "
            "another folder with --out"
        )


@dataclass(frozen=True)
class Audited:
    """The audit of a table, before it is written.

    Attributes:
        inputs: What it hangs on.
        content: Content of audit.json.
        table: The table; with a note for every error that was overridden.
        started: When the scans began to be audited, None if the audit that is there holds.
    """

    inputs: dict[str, Any]
    content: dict[str, Any]
    table: ScanTable
    started: float | None


def _audited(plan: Plan) -> Audited:
    """Audit the scans, or read the audit that is there; stop at what would make numbers false.

    Raises:
        PatientOverlapError: If copies of a scan stand in several splits and that is not allowed.
    """
    table, folder = plan.table, plan.folder
    inputs = {
        "table": table.digest(),
        "rows": rows_digest(table),
        "files": [_stamp(path) for path in table.paths],
        "code": code_of("audit"),
    }
    root, stage, content = str(table.root), Stage(folder.path, "audit"), {}
    if _same_but_root(stage.recorded(), inputs) and stage.is_untouched([folder.audit]):
        content = {**read_object(folder.audit), "root": root}  # scans may have moved since
    started = None
    if "findings" not in content:
        started = stage.begin()
        content = audit(table).to_dict()
        for finding in content["findings"]:
            if finding["level"] != "info":
                line = f"  {finding['level']}: {finding['sentence']}"
                console.print(line, style="yellow", highlight=False, markup=False)
    errors = [one["sentence"] for one in content["findings"] if one["level"] == "error"]
    if errors and plan.config.on_overlap != "allow":
        raise PatientOverlapError(f"{table.root}: {errors[0]}")
    noted = table.noting(*(f"OVERRIDE: {sentence}" for sentence in errors))
    return Audited({**inputs, "root": root}, content, noted, started)


def _same_but_root(recorded: dict[str, Any], inputs: dict[str, Any]) -> bool:
    """Say whether an audit was made of the same scans, wherever they lay then."""
    there = recorded.get("inputs")
    there = there if isinstance(there, dict) else {}
    return digest_of({**there, "root": ""}) == digest_of({**inputs, "root": ""})


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size and time of a file, None if it is not there (the audit will say so)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _prepared(plan: Plan, audited: Audited, until: str) -> ScanCache:
    """Write audit, cache and description of a study that is not refused, each if it is new."""
    folder, table = plan.folder, audited.table

    def work() -> str:
        write_json(folder.audit, audited.content)
        return f"{len(table)} scans, {len(audited.content['findings'])} findings"

    Stage(folder.path, "audit").run(audited.inputs, [folder.audit], work, audited.started)
    if plan.moved_from is not None:
        console.print(
            f"· the scans have moved from {plan.moved_from} to {table.root.resolve()}; they are "
            "the same",
            style="dim", highlight=False, markup=False,
        )  # fmt: skip
    for note in table.notes:
        colour = "red" if note.startswith("OVERRIDE") else "dim"
        console.print(f"· {note}", style=colour, highlight=False, markup=False)
    cache = ScanCache.build(table, plan.config.framing, folder.cache)
    _describe(plan, table, cache, until)
    if said := elsewhere_sentence(folder.path):
        tell(f"· {said}", "yellow")
    return cache


def _describe(plan: Plan, table: ScanTable, cache: ScanCache, until: str) -> None:
    """Write what the study is, unless that is what its folder says."""
    folder, there = plan.folder, read_object(plan.folder.config)
    settings: dict[str, Any] = asdict(plan.config)
    if until == "train" and isinstance(there.get("config"), dict):
        settings, until = _with_models(there["config"], settings), there.get("until", until)
    described = {
        "name": settings["name"],
        "root": str(table.root.resolve()),
        "layout": table.layout,
        "classes": table.classes,
        "notes": table.notes,
        "table_digest": table.digest(),
        "cache_digest": cache.digest,
        "test_scans": test_scans(cache).to_dict(),
        "until": until,
        "config": settings,
    }
    key = digest_of({**described, "rows": rows_digest(table)})
    said = {name: there.get(name) for name in described}
    same = there.get("key") == key and digest_of(said) == digest_of(described)
    whole = there.get("table_file") == content_digest(folder.table) is not None
    if same and whole:
        return  # what is there was made by the version that it names
    table.save(folder.table)
    write_json(
        folder.config,
        {
            "key": key,
            **described,
            "table_file": content_digest(folder.table),
            "provenance": provenance(),
        },
    )


def _with_models(there: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a study to whose models those of a `train` were added.

    `train` knows models and seeds alone: the other settings of a study stay what they are.
    """
    models = list(there.get("models") or [])
    known = {model.get("model") for model in models if isinstance(model, dict)}
    added = [model for model in asked["models"] if model["model"] not in known]
    return {**asked, **there, "models": [*models, *added]}


def _train(plan: Plan, cache: ScanCache, recipe: Recipe) -> RunFolder:
    """Train one model with one seed, or find it trained."""
    path = plan.folder.run(recipe.model, recipe.seed)
    train(cache, recipe, path, allow_overlap=plan.config.on_overlap == "allow")
    return RunFolder.open(path)
