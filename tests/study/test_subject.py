"""What the probes are shown of a study: all of a small one, a sample of a large one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from octoscope.data.cache import ScanCache
from octoscope.study import retinas, subject
from octoscope.trust.probes import run as probes
from octoscope.trust.probes.metadata import HISTORY, acquisition_numbers

from .conftest import Study


def seen_of(cache: ScanCache) -> subject.Subject:
    return subject.subject_of(
        cache,
        lambda images: np.zeros((len(images), 2), np.float32),
        cache.table.classes,
        split="train",
        training=cache,
    )


def with_visits(cache: ScanCache) -> ScanCache:
    """Give every patient two visits, on days 3 and 9."""
    frame = cache.table.frame
    visits = 3 + 6 * frame.groupby("patient").cumcount()
    return replace(cache, table=replace(cache.table, frame=frame.assign(visit=visits)))


def test_all_of_a_small_split(small_study: Study) -> None:
    cache = ScanCache.open(small_study.folder / "cache")
    scans = seen_of(cache).scans
    assert scans is subject.split_of(cache, "train") and scans.drawn_from == 0


def test_a_sample_of_a_large_one(small_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MOST_SCANS", 8)
    monkeypatch.setattr(subject, "LEAST_SCANS", 1)
    cache = with_visits(ScanCache.open(small_study.folder / "cache"))
    whole, scans = subject.split_of(cache, "train"), seen_of(cache).scans
    assert len(scans) == 8 and scans.drawn_from == len(whole) > 8
    assert np.bincount(scans.targets).tolist() == [4, 4], "as many of every class"
    assert len(set(scans.patients)) == 8, "no patient twice before all came once"
    # Visits are counted before the sample is drawn: half of those drawn may be second ones.
    paths = whole.frame["path"].tolist()
    places = [paths.index(path) for path in scans.frame["path"]]
    expected = np.array([whole.frame.groupby("patient").cumcount().iloc[p] for p in places])
    names, numbers = acquisition_numbers(scans.frame)
    assert names == [HISTORY]
    np.testing.assert_array_equal(numbers[:, 0], expected)
    assert set(expected) == {0, 1}
    np.testing.assert_array_equal(scans.images, whole.images[places])


def test_a_sample_is_said_in_every_finding(
    small_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "MOST_SCANS", 8)
    monkeypatch.setattr(subject, "LEAST_SCANS", 1)
    found = probes.probe_model(seen_of(ScanCache.open(small_study.folder / "cache")), ["metadata"])
    (one,) = found
    assert "8 of 28 scans were asked" in one.sentence and one.details["drawn_from"] == 28
    assert "; 16 of 56 scans)" in one.sentence, "training and examined scans"


def test_retinas_are_found_once_for_all(
    small_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    find = retinas.segment_retina
    monkeypatch.setattr(retinas, "segment_retina", lambda image: (looked.append(1), find(image))[1])
    cache = ScanCache.open(small_study.folder / "cache")
    some = retinas.retinas_of(cache, np.array([3, 1]))
    every = retinas.retinas_of(cache, np.arange(5))
    assert len(looked) == 5 and every[3] is some[0] and every[1] is some[1]
    np.testing.assert_array_equal(every[0].ilm, find(cache.images[0]).ilm)
