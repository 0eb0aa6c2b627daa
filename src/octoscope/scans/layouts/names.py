"""What the names of folders, columns and cells mean: splits, eyes, diagnoses, masks, file types."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

SPLIT_STEMS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "development": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "holdout": "test",
    "heldout": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Words that say a split, in lower case, alone or within a name (``Train_set``, ``testImages``)."""

WEAK_SPLITS = {"valid", "dev", "development", "eval", "evaluation"}
"""Words that may as well be a class (``valid`` beside ``invalid``) unless train is beside them."""

FILLERS = {"set", "sets", "data", "dataset", "split", "subset", "folder", "images", "image", "imgs",
           "img", "scans", "scan", "oct", "files", "samples", "the", "of"}  # fmt: skip
"""Words that say nothing beside the name of a split."""

EYES = {
    "OD": "od r re right righteye rightod odright dexter oculusdexter",
    "OS": "os l le left lefteye leftos osleft sinister oculussinister og oi",
}

DIAGNOSES = {
    "cnv", "dme", "drusen", "normal", "normals", "amd", "armd", "namd", "ga", "rvo", "crvo",
    "brvo", "rao", "crao", "brao", "csr", "csc", "cscr", "mh", "erm", "vmt", "vid", "dr",
    "npdr", "pdr", "ped", "cme", "pcv", "rp", "healthy", "control", "controls", "glaucoma",
    "edema", "oedema", "macularhole", "hole", "retinopathy", "retinoschisis", "stargardt",
    "myopia", "uveitis", "abnormal", "disease", "diseased", "pathological", "pathology", "sick",
    "positive", "negative", "mild", "moderate", "severe", "atrophy", "wetamd", "dryamd",
    "hemorrhage", "detachment",
}  # fmt: skip
"""Words by which a folder is known to be a class of retinal scans (others may be, too)."""

MASK_FOLDERS = {"masks", "mask", "maskimages", "labels", "label", "seg", "segs", "segmentation",
                "segmentations", "annotation", "annotations", "annotated", "groundtruth",
                "groundtruths", "gt", "lesionmasks"}  # fmt: skip
"""Folders, as `compact` names them, that hold pictures *of* scans if they mirror scans."""

TECHNICAL = {
    "images", "image", "imgs", "img", "pictures", "pics", "jpg", "jpeg", "jpegs", "png", "pngs",
    "tif", "tiff", "tifs", "tiffs", "bmp", "npy", "raw", "original", "originals", "processed",
    "preprocessed", "scans", "bscans", "frames", "slices", "data", "dataset", "datasets", "oct",
    "octs", "export", "exported", "cropped", "resized",
}  # fmt: skip
"""Folders, as `compact` names them, that say how files are stored, not what they show."""

PATIENT_WORDS = {"p", "pt", "pat", "patient", "patients", "subject", "subj", "sub", "person", "pid",
                 "participant", "case", "id"}  # fmt: skip
CLASS_WORDS = {"class", "cls", "stage", "grade", "level", "category", "cat", "type", "label"}
PASSED_WORDS = {"visit", "session", "timepoint", "week", "month", "year", "volume", "vol", "cube",
                "series", "stack", "acquisition", "exam", "fold", "batch", "part"}  # fmt: skip
"""Words before a number that say what the number counts."""


LONGEST = 255
"""Letters of a name that is looked into; no file system has longer ones."""


def nfc(text: str) -> str:
    """Return text with each accented letter as one character, as most systems write it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def alike(text: str) -> str:
    """Return a key that is equal for names that differ in case, blanks, ``_``, ``-`` and form."""
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", text)).strip().casefold()


def compact(text: str) -> str:
    """Return letters and digits alone, in lower case (``Mask_Images`` → ``maskimages``)."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).casefold()


def words(text: str) -> list[str]:
    """Return the words of a name in lower case (``Train_Set2`` → train, set, 2)."""
    return [word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+", text)]


def split_in(name: str) -> tuple[str, str, tuple[str, ...]] | None:
    """Find the split that a name says.

    Returns:
        The split, the word that said it and the words that are left; None if the name says none,
        or two.
    """
    if len(name) > LONGEST:
        return None
    found: list[str] = []
    rest: list[str] = []
    parts = re.sub(r"(?i)h(old|eld)[\s_\-]+out", "holdout", nfc(name))
    for word in words(parts):
        stem = re.fullmatch(r"([a-z]+?)(set|data|dataset|images|imgs|scans)?", word)
        if stem and stem[1] in SPLIT_STEMS:
            found.append(stem[1])
        elif word not in FILLERS and not word.isdigit():
            rest.append(word)
    said = {SPLIT_STEMS[word] for word in found}
    if said == {"train", "val"}:  # trainval: validation is carved out of it
        return "train", found[0], tuple(rest)
    return (said.pop(), found[0], tuple(rest)) if len(said) == 1 else None


def split_of_cell(text: str) -> str | None:
    """Return the split that a cell says (``VALID``, ``Test set``), or None."""
    found = split_in(text)
    return found[0] if found and not found[2] else None


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Tell which of the folders in one folder are splits.

    What is left of their names beside the split must be the same (``kermany_train`` beside
    ``kermany_test``, but not ``test_positive`` beside ``test_negative``).
    """
    names = set(names)
    found = {name: said for name in names if (said := split_in(name)) is not None}
    if len({rest for _, _, rest in found.values()} - {()}) > 1:
        found = {name: said for name, said in found.items() if not said[2]}
    splits = {split for split, _, _ in found.values()}
    if "train" not in splits and len(found) < len(names):
        found = {name: said for name, said in found.items() if said[1] not in WEAK_SPLITS}
    also_test = any(s == "test" and not w.startswith("eval") for s, w, _ in found.values())
    return {
        name: "val" if also_test and word.startswith("eval") else split
        for name, (split, word, _) in found.items()
    }


def class_and_split(names: Iterable[str]) -> list[str]:
    """Return folders that name a class and a split at once (``AMD_train`` beside ``CNV_test``)."""
    found = {name: said for name in set(names) if (said := split_in(name)) and said[2]}
    splits = {split for split, _, _ in found.values()}
    rests = {rest for _, _, rest in found.values()}
    return sorted(found) if "train" in splits and len(splits) > 1 and len(rests) > 1 else []


def eye_of(text: str) -> str | None:
    """Return OD or OS for any usual way to say it, or None."""
    key = compact(text)
    return next((eye for eye, known in EYES.items() if key in known.split()), None)


def is_technical(name: str) -> bool:
    """Say whether a folder's name tells how files are stored (``images``, ``8bitTIFFs``)."""
    key = compact(name)
    return key in TECHNICAL or re.fullmatch(r"\d+bits?\w*|\d+x\d+", key) is not None


def is_diagnosis(name: str) -> bool:
    """Say whether a name is a known class of retinal scans, without any number in it."""
    return not re.search(r"\d", name) and (
        compact(name) in DIAGNOSES or any(word in DIAGNOSES for word in words(name))
    )


def one_spelling(names: Iterable[str | None]) -> dict[str, str]:
    """Map every class name to one spelling of those that are `alike`: the commonest."""
    seen = Counter(name for name in names if name is not None)
    groups: dict[str, list[str]] = defaultdict(list)
    for name, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0])):
        groups[alike(name)].append(name)
    return {name: nfc(group[0]) for group in groups.values() for name in group}
