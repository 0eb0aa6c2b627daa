"""The command line: `octoscope VERB`. Every option is also a YAML key (``--config FILE``).

Only what a verb needs is imported, so that ``--help`` answers at once.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

from octoscope import __version__
from octoscope.errors import OctoscopeError, did_you_mean

VERBS = {
    "phantom": "write a synthetic study with lesion masks",
    "check": "audit a folder of scans: splits, duplicates, artefacts that give a class away",
    "train": "train one model, once per seed",
    "evaluate": "metrics with intervals, also on scans from elsewhere; opening test is recorded",
    "predict": "classes and probabilities of unlabelled scans, as CSV or Parquet",
    "explain": "attribution maps and panels",
    "trust": "whether maps and models can be believed: scoreboard, shortcut probes, verdict",
    "study": "all stages from scans to report.html, resumable",
    "report": "rebuild the report of a study",
}

USAGE = """octoscope {version}: train classifiers on retinal OCT, show what they look at,
and measure whether that can be believed. Not a medical device.

usage: octoscope VERB [options]      octoscope VERB --help

{verbs}

Start with `octoscope check FOLDER`, then `octoscope study recipes/demo.yaml --data FOLDER`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, or 2 for a fault the user can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        verbs = "\n".join(f"  {verb:<10}{does}" for verb, does in VERBS.items())
        print(USAGE.format(version=__version__, verbs=verbs))
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    verb, *options = (_with_underscores(word) for word in words)
    if verb not in VERBS:
        return _fail(
            f'"{verb}" is not a verb{did_you_mean(verb, VERBS)}; the verbs are {", ".join(VERBS)}'
        )
    try:
        return _run(verb, options)
    except OctoscopeError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again and it goes on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _with_underscores(word: str) -> str:
    """Turn ``--on-overlap=x-y`` into ``--on_overlap=x-y``: both spellings are understood."""
    if not word.startswith("--"):
        return word
    key, *value = word[2:].split("=", 1)
    return "--" + "=".join([key.replace("-", "_"), *value])


def _fail(sentence: str) -> int:
    """Print one sentence on stderr and return 2."""
    print(f"octoscope: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def _places_first(words: Sequence[str], parser: ArgumentParser) -> list[str]:
    """Move the words that belong to no option to the front, in their order.

    argparse gives a list, such as the scans of ``explain``, only what stands together: without
    this, ``explain RUN --target DME scan.png`` would fail.
    """
    places: list[str] = []
    options: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            places += left
        elif not word.startswith("-") or word == "-":
            places.append(word)
        else:
            options.append(word)
            action = parser._option_string_actions.get(word)
            if "=" not in word and (action is None or action.nargs != 0):
                options += itertools.islice(left, 1)
    return [*places, *options]


def _run(verb: str, options: list[str]) -> int:
    """Parse the options of a verb and call it."""
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser

    from octoscope import verbs

    parser = ArgumentParser(
        prog=f"octoscope {verb}",
        description=VERBS[verb].capitalize() + ".",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    work = verbs.add_options(verb, parser)
    if verb == "study" and options and not options[0].startswith("-"):
        if not Path(options[0]).is_file():
            return _fail(f"{options[0]}: no such study file; recipes/ holds examples")
        options = ["--config", *options]
    try:
        ordered = _places_first(options, parser)
        values = parser.instantiate(parser.parse_args(ordered)).as_dict()
    except ArgumentError as error:
        return _fail(f"{error}; see `octoscope {verb} --help`")
    values.pop("config", None)
    work(values)
    return 0
