"""Which methods find lesions: methods × models × lesion types of a study, in Markdown.

    octoscope explain STUDY/runs/RUN --methods all        (each run of it)
    python docs/tables/lesions.py STUDY

Every number is mass on the lesion as a multiple of what a map that is constant over the retina
puts there, with its 95 % interval over patients. In bold: it puts more there than the strongest of
the four null maps (centre, edges, brightness, noise) on the same scans, by the interval of the
paired difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from octoscope.attribution.registry import METHODS
from octoscope.trust.registry import METRICS
from octoscope.trust.scoreboard import BEATS, scoreboard
from octoscope.trust.scores import ANY_LESION, LEAST_PATIENTS, lift_summary, read_scores

CHANCE, METRIC = "retina", "relevance_mass_retina"
NULLS = [name for name, method in METHODS.items() if method.family == "null"]


def lifts(study: Path) -> pd.DataFrame:
    """Return the lift over a map constant over the retina by model, method and lesion type."""
    paths = sorted(study.glob("runs/*/scores.parquet"))
    if not paths:
        raise SystemExit(f"{study}: holds no scores; run octoscope explain on its runs first")
    return pd.concat([_of_run(path.parent) for path in paths], ignore_index=True)


def _of_run(run: Path) -> pd.DataFrame:
    """Return the lifts of one run, and on which the method beats the null maps."""
    scores = read_scores(run / "scores.parquet")
    board = scoreboard(scores, {METRIC: METRICS[METRIC]}, NULLS)
    found = lift_summary(scores, chance=CHANCE).drop(columns="verdict")
    return found.merge(board[["method", "lesion", "verdict"]], on=["method", "lesion"], how="left")


def table(found: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of the table: a row per model and method, best first, nulls last."""
    counts = found.groupby("lesion")["patients"].max()
    usual = sorted(set(counts.index[counts >= LEAST_PATIENTS]) - {ANY_LESION})
    kinds = [ANY_LESION, *usual]  # of fewer patients there is nothing to say
    heads = [f"{name.replace('_', ' ')} ({counts[name]} patients)" for name in kinds]
    yield f"| model | method | {' | '.join(heads)} |"
    yield f"|---|---|{'---:|' * len(kinds)}"
    for model, own in found.groupby("model", sort=False):
        overall = own[own["lesion"] == ANY_LESION].set_index("method")["lift"]
        order = sorted(
            overall.index, key=lambda name: (METHODS[name].family == "null", -overall[name])
        )
        for method in order:
            cells = [_cell(own, method, kind) for kind in kinds]
            yield f"| {model} | {METHODS[method].title} | {' | '.join(cells)} |"


def _cell(own: pd.DataFrame, method: str, kind: str) -> str:
    """Return a lift with its interval, in bold where it beats all nulls."""
    rows = own[(own["method"] == method) & (own["lesion"] == kind)]
    if rows.empty or not np.isfinite(rows.iloc[0]["lift"]):
        return "–"
    row = rows.iloc[0]
    text = f"{row['lift']:.2f}"
    if np.isfinite(row["lift_low"]):  # otherwise it is of one patient
        text += f" [{row['lift_low']:.2f}, {row['lift_high']:.2f}]"
    return f"**{text}**" if row["verdict"] == BEATS else text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    print("\n".join(table(lifts(parser.parse_args().study))))


if __name__ == "__main__":
    main()
