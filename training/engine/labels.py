"""Labelled rows, as training reads them: a table of labels, and the pixels that belong to them.

Edition table: one row per label of an image. Scale: the ratings of one campaign or data set; only labels of one scale
can be compared. Group: rows of the same content, which are never on two sides of a split. Origin: "base" for the labels
a set began with, "found" for those of images that a competition selected.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpora.imaging.decode import UndecodableImage
from models_zoo.adapters.spec import Preprocessing
from models_zoo.engine.rows import RowSource

Split = Literal["train", "val", "test"]
Origin = Literal["base", "found"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
ORIGINS: tuple[Origin, ...] = ("base", "found")
NO_LABEL = -1
CACHE_BYTES = 512 * 2**20

SCHEMA = pa.schema(
    [
        pa.field("corpus", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # "corpus:3", "campaign:12", "scores:5@3"
        pa.field("origin", pa.string(), nullable=False),
        pa.field("scale", pa.int32(), nullable=False),
        pa.field("mos", pa.float64()),  # 0..100, higher = better; null for classes
        pa.field("std", pa.float64()),  # of the ratings, on the same scale; null unknown, 0 for pseudo-ratings
        pa.field("n", pa.int32()),  # ratings
        pa.field("label", pa.int32()),  # class; null for quality
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)


class LabelsError(ValueError):
    """Labels that nothing can be learnt from, or an image that cannot be read; the message says what to do."""


@dataclass(frozen=True)
class LabelledRows:
    """Some rows of an edition, as columns of (n,).

    indices: places in the edition, what `LabelledData.pixels` takes. mos, std: NaN where null; n: 0 and label: -1 where
    null. The others as in `SCHEMA`; texts are objects.
    """

    indices: npt.NDArray[np.int64]
    corpus: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    path: npt.NDArray[Any]
    source: npt.NDArray[Any]
    origin: npt.NDArray[Any]
    scale: npt.NDArray[np.int32]
    mos: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    n: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    group: npt.NDArray[Any]
    split: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.indices)

    def where(self, chosen: npt.NDArray[Any]) -> Self:
        """The rows at these places, or where a mask holds."""
        return type(self)(*(getattr(self, field.name)[chosen] for field in fields(self)))


class LabelledData:
    """An edition with its images. Safe to share between threads.

    table: of `SCHEMA`; sources: where the images of each corpus come from, by its id. Decoded images are kept until
    `cache_bytes` are full; then the others are decoded each time they are asked for, which for batches drawn at random
    is as good as any other choice. n_classes: of the label space; None takes those that the labels speak of.
    """

    def __init__(
        self,
        table: pa.Table,
        sources: Mapping[int, RowSource],
        *,
        cache_bytes: int = CACHE_BYTES,
        name: str = "",
        n_classes: int | None = None,
    ) -> None:
        missing = sorted(set(table["corpus"].unique().to_pylist()) - set(sources))
        if missing:
            raise LabelsError(f"the labelled set speaks of corpus {missing[0]}, but its images were not given")
        self.name = name
        self._table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks()
        self._sources = dict(sources)
        self._n_classes = n_classes
        self._limit = cache_bytes
        self._kept: dict[tuple[int, int, Any], npt.NDArray[np.uint8]] = {}
        self._bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows."""
        return table_digest(self._table)

    @property
    def task(self) -> Literal["quality", "classification"]:
        return "quality" if self._table["label"].null_count == len(self) else "classification"

    @property
    def n_classes(self) -> int:
        """How many classes a classifier of these labels has; 0 of opinion scores."""
        return self._n_classes or int(self._all.label.max(initial=NO_LABEL)) + 1

    @cached_property
    def _all(self) -> LabelledRows:
        columns = {name: self._table[name] for name in SCHEMA.names}
        columns["n"], columns["label"] = columns["n"].fill_null(0), columns["label"].fill_null(NO_LABEL)
        arrays = {name: np.array(column.to_numpy()) for name, column in columns.items()}
        return LabelledRows(indices=np.arange(len(self)), **arrays)

    def rows(self, split: Split | None = None, origin: Origin | None = None) -> LabelledRows:
        """The rows of a split and of an origin; None: all of them."""
        chosen = np.ones(len(self), np.bool_)
        if split is not None:
            chosen &= self._all.split == split
        if origin is not None:
            chosen &= self._all.origin == origin
        return self._all.where(chosen)

    def require(self, split: Split, origin: Origin | None = None, *, least: int = 1) -> LabelledRows:
        """As `rows`. Raises LabelsError when there are fewer than `least`."""
        found = self.rows(split, origin)
        if len(found) < least:
            which = f"{split} split" + (f' of origin "{origin}"' if origin else "")
            raise LabelsError(
                f"{self.name or 'the labelled set'} has {len(found)} rows in its {which}, {least} are needed: add "
                "sources, or choose other fractions or another seed"
            )
        return found

    def pixels(self, index: int, preprocessing: Preprocessing | None = None) -> npt.NDArray[np.uint8]:
        """The image of a row, upright RGB: uint8 (H, W, 3), not to be written to.

        preprocessing: resized and cropped as this says. Raises LabelsError where it cannot be read or decoded.
        """
        corpus, row = int(self._all.corpus[index]), int(self._all.row[index])
        key = (corpus, row, preprocessing.geometry if preprocessing else None)
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        pixels = self._decoded(index, corpus, row)
        if preprocessing is not None:
            from models_zoo.engine.decode import fit  # loads numba, which web processes do without

            pixels = fit(pixels, preprocessing)
        pixels = np.ascontiguousarray(pixels)
        pixels.flags.writeable = False
        with self._lock:
            if key not in self._kept and self._bytes + pixels.nbytes <= self._limit:
                self._kept[key] = pixels
                self._bytes += pixels.nbytes
        return pixels

    def _decoded(self, index: int, corpus: int, row: int) -> npt.NDArray[np.uint8]:
        from models_zoo.engine.decode import pixels_of

        try:
            return pixels_of(self._sources[corpus].read(range(row, row + 1))[0])
        except UndecodableImage as error:
            raise LabelsError(
                f'image "{self._all.path[index]}" of corpus {corpus} cannot be trained on: {error.reason}: put the '
                "file back as it was at the import, or make an edition without it"
            ) from error


def table_digest(table: pa.Table) -> str:
    """SHA-256 of the rows of a table of `SCHEMA`, whatever file they came from."""
    digest = hashlib.sha256()
    for name in SCHEMA.names:
        column = table[name].cast(SCHEMA.field(name).type)
        digest.update(f"{name}:{column.null_count}:".encode())
        if pa.types.is_string(column.type):
            digest.update("\0".join(column.to_pylist()).encode())
        else:
            filled = column.fill_null(pa.scalar(-1, column.type))
            digest.update(np.ascontiguousarray(filled.to_numpy()).tobytes())
            digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
    return digest.hexdigest()


def read_table(file: Path) -> pa.Table:
    """The rows of an edition's file. Raises LabelsError where it is missing or no edition."""
    try:
        return pq.read_table(file, schema=SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise LabelsError(f'the edition file "{file.name}" cannot be read: {error}') from error
