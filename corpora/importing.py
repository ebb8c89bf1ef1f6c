"""An import as three steps, each of which can be killed at any instant and goes on to the same bytes.

1. *Listing*: the source's candidates are written down once, in order (`import/listing.parquet`), so that a folder which
   changes meanwhile cannot shift the rows.
2. *Parts*: batches of candidates are read, decoded and hashed on all cores; each leaves one part file. A killed worker
   loses the batch in hand.
3. *Merge*: the parts become the manifest, the quarantine list, the label index, the packed array of tiny images and the
   groups of near-duplicates. Everything is computed from the parts alone and written whole or not at all.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpora import grouped
from corpora.contents import write_contents
from corpora.files import load_npy, write_npy, written_whole
from corpora.imaging.decode import PIXEL_LIMIT, UndecodableImage
from corpora.imaging.inspect import TINY_SIDE, Inspection, inspect_file, inspect_pixels
from corpora.imaging.phash import near_duplicate_groups
from corpora.importers import IMPORTERS, Candidate, ImportRefused, ImportRequest, Listing, Scale
from corpora.manifest import (
    CONTENT_FIELDS,
    MANIFEST,
    MANIFEST_SCHEMA,
    OPINION_FIELDS,
    QUARANTINE,
    QUARANTINE_SCHEMA,
    PagedTable,
    write_table,
)
from corpora.opinions import SCHEMA as OPINION_SCHEMA
from corpora.opinions import span, write_opinions

BATCH = 1_024
PACKED = "packed.npy"
MAX_CLASSES = 100_000
_EXAMPLES = 5

LISTING_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("label", pa.string()),
        *OPINION_FIELDS,
        *CONTENT_FIELDS,
    ]
)
_MEASURED = ("size", "width", "height", "sha256", "phash")
PART_SCHEMA = pa.schema(
    [*LISTING_SCHEMA, *(MANIFEST_SCHEMA.field(name).with_nullable(True) for name in (*_MEASURED, "notes"))]
)

Report = Callable[..., None]  # jobs.context.JobContext.report


@dataclass(frozen=True)
class Listed:
    """What step 1 found. root: absolute; has_pixels: the images are already in the packed array; scale: a `Scale`."""

    root: str
    n_candidates: int
    skipped: dict[str, int]
    has_pixels: bool
    label_names: list[str]
    scale: dict[str, Any] | None
    facts: dict[str, Any]


@dataclass
class Imported:
    """What an import amounts to.

    notes: how often what had to be done; unknown_labels: label -> rows it was on; opinions: the facts of the MOS, if
    there is any; contents: of references and source contents, if there is any.
    """

    n_rows: int = 0
    n_quarantined: int = 0
    n_labelled: int = 0
    n_rated: int = 0
    n_duplicate_groups: int = 0
    bytes: int = 0
    is_packed: bool = False
    digest: str = ""
    notes: Counter[str] = field(default_factory=Counter)
    unknown_labels: Counter[str] = field(default_factory=Counter)
    opinions: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """The files of one corpus."""

    directory: Path

    @property
    def work(self) -> Path:
        return self.directory / "import"

    @property
    def listing(self) -> Path:
        return self.work / "listing.parquet"

    def part(self, number: int) -> Path:
        return self.work / f"part-{number:07d}.parquet"

    def pixels(self, number: int) -> Path:
        return self.work / f"pixels-{number:07d}.npy"

    def clean(self) -> None:
        """Drop what a killed writer left half-written."""
        for folder in (self.directory, self.work):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)

    def forget_work(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


def write_listing(place: Place, source: str, request: ImportRequest) -> Listed:
    """Step 1; what an earlier start wrote is kept. Raises ImportRefused for a source that cannot be read."""
    facts = place.work / "listing.json"
    if facts.exists():
        return Listed(**json.loads(facts.read_text()))
    place.work.mkdir(parents=True, exist_ok=True)
    listing = IMPORTERS[source](request)
    n_candidates = write_table(place.listing, LISTING_SCHEMA, _tables_of(listing))
    listed = Listed(
        root=str(listing.root.resolve()),
        n_candidates=n_candidates,
        skipped=dict(sorted(listing.skipped.items())),
        has_pixels=listing.pixels is not None,
        label_names=listing.label_names,
        scale=None if listing.scale is None else vars(listing.scale),
        facts=listing.facts,
    )
    with written_whole(facts) as file:
        file.write(json.dumps(listed.__dict__).encode())
    return listed


def _tables_of(listing: Listing) -> Iterator[pa.Table]:
    while block := list(islice(listing.candidates, BATCH)):
        yield pa.Table.from_pylist([vars(candidate) for candidate in block], schema=LISTING_SCHEMA)


def write_parts(
    place: Place, listed: Listed, *, report: Report, pixel_limit: int = PIXEL_LIMIT, workers: int | None = None
) -> None:
    """Step 2; parts of an earlier start are kept. `report(done, total, unit=…)` may raise to stop."""
    n_batches = -(-listed.n_candidates // BATCH)
    root = Path(listed.root)
    source = load_npy(place.directory / PACKED) if listed.has_pixels else None
    table = PagedTable(place.listing)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for number in range(n_batches):
            start = number * BATCH
            report(start, listed.n_candidates, unit="images", message="Reading and decoding")
            if place.part(number).exists():
                continue
            candidates = [Candidate(**row) for row in table.slice(start, start + BATCH).to_pylist()]
            if source is None:
                inspect = partial(_inspect, root=root, pixel_limit=pixel_limit)
                results = pool.map(inspect, candidates)
            else:
                results = pool.map(inspect_pixels, np.asarray(source[start : start + BATCH]))
            found: list[Inspection | str] = []
            try:
                for place_in_batch, result in enumerate(results, start=1):
                    found.append(result)
                    if place_in_batch % 64 == 0:
                        report(start + place_in_batch)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            _write_part(place, number, candidates, found, keep_pixels=source is None)
    report(listed.n_candidates)


def _inspect(candidate: Candidate, *, root: Path, pixel_limit: int) -> Inspection | str:
    """What the image is, or why it is quarantined."""
    if candidate.problem is not None:
        return candidate.problem
    try:
        return inspect_file(root / candidate.path, pixel_limit=pixel_limit)
    except UndecodableImage as error:
        return error.reason
    except Exception as error:  # one image's damage, in whatever way a decoder shows it, never ends an import
        return f"the decoder gave up: {type(error).__name__}: {error}"


def _write_part(
    place: Place, number: int, candidates: list[Candidate], found: list[Inspection | str], *, keep_pixels: bool
) -> None:
    """The part file is the commit mark: it is written last."""
    good = [result for result in found if isinstance(result, Inspection)]
    if keep_pixels and good and len({(item.height, item.width, item.pixels is None) for item in good}) == 1:
        blocks = [item.pixels for item in good if item.pixels is not None]
        if blocks:
            with written_whole(place.pixels(number)) as file:
                write_npy(file, (len(blocks), *blocks[0].shape), np.uint8, blocks)
    rows = [_part_row(candidate, result) for candidate, result in zip(candidates, found, strict=True)]
    write_table(place.part(number), PART_SCHEMA, [pa.Table.from_pylist(rows, schema=PART_SCHEMA)])


def _part_row(candidate: Candidate, result: Inspection | str) -> dict[str, Any]:
    row = dict(vars(candidate))
    if isinstance(result, str):
        return {**row, "problem": result}
    measured = {name: getattr(result, name) for name in _MEASURED}
    return {**row, **measured, "notes": "; ".join(result.notes) or None}


def _parts(place: Place, listed: Listed, columns: list[str] | None = None) -> Iterator[pa.Table]:
    for number in range(-(-listed.n_candidates // BATCH)):
        yield pq.read_table(place.part(number), columns=columns)


def label_names(place: Place, listed: Listed) -> set[str]:
    """The distinct labels of images that can be read. Raises ImportRefused when they are too many to be classes."""
    names: set[str] = set()
    for table in _parts(place, listed, ["label", "problem"]):
        good = table.filter(pa.compute.is_null(table["problem"]))
        names.update(name for name in good["label"].unique().to_pylist() if name is not None)
        if len(names) > MAX_CLASSES:
            raise ImportRefused(
                f"there are more than {MAX_CLASSES:,} different labels: labels are classes; leave the column out, or "
                "name it otherwise, if it is something else"
            )
    return names


def merge(
    place: Place,
    listed: Listed,
    label_index: Mapping[str, int],
    *,
    report: Report,
    near_duplicates: bool = True,
) -> Imported:
    """Step 3. label_index: class index by label as the source writes it; labels that are not in it are counted.

    Raises ImportRefused when no image can be read; the quarantine list is there nevertheless.
    """
    result = Imported()
    report(0, None, unit="rows", message="Writing the manifest")
    columns = _Columns()
    write_table(
        place.directory / QUARANTINE,
        QUARANTINE_SCHEMA,
        (_quarantined(table, result) for table in _parts(place, listed)),
    )
    good = (_rows(table, label_index, result, columns, report) for table in _parts(place, listed))
    write_table(place.directory / MANIFEST, MANIFEST_SCHEMA, good)
    if not result.n_rows:
        (place.directory / MANIFEST).unlink()
        raise ImportRefused(_why_empty(listed, place))
    result.digest = columns.digest.hexdigest()
    labels = np.concatenate(columns.labels)
    result.n_labelled = int((labels >= 0).sum())
    if result.n_labelled:
        grouped.write_by_value(place.directory, grouped.LABELS, labels)
    _keep_opinions(place, listed, columns, result)
    if columns.has_contents:
        result.contents = write_contents(place.directory).facts()
    result.is_packed = listed.has_pixels or _pack(place, listed, columns, result.n_rows)
    if near_duplicates:
        report(0, None, unit="rows", message="Looking for near-duplicates")
        groups = near_duplicate_groups(np.concatenate(columns.hashes))
        grouped.write_groups(place.directory, grouped.DUPLICATES, [[int(row) for row in group] for group in groups])
        result.n_duplicate_groups = len(groups)
    return result


@dataclass
class _Columns:
    """What the merge needs of all rows at once: 12 bytes a row, and the opinions of the rated ones."""

    labels: list[npt.NDArray[np.int32]] = field(default_factory=list)
    hashes: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    opinions: list[pa.Table] = field(default_factory=list)
    has_contents: bool = False
    digest: Any = field(default_factory=hashlib.sha256)


def _quarantined(table: pa.Table, result: Imported) -> pa.Table:
    bad = table.filter(pa.compute.is_valid(table["problem"]))
    result.n_quarantined += len(bad)
    return pa.table([bad["path"], bad["problem"]], schema=QUARANTINE_SCHEMA)


def _rows(
    table: pa.Table, label_index: Mapping[str, int], result: Imported, columns: _Columns, report: Report
) -> pa.Table:
    """The manifest's rows of one part."""
    good = table.filter(pa.compute.is_null(table["problem"]))
    texts = good["label"].to_pylist()
    labels = [label_index.get(text) if text is not None else None for text in texts]
    result.unknown_labels.update(
        text for text, label in zip(texts, labels, strict=True) if text is not None and label is None
    )
    for note in good["notes"].drop_null().to_pylist():
        result.notes.update(note.split("; "))
    for path, digest in zip(good["path"].to_pylist(), good["sha256"].to_pylist(), strict=True):
        columns.digest.update(f"{path}\0{digest}\n".encode())
    columns.labels.append(np.array([-1 if label is None else label for label in labels], dtype=np.int32))
    columns.hashes.append(good["phash"].to_numpy().astype(np.uint64))
    if len(columns.sizes) < 2:
        columns.sizes.update(zip(good["height"].to_pylist(), good["width"].to_pylist(), strict=True))
    columns.has_contents |= any(good[name].null_count < len(good) for name in ("reference", "group"))
    start = result.n_rows
    result.n_rows += len(good)
    result.bytes += pa.compute.sum(good["size"]).as_py() or 0
    report(result.n_rows)
    made = {"row": pa.array(range(start, result.n_rows), pa.int64()), "label": pa.array(labels, pa.int32())}
    rows = pa.table(
        [made[name] if name in made else good[name] for name in MANIFEST_SCHEMA.names], schema=MANIFEST_SCHEMA
    )
    rated = rows.select(OPINION_SCHEMA.names).filter(pa.compute.is_valid(rows["mos"]))
    if len(rated):
        columns.opinions.append(rated)
    return rows


def _keep_opinions(place: Place, listed: Listed, columns: _Columns, result: Imported) -> None:
    if not columns.opinions:
        return
    table = pa.concat_tables(columns.opinions)
    scale = Scale(**(listed.scale or {}))
    low, high = span(table["mos"].to_numpy(), scale.low, scale.high)
    result.n_rated = write_opinions(place.directory, table, low, high)
    result.opinions = opinion_facts(scale, low, high)


def opinion_facts(scale: Scale, low: float, high: float) -> dict[str, Any]:
    """What `Corpus.facts` keeps of a scale; low, high: its ends, given or found."""
    return {**vars(scale), "low": low, "high": high, "is_given": scale.low is not None}


def _pack(place: Place, listed: Listed, columns: _Columns, n_rows: int) -> bool:
    """Join the pixels of the parts when all images are tiny and of one size."""
    if len(columns.sizes) != 1 or max(next(iter(columns.sizes))) > TINY_SIDE:
        return False
    (height, width) = next(iter(columns.sizes))
    files = [place.pixels(number) for number in range(-(-listed.n_candidates // BATCH))]
    blocks = (load_npy(file) for file in files if file.exists())
    with written_whole(place.directory / PACKED) as file:
        write_npy(file, (n_rows, height, width, 3), np.uint8, blocks)
    return True


def _why_empty(listed: Listed, place: Place) -> str:
    skipped = ", ".join(f"{count:,} {kind}" for kind, count in listed.skipped.items())
    left_out = f"; left out: {skipped}" if skipped else ""
    if not listed.n_candidates:
        return f'"{listed.root}" holds no image{left_out}: check the location, or which source it is'
    first = PagedTable(place.directory / QUARANTINE).slice(0, 1).to_pylist()[0]
    return (
        f'none of the {listed.n_candidates:,} images under "{listed.root}" can be read{left_out}. The first is '
        f'"{first["path"]}": {first["reason"]}. The quarantine list has them all'
    )


def unknown_examples(counts: Counter[str]) -> dict[str, Any]:
    """How many rows kept no label because it is not in the taxonomy, and the most frequent such labels."""
    return {"rows": counts.total(), "examples": [label for label, _ in counts.most_common(_EXAMPLES)]}
