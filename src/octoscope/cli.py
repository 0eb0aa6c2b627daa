"""The command line: `octoscope VERB`. Every option is also a YAML key (``--config FILE``).

Only what a verb needs is imported, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octoscope.options.words import Given

from octoscope import __version__
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.visible import visible

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
    verb, *options = words
    if verb not in VERBS:
        return _fail(
            f'"{verb}" is not a verb{did_you_mean(verb, VERBS)}; the verbs are {", ".join(VERBS)}'
        )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text
    try:
        return _run(verb, options)
    except OctoscopeError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again and it goes on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{os.fsdecode(error.filename)[:300]}: {error.strerror}")


def _fail(sentence: str) -> int:
    """Print one sentence on stderr and return 2."""
    print(f"octoscope: {visible(' '.join(sentence.split()))}", file=sys.stderr)
    return 2


def _run(name: str, words: list[str]) -> int:
    """Read the options of a verb and call it."""
    from octoscope import verbs
    from octoscope.options.show import config_text, help_text
    from octoscope.options.verb import verb_of
    from octoscope.options.words import merge, read_words, require_all

    verb = verb_of(verbs.function_of(name), VERBS[name], verbs.HIDDEN.get(name, ()))
    given = read_words(words, verb)
    if given.wants == "help":
        print(help_text(verb))
        raise SystemExit(0)
    if name == "study":
        _take_study_files(given)
    values = merge(given, verb)
    where = f"{given.configs[-1]}: " if given.configs else ""
    if given.wants == "print_config":
        print(config_text(verb, verb.arguments(values, where)))
        raise SystemExit(0)
    if name == "study":
        _require_study(given, values)
    require_all(values, verb)
    verb.function(**verb.arguments(values, where))
    return 0


def _take_study_files(given: Given) -> None:
    """Take the place of ``octoscope study FILE`` for a file of options."""
    for word in given.places:
        path = Path(word)
        if path.is_dir():
            raise OctoscopeError(
                f"{path} is a folder, not a study file; to study the scans in it, use --data {path}"
            )
        if not path.exists():
            raise OctoscopeError(f"{path}: no such study file; recipes/ holds examples")
    given.configs[:0] = map(Path, given.places)
    given.places.clear()


def _require_study(given: Given, values: Mapping[str, Any]) -> None:
    """Refuse to train on phantoms that nobody asked for."""
    if not given.configs and values.get("data") is None and not values.get("phantom"):
        raise OctoscopeError(
            "a study needs a study file, such as recipes/demo.yaml, or --data FOLDER; "
            "for phantoms without a file, say how many: --phantom.patients 60"
        )
