"""What every importer takes and gives."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

LABELS_FROM = {"": "No", "folder": "The folder an image lies in"}
SPLITS = {"test": "Test", "train": "Training", "both": "Training, then test"}


class ImportRefused(ValueError):
    """The source as a whole cannot be imported; the message names it and the way out."""


@dataclass(frozen=True)
class Candidate:
    """One image that may become a row. path: relative to the listing's root; label: an index or a name, unresolved."""

    path: str
    problem: str | None = None
    label: str | None = None
    mos: float | None = None
    reference: str | None = None
    group: str | None = None


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
    """How to read a source; the JSON of `Corpus.options`.

    labels_from: "folder" takes the name of an image's folder as its label. root: directory that a list's paths are
    relative to; the list's own folder if empty. split: which part of CIFAR.
    """

    labels_from: str = ""
    root: str = ""
    split: str = "test"

    def __post_init__(self) -> None:
        for name, value, allowed in (("labels_from", self.labels_from, LABELS_FROM), ("split", self.split, SPLITS)):
            if value not in allowed:
                raise ImportRefused(
                    f'import option {name} is "{value}": choose one of {", ".join(filter(None, allowed))}'
                )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ImportRefused(
                f'import option "{unknown[0]}" does not exist: there are {", ".join(cls.__dataclass_fields__)}'
            )
        return replace(cls(), **{name: str(value) for name, value in values.items() if value})


@dataclass(frozen=True)
class ImportRequest:
    """One source to list.

    unpacked: directory for files that come out of archives. pixels: file for images that never were files.
    within: directories that symbolic links may lead into; None trusts every link.
    tick: called with a count and what is counted; obeys cancel by raising.
    """

    location: Path
    unpacked: Path
    pixels: Path
    options: Options = field(default_factory=Options)
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    within: tuple[Path, ...] | None = None
    tick: Callable[[int, str], None] = lambda count, unit: None


@dataclass
class Listing:
    """Candidates in their final order. `skipped` fills while `candidates` is walked.

    pixels: uint8 (n, height, width, 3) .npy whose row i is candidate i; then no files are read.
    label_names: names of label 0, 1, ... where the source brings them.
    """

    root: Path
    candidates: Iterator[Candidate]
    skipped: Counter[str] = field(default_factory=Counter)
    pixels: Path | None = None
    label_names: list[str] = field(default_factory=list)


def folder_label(path: str) -> str | None:
    """The name of the folder that the image lies in; None at the root."""
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 else None
