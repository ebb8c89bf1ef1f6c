"""What every importer takes and gives."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

LABELS_FROM = {"": "No", "folder": "The folder an image lies in"}
SPLITS = {"test": "Test", "train": "Training", "both": "Training, then test"}
PHOTOGRAPHS = {"": "A folder or another corpus", "packages": "The photographs inside scikit-image and scikit-learn"}
YES = {"": "No", "yes": "Yes"}


class ImportRefused(ValueError):
    """The source as a whole cannot be imported; the message names it and the way out."""


@dataclass(frozen=True)
class Candidate:
    """One image that may become a row.

    path: relative to the listing's root; label: an index or a name, unresolved; mos: higher = better; mos_std: of the
    ratings; mos_n: how many ratings; reference: path of the pristine image, its own where it is pristine; group: source
    content; level: strength of the distortion, 0 = pristine.
    """

    path: str
    problem: str | None = None
    label: str | None = None
    mos: float | None = None
    mos_std: float | None = None
    mos_n: int | None = None
    reference: str | None = None
    group: str | None = None
    distortion: str | None = None
    level: int | None = None


@dataclass(frozen=True)
class Scale:
    """What a source's opinion scores mean.

    low, high: ends of the scale; None = the lowest and highest score that occur. higher_is_worse: scores of the source
    are turned round (low + high - score) when they are read, so that a corpus always keeps higher = better. source:
    who says so; note: what a reader of the corpus page should know.
    """

    low: float | None = None
    high: float | None = None
    higher_is_worse: bool = False
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ImportRefused("a scale has two ends: give both the lowest and the highest score, or neither")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ImportRefused(f"the scale goes from {self.low:g} to {self.high:g}: the first must be the smaller")
        if self.higher_is_worse and self.low is None:
            raise ImportRefused(
                "scores that are higher for worse images can be turned round only with the scale's ends"
            )

    def oriented(self, score: float) -> float:
        return self.low + self.high - score if self.higher_is_worse else score  # type: ignore[operator]


@dataclass(frozen=True)
class Pristine:
    """One photograph to distort. load: its uint8 pixels (height, width, 3); raises UndecodableImage."""

    name: str
    load: Callable[[], npt.NDArray[np.uint8]]
    credit: str = ""


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may grow to. Sizes are counted while unpacking; what an archive says of itself is not believed.

    ratio: unpacked over packed bytes, judged above `ratio_from` bytes; one hostile entry is left out, an archive that
    is hostile as a whole stops the import.
    """

    file_bytes: int = 512 * 2**20
    total_bytes: int = 500 * 2**30
    entries: int = 20_000_000
    ratio: int = 200
    ratio_from: int = 64 * 2**20


@dataclass(frozen=True)
class Options:
    """How to read a source; the JSON of `Corpus.options`. All are texts; empty = not given.

    labels_from: "folder" takes the name of an image's folder as its label. root: directory that a list's paths are
    relative to; the list's own folder if empty. split: which part of CIFAR and its like. mos_low, mos_high: ends of the
    scale of a list's opinion scores; higher_is_worse: "yes" turns them round. For distorted corpora, corpus: id of the
    corpus of pristine photographs; photographs: "packages" takes those of installed packages; size: "WIDTHxHEIGHT" that
    pictures are scaled down and cropped to; seed: of the noise, a whole number.
    """

    labels_from: str = ""
    root: str = ""
    split: str = "test"
    mos_low: str = ""
    mos_high: str = ""
    higher_is_worse: str = ""
    corpus: str = ""
    photographs: str = ""
    size: str = ""
    seed: str = "0"

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ImportRefused(
                    f'import option {name} is "{value}": choose one of {", ".join(filter(None, allowed))}'
                )
        for name in ("corpus", "seed"):
            value = getattr(self, name)
            if value and not (value.isdecimal() and len(value) < 19):
                raise ImportRefused(f'import option {name} is "{value}": give a whole number from 0 upwards')
        self.scale()
        self.crop()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ImportRefused(
                f'import option "{unknown[0]}" does not exist: there are {", ".join(cls.__dataclass_fields__)}'
            )
        return replace(cls(), **{name: str(value) for name, value in values.items() if value not in ("", None)})

    def scale(self) -> Scale:
        """The scale of a list's opinion scores."""
        low, high = (_number_of(name, getattr(self, name)) for name in ("mos_low", "mos_high"))
        return Scale(low, high, self.higher_is_worse == "yes")

    def crop(self) -> tuple[int, int] | None:
        """(width, height) of `size`."""
        if not self.size:
            return None
        found = re.fullmatch(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", self.size)
        if found is None:
            raise ImportRefused(f'import option size is "{self.size}": write it like 512x384')
        width, height = int(found[1]), int(found[2])
        if min(width, height) < SMALLEST_SIDE:
            raise ImportRefused(f'import option size is "{self.size}": at least {SMALLEST_SIDE} pixels on each side')
        return width, height


_ALLOWED = {"labels_from": LABELS_FROM, "split": SPLITS, "photographs": PHOTOGRAPHS, "higher_is_worse": YES}
SMALLEST_SIDE = 32  # below it the strongest blur and JPEG 2000 leave nothing to judge


def _number_of(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ImportRefused(f'import option {name} is "{text}", which is no number')
    return value


@dataclass(frozen=True)
class ImportRequest:
    """One source to list.

    unpacked: directory for files that come out of archives. pixels: file for images that never were files.
    within: directories that symbolic links may lead into; None trusts every link.
    tick: called with a count, what is counted and, where known, the total; obeys cancel by raising.
    pristine: the photographs to distort, where they are not files in a folder.
    """

    location: Path
    unpacked: Path
    pixels: Path
    options: Options = field(default_factory=Options)
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    within: tuple[Path, ...] | None = None
    tick: Callable[..., None] = lambda count, unit, total=None: None
    pristine: Callable[[], list[Pristine]] | None = None


@dataclass
class Listing:
    """Candidates in their final order. `skipped` fills while `candidates` is walked.

    pixels: uint8 (n, height, width, 3) .npy whose row i is candidate i; then no files are read.
    label_names: names of label 0, 1, ... where the source brings them.
    scale: of the candidates' MOS, where they have any.
    facts: what else the corpus page should say of the source; JSON.
    """

    root: Path
    candidates: Iterator[Candidate]
    skipped: Counter[str] = field(default_factory=Counter)
    pixels: Path | None = None
    label_names: list[str] = field(default_factory=list)
    scale: Scale | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def folder_label(path: str) -> str | None:
    """The name of the folder that the image lies in; None at the root."""
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 else None
