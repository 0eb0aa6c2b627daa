"""The verbs of scans: phantom, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from octoscope.errors import OctoscopeError
from octoscope.options.limits import FileToWrite, OutFolder, Seed, Workers
from octoscope.progress import console, print_path
from octoscope.study.config import PhantomSettings

TableFile = Annotated[Path, FileToWrite((".csv", ".parquet"))]
JsonFile = Annotated[Path, FileToWrite((".json",))]


def phantom(out: OutFolder, settings: PhantomSettings, workers: Workers | None = None) -> None:
    """Write a synthetic study with lesion masks, in Kermany layout.

    Args:
        out: Folder to make.
        settings: What to draw.
        workers: Processes; by default one per core.
    """
    table = settings.write(out, workers=workers)
    console.print(f"{len(table)} phantom B-scans of {settings.patients} patients with lesion masks")
    print_path(out)


def check(
    data: Path,
    layout: str = "auto",
    columns: str | None = None,
    write: TableFile | None = None,
    json: JsonFile | None = None,
    unknown_patients: Literal["grouped", "distinct"] = "grouped",
    on_overlap: Literal["error", "move", "allow"] = "error",
    drop_copies: bool = False,
    seed: Seed = 0,
) -> None:
    """Audit a folder or table of scans; errors and unreadable files end in exit code 2.

    Args:
        data: Folder or table of scans.
        layout: Layout of `data`: auto, kermany, folders, table, or a template such as
            '{patient}/{class}/*'.
        columns: Which column of a table is which, as in path=file_name,label=Disease.
        write: Write the table with a patient-safe split to this CSV or Parquet file, and beside it
            an empty ledger, TABLE.ledger.jsonl, in which studies of it keep openings of its test
            split.
        json: Write the audit to this file as JSON.
        unknown_patients: With `write`: scans without a patient id are grouped as one
            patient per class, or taken as distinct patients, on your word.
        on_overlap: With `write`: what to do with patients in several splits: stop, move them out
            of training, or allow them (said in the table's notes).
        drop_copies: With `write`: leave out all but one of each group of copies, and all of those
            whose labels contradict each other.
        seed: Seed of permutations, resampling and splits.
    """
    from octoscope.evaluation.ledger import begin_table_ledger
    from octoscope.files import write_json
    from octoscope.scans.audit import audit, copy_findings, print_audit, without_copies
    from octoscope.scans.layouts import load_table
    from octoscope.scans.splits import ready_splits

    if drop_copies and write is None:
        raise OctoscopeError("--drop-copies: say where to write the table too: --write table.csv")
    table = load_table(data, layout, columns)
    found = audit(table, seed=seed)
    print_audit(found, console)
    if json is not None:
        write_json(json, found.to_dict())
        print_path(json)
    if write is not None:
        kept = without_copies(table, found.duplicates) if drop_copies else table
        ready = ready_splits(
            kept, seed=seed, on_overlap=on_overlap, unknown_patients=unknown_patients
        )
        for note in ready.notes[len(table.notes) :]:
            console.print(note, highlight=False, markup=False)
        ready.save(write, findable=True)
        begin_table_ledger(write)
        print_path(write)
    cured = copy_findings(table, found.duplicates) if drop_copies else []
    errors = [f.sentence for f in found.findings if f.level == "error" and f not in cured]
    errors += [f"{bad['path']}: {bad['reason']}" for bad in found.unreadable[:1]]
    if errors:
        raise OctoscopeError(f"{data}: {errors[0]}")
