"""The audit as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from octoscope.scans.audit.artefacts import Artefact
from octoscope.scans.audit.result import Audit
from octoscope.scans.table import SPLITS

COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def print_audit(audit: Audit, console: Console) -> None:
    """Print counts, artefacts and findings.

    Args:
        audit: What was found.
        console: Where to print it.
    """
    console.print(Text.assemble((str(audit.root), "bold"), f"  (layout: {audit.layout})"))
    for note in audit.notes:
        console.print(Text(f"note: {note}", style="cyan"))
    console.print(_counts(audit))
    if audit.artefacts:
        console.print(_artefacts(audit))
    if audit.constant:
        console.print(Text(f"the same in all scans: {', '.join(audit.constant)}"))
    for finding in audit.findings:
        console.print(
            Text.assemble((f"{finding.level:>7}  ", COLOURS[finding.level]), finding.sentence)
        )


def _counts(audit: Audit) -> Table:
    """Return a table of scans (and patients) with a row per class and a column per split."""
    splits = [s for s in (*SPLITS, None) if any(c["split"] == s for c in audit.counts)]
    table = Table("class", title="Scans (patients)", title_justify="left")
    for split in splits:
        table.add_column(split or "no split", justify="right")
    for label in (*audit.classes, None):
        cells = {c["split"]: c for c in audit.counts if c["class"] == label}
        if cells:
            texts = [_cell(cells[s]) if s in cells else "–" for s in splits]
            table.add_row(Text(label or "no label"), *texts)
    return table


def _cell(count: dict[str, int]) -> str:
    """Write one count; scans of unknown patients are marked by a question mark."""
    known = f"{count['patients']:,}" if count["patients"] else ""
    unknown = "?" if count["without_patient"] else ""
    return f"{count['scans']:,} ({known}{unknown})"


def _artefacts(audit: Audit) -> Table:
    """Return a table of effects with a row per feature."""
    table = Table(title="What goes with the class, by patient", title_justify="left")
    table.add_column("feature")
    table.add_column("effect", justify="right")
    table.add_column("p", justify="right")
    table.add_column("stands out")
    for label in audit.classes:
        table.add_column(Text(label), justify="right")
    for artefact in audit.artefacts:
        table.add_row(*_row(artefact, audit), style=_style(artefact))
    table.caption = (
        "effect: AUROC (½ nothing, 1 all) or Cramér's V (0 nothing, 1 all); "
        f"p: {audit.permutations:,} permutations, Holm; classes: mean ± sd over patients"
    )
    return table


def _row(artefact: Artefact, audit: Audit) -> list[Text]:
    """Return the cells of one feature."""
    a = artefact.association
    name = a.feature if a.telling is None else f"{a.feature} = {a.telling}"
    effect = f"{'AUROC' if a.numeric else 'V'} {a.effect_size:.2f}"
    cells = [name, effect, f"{artefact.p_value:.4f}", audit.classes[a.stands_out]]
    cells += [_mean_sd(float(m), float(s)) for m, s in zip(a.mean, a.sd, strict=True)]
    cells += [""] * (len(audit.classes) - len(a.mean))
    return [Text(cell) for cell in cells]


def _mean_sd(mean: float, sd: float) -> str:
    """Write ``237 ± 85`` or ``0.012 ± 0.003`` with sensible digits."""
    if mean != mean:  # nan: the class has no readable scan
        return "–"
    size = abs(mean)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 4
    return f"{mean:.{digits}f} ± {sd:.{digits}f}"


def _style(artefact: Artefact) -> str:
    """Return the colour of a row."""
    return COLOURS["warning"] if artefact.level == "warning" else ""
