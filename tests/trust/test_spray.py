"""Clusters of maps: found where planted, not found where maps only vary; and what they go with."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from octoscope.errors import OctoscopeError
from octoscope.scans.geometry.zones import ZONES
from octoscope.trust.spray import affinity, find_clusters, small_maps, spectrum
from octoscope.trust.spray_associations import association_words, cluster_associations
from octoscope.trust.spray_meaning import clusters_block, place_shares

SIDE = 32


def spots(centres: np.ndarray, seed: int) -> np.ndarray:
    """Return maps (B, SIDE, SIDE) with a spot each, on a little noise."""
    row, column = np.mgrid[:SIDE, :SIDE]
    down, along = centres[:, 0, None, None], centres[:, 1, None, None]
    spot = np.exp(-((row - down) ** 2 + (column - along) ** 2) / 18)
    noise = np.random.default_rng(seed).random(spot.shape)
    return spot + 0.1 * noise


def planted(groups: int, patients: int = 24, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return maps, patients and the true group: two scans per patient, one group per patient."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 2)
    truth = patient % groups
    middle = np.array([[4, 4], [16, 18], [26, 6]])[truth]
    return spots(middle + rng.normal(0, 1.5, middle.shape), seed), patient, truth


# Maps made small


def test_small_maps_by_hand() -> None:
    maps = np.zeros((1, 4, 4))
    maps[0, :2, :2], maps[0, 3, 3], maps[0, 0, 3] = 1, 4, -7
    np.testing.assert_allclose(small_maps(maps, 2), [[0.5, 0, 0, 0.5]])
    assert small_maps(np.ones((2, 9, 40))).shape == (2, 9 * 16)
    assert small_maps(np.ones((2, 20, 8, 40)), 4).shape == (2, 64)


def test_small_maps_that_say_nothing_are_nan_and_the_rest_does_not_depend_on_them() -> None:
    maps = np.random.default_rng(0).normal(size=(5, 33, 21)).astype(np.float32)
    maps[0], maps[1, 2, 2] = -1, np.nan
    found = small_maps(maps)
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(found[2:].sum(axis=1), 1)
    for b in range(2, 5):
        np.testing.assert_allclose(small_maps(maps[b][None])[0], found[b], rtol=1e-12)
    np.testing.assert_allclose(small_maps(torch.from_numpy(maps[2:]) * 1e-20), found[2:], rtol=1e-5)


# The graph


def test_neighbours_are_of_other_patients_and_both_ways() -> None:
    maps, patient, _ = planted(2)
    joined = affinity(np.sqrt(small_maps(maps)), patient)
    np.testing.assert_array_equal(joined, joined.T)
    assert set(np.unique(joined)) == {0, 1}
    assert not joined[patient[:, None] == patient[None]].any()
    assert joined.sum(axis=1).min() >= 5  # log2 of 24, rounded up


def test_as_many_eigenvalues_are_zero_as_the_graph_has_parts() -> None:
    joined = np.kron(np.eye(3), np.ones((4, 4)) - np.eye(4))
    values, vectors = spectrum(joined)
    np.testing.assert_allclose(values[:3], 0, atol=1e-12)
    np.testing.assert_allclose(values[3:], 4 / 3)  # of a complete graph of 4: n / (n − 1)
    assert vectors.shape == (12, 9)


# Clusters


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(groups: int, seed: int) -> None:
    maps, patient, truth = planted(groups, seed=seed)
    found = find_clusters(small_maps(maps), patient)
    assert found.number == groups
    assert adjusted_rand_score(found.of, truth) == 1
    assert found.stability > 0.9 and found.silhouette > 0.35
    assert (found.scans, found.patients) == (48, 24)


def unstructured(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return maps without groups: noise, noise of patients, or a spot that moves."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(24), 2)
    if kind == "noise":
        return gaussian_filter(rng.normal(size=(48, SIDE, SIDE)), (0, 2, 2)), patient
    if kind == "patients":
        own = gaussian_filter(rng.normal(size=(24, SIDE, SIDE)), (0, 2, 2))[patient]
        return own + 0.3 * gaussian_filter(rng.normal(size=(48, SIDE, SIDE)), (0, 2, 2)), patient
    if kind == "spot":
        return spots(rng.normal(16, 4, (24, 2))[patient] + rng.normal(0, 1, (48, 2)), seed), patient
    return spots(rng.uniform(4, 28, (24, 2))[patient] + rng.normal(0, 1, (48, 2)), seed), patient


@pytest.mark.parametrize("kind", ["noise", "patients", "spot", "anywhere"])
@pytest.mark.parametrize("seed", range(2))
def test_unstructured_maps_are_one_cluster(kind: str, seed: int) -> None:
    maps, patient = unstructured(kind, seed)
    found = find_clusters(small_maps(maps), patient)
    assert found.number == 1 and (found.of == 1).all() and np.isnan(found.stability)


def test_scikit_learn_cuts_the_same_graph_alike() -> None:
    maps, patient, _ = planted(3)
    cells = small_maps(maps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the graph is in three pieces, and it says so
        peer = SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(
            affinity(np.sqrt(cells), patient)
        )
    assert adjusted_rand_score(peer, find_clusters(cells, patient).of) == 1


def test_the_same_seed_gives_the_same_and_empty_maps_are_left_out() -> None:
    maps, patient, _ = planted(2)
    maps[[3, 8]] = 0
    cells = small_maps(maps)
    before = cells.copy()
    one, two = find_clusters(cells, patient, seed=4), find_clusters(cells, patient, seed=4)
    np.testing.assert_array_equal(one.of, two.of)
    np.testing.assert_array_equal(one.embedding, two.embedding)
    assert (one.stability, one.silhouette) == (two.stability, two.silhouette)
    assert (one.of == 0).nonzero()[0].tolist() == [3, 8] and one.scans == 46
    assert np.isnan(one.embedding[[3, 8]]).all() and np.isfinite(one.embedding[0]).all()
    np.testing.assert_array_equal(cells, before)
    sizes = np.bincount(one.of)[1:]
    assert sizes[0] >= sizes[1]


@pytest.mark.parametrize(("scans", "patients"), [(9, 9), (40, 4), (0, 0), (1, 1)])
def test_too_few_are_not_clustered(scans: int, patients: int) -> None:
    maps = spots(np.full((scans, 2), 8.0), 0)
    found = find_clusters(small_maps(maps), np.arange(scans) % max(patients, 1))
    assert found.number == 0 and not found.of.any()
    assert (found.scans, found.patients) == (scans, patients)


# What they go with


def known(truth: np.ndarray, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "upper left corner": np.where(truth == 0, 200.0, 40.0) + rng.normal(0, 9, len(truth)),
            "noise": rng.normal(size=len(truth)),
            "device": np.where(truth == 0, "cirrus", "spectralis"),
            "constant": 3.0,
        }
    )


def test_associations_are_found_by_patient_and_corrected() -> None:
    _, patient, truth = planted(2)
    found = cluster_associations(truth + 1, patient, known(truth), permutations=2000)
    assert [row["feature"] for row in found[1]] == ["device", "upper left corner"] or [
        row["feature"] for row in found[1]
    ] == ["upper left corner", "device"]
    corner = next(row for row in found[1] if row["feature"] == "upper left corner")
    assert corner["effect"] == "AUROC" and corner["effect_size"] == 1
    assert corner["here"] == pytest.approx(200, abs=5) and corner["telling"] is None
    # 2 clusters × 3 features that vary, the least p of 2,000 permutations
    assert corner["p_value"] == pytest.approx(6 / 2001)


def test_what_only_four_patients_show_is_not_significant() -> None:
    truth = np.repeat([0, 1], 20)
    patient = np.repeat([0, 1, 2, 3], 10)  # 20 scans a side, but two patients
    found = cluster_associations(truth + 1, patient, known(truth), permutations=2000)
    assert found == {1: [], 2: []}


def test_associations_in_words() -> None:
    row = {"feature": "noise", "effect": "AUROC", "effect_size": 0.934, "p_value": 0.0004,
           "here": 9.123, "elsewhere": 4.0, "telling": None}  # fmt: skip
    assert association_words(row) == "noise (9.12 against 4; AUROC 0.93, p < 0.001)"
    row |= {"feature": "device", "effect": "Cramér's V", "telling": "cirrus", "here": 0.9,
            "elsewhere": 0.125, "p_value": 0.0123}  # fmt: skip
    assert association_words(row) == "device cirrus (90 % against 12 %; Cramér's V 0.93, p = 0.012)"


def corner_zones(scans: int) -> np.ndarray:
    """Return zones of which the corners are 8 × 8 and the rest is inner retina."""
    zones = np.full((scans, SIDE, SIDE), ZONES.index("inner_retina"), np.uint8)
    zones[:, :8, :8] = zones[:, -8:, :8] = ZONES.index("corners")
    zones[:, :8, -8:] = zones[:, -8:, -8:] = ZONES.index("corners")
    return zones


def test_places_name_the_corner() -> None:
    maps = np.zeros((2, SIDE, SIDE))
    maps[0, 2, 3], maps[0, 16, 16], maps[1, 30, 30] = 3, 1, 1
    found = place_shares(maps, corner_zones(2))
    assert found.loc[0, "upper left corner"] == 0.75 and found.loc[0, "inner retina"] == 0.25
    assert found.loc[1, "lower right corner"] == 1
    np.testing.assert_allclose(found.sum(axis=1), 1)


def block(maps: dict[str, np.ndarray], patient: np.ndarray, truth: np.ndarray, **more: object):
    labels = np.where(truth == 0, "DME", "CNV").tolist()
    return clusters_block(
        maps, labels=labels, patients=patient.astype(str).tolist(),
        rows=(100 + np.arange(len(truth))).tolist(), zones=corner_zones(len(truth)),
        permutations=9000, **more,
    )  # fmt: skip


def test_the_block_of_a_report_says_it_all() -> None:
    maps, patient, truth = planted(2)
    found = block({"cam": maps}, patient, truth, artefacts=known(truth), titles={"cam": "CAM"})
    cam = found["cam"]
    assert cam["sentence"] == "Maps of CAM fall into 2 clusters (48 scans of 24 patients)."
    assert len(cam["embedding"]) == len(cam["cluster_of"]) == 48
    corner = next(one for one in cam["clusters"] if one["classes"] == {"DME": 24})
    assert (corner["scans"], corner["patients"], corner["share"]) == (24, 12, 0.5)
    assert corner["looks_at"]["place"] == "upper left corner"
    own = maps[truth == 0]
    mass = (own[:, :8, :8].sum((1, 2)) / own.sum((1, 2))).mean()
    assert corner["looks_at"]["share"] == pytest.approx(mass)
    assert corner["sentence"].startswith(
        f"Cluster {corner['number']} (24 scans of 12 patients, 100 % DME) looks at the upper left "
        f"corner ({100 * mass:.0f} % of its mass) and goes with: "
    )
    bright, dark = (known(truth)["upper left corner"][truth == k].mean() for k in (0, 1))
    assert (
        f"upper left corner ({bright:.3g} against {dark:.3g}; AUROC 1.00, p < 0.001)"
        in corner["artefacts"]
    )
    assert all(words in corner["sentence"] for words in corner["artefacts"])
    assert len(corner["examples"]) == 6
    assert all(truth[row - 100] == 0 for row in corner["examples"])
    assert len({patient[row - 100] for row in corner["examples"]}) == 6
    assert not any("class" in words for words in corner["artefacts"])
    assert set(cam["by_class"]) == {"DME", "CNV"}
    for name in ("DME", "CNV"):
        alone = cam["by_class"][name]
        assert alone["sentence"] == (
            f"Maps of CAM on {name} show no groups: one cluster (24 scans of 12 patients)."
        )


def test_small_data_says_so() -> None:
    maps, patient, truth = planted(2, patients=4)
    found = block({"cam": maps}, patient, truth)["cam"]
    assert found["clusters"] == [] and found["number"] == 0
    assert found["sentence"] == (
        "Maps of cam: 8 scans of 4 patients are too few to look for clusters; 10 scans and 5 "
        "patients are needed."
    )


def test_artefacts_must_fit() -> None:
    maps, patient, truth = planted(2)
    with pytest.raises(OctoscopeError, match="3 rows of artefacts do not fit 48 scans"):
        block({"cam": maps}, patient, truth, artefacts=known(truth)[:3])
