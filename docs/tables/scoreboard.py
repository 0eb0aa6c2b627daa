"""The scoreboards of an examined study in Markdown: models × methods, headline metrics.

    octoscope trust STUDY/runs/RUN STUDY/runs/OTHER
    python docs/tables/scoreboard.py STUDY

In bold: better than the strongest null map on the same scans, by the interval of the difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octoscope.files import read_json
from octoscope.trust.scoreboard import BEATS
from octoscope.trust.scores import ANY_LESION

ARROWS = {True: " ↑", False: " ↓", None: ""}


def table(cards: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table, the methods of a model in the order of its ranking."""
    heads = {name: about for card in cards for name, about in card["metrics"].items()
             if about["headline"]}  # fmt: skip
    titles = [about["title"] + ARROWS[about["higher_is_better"]] for about in heads.values()]
    yield f"| model | method | {' | '.join(titles)} |"
    yield f"|---|---|{'---:|' * len(heads)}"
    for card in cards:
        board = {
            (row["method"], row["metric"]): row
            for row in card["scoreboard"]
            if row["lesion"] == ANY_LESION
        }
        for row in card["ranking"]:
            method = card["methods"][row["method"]]
            aside = " (set aside)" if row["gated"] and not method["null"] else ""
            cells = [_cell(board.get((row["method"], name))) for name in heads]
            yield f"| {card['model']} | {method['title']}{aside} | {' | '.join(cells)} |"


def _cell(row: dict[str, Any] | None) -> str:
    """Return a value with its interval, in bold where it beats the nulls."""
    if row is None or row["value"] is None:
        return "–"
    text = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    return f"**{text}**" if row["verdict"] == BEATS else text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    paths = sorted(parser.parse_args().study.glob("runs/*/trust.json"))
    print("\n".join(table([read_json(path) for path in paths])))


if __name__ == "__main__":
    main()
