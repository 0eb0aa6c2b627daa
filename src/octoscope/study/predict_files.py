"""What a model says of unlabelled scans: files, or arrays in memory, to a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from octoscope.data.decode import Decoded, decode_rows
from octoscope.data.entry import PROCESSES_FROM
from octoscope.data.pool import in_order, usable_cores
from octoscope.errors import OctoscopeError
from octoscope.evaluation.calibration import tempered
from octoscope.evaluation.predict import predict as logits_of
from octoscope.evaluation.predictions import LOGIT, PROBABILITY
from octoscope.files import atomic_path
from octoscope.models.classifier import Classifier
from octoscope.progress import track
from octoscope.scans.framing import Framing
from octoscope.scans.ranges import find_levels
from octoscope.scans.scan import Scan
from octoscope.scans.wording import many

BATCH = 64
SUFFIXES = (".csv", ".parquet")

Frames = Callable[[pd.DataFrame], None]


@dataclass
class Tally:
    """What was predicted.

    Attributes:
        read: Scans that were read.
        faults: Path and reason of every scan that could not be read.
    """

    read: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """Say how many scans were predicted, and how many could not be read."""
        if not self.faults:
            return f"{many(self.read, 'scan')} predicted."
        return f"{many(self.read, 'scan')} predicted; {len(self.faults):,} could not be read."


def predict(
    model: Classifier | Path | str,
    images: Iterable[Path | str | np.ndarray | Scan],
    *,
    temperature: float = 1.0,
    batch_size: int = BATCH,
) -> pd.DataFrame:
    """Return what a classifier says of scans, one row for each, in their order.

    Args:
        model: The classifier, or the folder that it was saved in (``RUN/model``).
        images: Files, or arrays ``(H, W)`` and `Scan` objects in memory.
        temperature: Logits are divided by it for the probabilities; see calibration.
        batch_size: Scans per pass.

    Returns:
        The columns ``path`` (``image 0``, … for arrays), ``predicted``, ``probability_CLASS`` and
        ``logit_CLASS`` for every class in the order of the logits, and ``fault``: why a file
        could not be read, None for all others.

    Raises:
        OctoscopeError: If there are no images, an array is not ``(H, W)``, or the model gives NaN.
    """
    classifier = model if isinstance(model, Classifier) else Classifier.load(Path(model))
    images = list(images)
    if not images:
        raise OctoscopeError("no images to predict; give at least one")
    framing = framing_for(classifier, [Path(one) for one in images if isinstance(one, str | Path)])
    frames: list[pd.DataFrame] = []
    for start in range(0, len(images), batch_size):
        some = images[start : start + batch_size]
        decoded = _decoded(classifier, framing, some)
        names = [
            str(one) if isinstance(one, str | Path) else f"image {start + place}"
            for place, one in enumerate(some)
        ]
        frames.append(frame_of(classifier, names, decoded, temperature=temperature))
    return pd.concat(frames, ignore_index=True)


def predict_files(
    classifier: Classifier,
    paths: Sequence[Path],
    write: Frames,
    *,
    framing: Framing | None = None,
    temperature: float = 1.0,
    batch_size: int = BATCH,
    name: str = "the model",
) -> Tally:
    """Predict scan files batch by batch, with memory for a few batches whatever their number.

    Args:
        classifier: The model.
        paths: The files; one that stands twice is predicted twice.
        write: Takes the rows of each batch, as `predict` gives them.
        framing: How scans are brought into the frame; by default as the model's own were.
        temperature: Logits are divided by it for the probabilities.
        batch_size: Scans per pass.
        name: What to call the model in messages.

    Raises:
        OctoscopeError: If the model gives NaN, or the disk is full.
    """
    if batch_size < 1:
        raise OctoscopeError(f"batch_size: {batch_size} is no number of scans; use 1 or more")
    if torch.cuda.is_available():
        classifier = classifier.to("cuda")
    tally = Tally()
    framing = framing or framing_for(classifier, paths)
    pairs = [(path, None) for path in paths]
    workers = usable_cores()
    processes = framing.mode == "band" and workers > 1 and len(paths) >= PROCESSES_FROM
    rows = in_order(
        partial(decode_rows, framing=framing), pairs, workers=workers, processes=processes
    )
    with closing(rows):
        seen = track(rows, f"predict with {name}", len(paths))
        for start in range(0, len(paths), batch_size):
            decoded = list(islice(seen, batch_size))
            names = [str(path) for path in paths[start : start + batch_size]]
            frame = frame_of(classifier, names, decoded, temperature=temperature, name=name)
            faults = [(path, row.fault) for path, row in zip(names, decoded, strict=True)]
            tally.faults += [(path, fault) for path, fault in faults if fault]
            tally.read += sum(not fault for _, fault in faults)
            write(frame)
        list(seen)  # the bar ends
    return tally


def framing_for(classifier: Classifier, paths: Sequence[Path]) -> Framing:
    """Return the model's framing, with grey levels for files of a kind it was not trained on.

    Of such kinds (more than 8 bits, fractions) the model knows no rule; it is found over all of
    these files, as for a table, and not for each alone.
    """
    own = classifier.preprocess.framing
    return replace(own, levels=find_levels(paths, own.levels))


def frame_of(
    classifier: Classifier,
    names: Sequence[str],
    decoded: Sequence[Decoded] | Sequence[np.ndarray],
    *,
    temperature: float = 1.0,
    name: str = "the model",
) -> pd.DataFrame:
    """Return the rows of some scans; those that could not be read say why and nothing else.

    Args:
        classifier: The model.
        names: What each is called.
        decoded: Each as it was read, or its pixels in the model's frame.
        temperature: Logits are divided by it for the probabilities.
        name: What to call the model in messages.
    """
    classes = classifier.classes
    images = [one.image if isinstance(one, Decoded) else one for one in decoded]
    faults = [one.fault or None if isinstance(one, Decoded) else None for one in decoded]
    there = [place for place, image in enumerate(images) if image is not None]
    logits = np.full((len(names), len(classes)), np.nan)
    probabilities = logits.copy()
    predicted: list[str | None] = [None] * len(names)
    if there:
        pixels = np.stack([image for image in images if image is not None])
        logits[there] = logits_of(classifier, pixels, len(there), name=name, quiet=True)
        probabilities[there] = tempered(logits[there], temperature)
        for place in there:
            predicted[place] = classes[int(logits[place].argmax())]
    return pd.DataFrame(
        {
            "path": list(names),
            "predicted": pd.Series(predicted, dtype=object),
            **{PROBABILITY + c: probabilities[:, k] for k, c in enumerate(classes)},
            **{LOGIT + c: logits[:, k] for k, c in enumerate(classes)},
            "fault": pd.Series(faults, dtype=object),
        }
    )


@contextmanager
def writing(out: Path | None) -> Iterator[Frames]:
    """Give a function that writes rows to a CSV or Parquet file, or as CSV to standard output.

    A file is there when the block has ended well, and untouched otherwise.

    Raises:
        OctoscopeError: If the suffix is neither, or the disk refuses.
    """
    if out is None:
        yield _Csv(sys.stdout.write)
        return
    require_suffix(out)
    with atomic_path(out) as temporary:
        if out.suffix.lower() == ".parquet":
            with _Parquet(temporary) as parquet:
                yield parquet
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield _Csv(file.write)


def require_suffix(out: Path) -> None:
    """Refuse a file that is neither CSV nor Parquet.

    Raises:
        OctoscopeError: If it is neither, or a folder.
    """
    if out.is_dir():
        raise OctoscopeError(f"{out}: is a folder; name a file that ends in .csv or .parquet")
    if out.suffix.lower() not in SUFFIXES:
        raise OctoscopeError(f"{out}: is neither CSV nor Parquet; end it in .csv or .parquet")


class _Csv:
    """Write rows as CSV, the header before the first of them."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write, self.begun = write, False

    def __call__(self, frame: pd.DataFrame) -> None:
        self.write(frame.to_csv(index=False, header=not self.begun, lineterminator="\n"))
        self.begun = True


class _Parquet:
    """Write rows as Parquet, a row group for each batch."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        with self.file:
            if self.writer is not None:
                self.writer.close()

    def __call__(self, frame: pd.DataFrame) -> None:
        text = {"path", "predicted", "fault"}
        schema = pa.schema(
            [(name, pa.string() if name in text else pa.float64()) for name in frame.columns]
        )
        rows = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.file, schema)
        self.writer.write_table(rows)


def _decoded(
    classifier: Classifier, framing: Framing, images: Sequence[Path | str | np.ndarray | Scan]
) -> list[Decoded] | list[np.ndarray]:
    """Read and frame some images; files that fail say why, arrays raise."""
    out: list[Decoded | np.ndarray] = []
    for one in images:
        if isinstance(one, str | Path):
            out += decode_rows([(Path(one), None)], framing)
        else:
            framed = classifier.prepare([one])[0, 0]  # (H, W) in [0, 1]
            out.append((framed * 255).round().byte().numpy())
    return out  # type: ignore[return-value]
