"""Scoring quality: every row of a corpus through several networks and classical measures, each image decoded once.

Images stay whole and keep their size, so the images of one batch must happen to be of one size: those of a shard are
sorted into *buckets* by (height, width), and a bucket runs when it is full, when too many pixels wait, or when the
shard ends. Measures take the images one by one, on the threads that decode. Which images share a batch depends on
nothing but the rows, the shard and the geometry, never on threads or on who else is being scored: an interrupted
scoring, taken up again, writes the bytes that an undisturbed one would have written.

A row without a score is NaN, and its store says why: not decoded, too small, no reference, no finite score.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from corpora.imaging.decode import UndecodableImage
from models_zoo.adapters.load import one_thread
from models_zoo.adapters.measure import measure_of
from models_zoo.adapters.rater import Rater, RunFailed, TooSmall, load_rater, too_small
from models_zoo.adapters.spec import Preprocessing, VersionRefused, VersionSpec
from models_zoo.engine.decode import fit, pixels_of
from models_zoo.engine.rows import RowSource
from models_zoo.engine.scores import ScoreHeader, ScoreStore
from models_zoo.engine.work import (
    Batch,
    Cancelled,
    Progress,
    ScoringCancelled,
    ScoringReport,
    batches,
    cores,
    in_order,
    n_finished,
)
from models_zoo.metrics import Measure, MetricCard, UnsuitableImage

SHARD_SIZE = 256
_ROWS_PER_TASK = 4  # read, decoded and measured together
# On a CPU, where batches beyond a few small images were seen to gain nothing and to spoil caches; and on a device.
_PIXELS_PER_BATCH = {True: 4 * 224 * 224, False: 256 * 224 * 224}
_LARGEST_BATCH = 64
_PIXELS_WAITING = {True: 24_000_000, False: 96_000_000}  # in the buckets of one geometry, three bytes each
_REFERENCE_BYTES = 256 * 2**20
_LARGEST = float(np.finfo(np.float32).max)

Geometry = tuple[object, ...]
Size = tuple[int, int]


@dataclass(frozen=True)
class _Measured:
    """A registered measure, ready to be called."""

    card: MetricCard
    call: Measure


@dataclass(frozen=True, eq=False)
class _Entry:
    """A version on its way: what scores it, and where its scores go."""

    spec: VersionSpec
    runs: Rater | _Measured
    store: ScoreStore

    @property
    def geometry(self) -> Geometry:
        return self.spec.preprocessing.geometry

    @property
    def is_network(self) -> bool:
        return isinstance(self.runs, Rater)


@dataclass
class _Looked:
    """One row after decoding: pixels by geometry for the networks, what each measure said, or why there is nothing."""

    row: int
    pixels: dict[Geometry, np.ndarray] = field(default_factory=dict)
    measured: list[tuple[_Entry, float | str]] = field(default_factory=list)
    failure: str | None = None


class _Column:
    """The scores of one version on one shard while they are made."""

    def __init__(self, rows: range) -> None:
        self.first = rows.start
        self.values = np.full(len(rows), np.nan, np.float32)
        self.problems: dict[int, str] = {}

    def put(self, row: int, score: float | str) -> None:
        """A score, or why there is none."""
        if isinstance(score, str):
            self.problems[row] = score
        elif abs(score) > _LARGEST:
            self.problems[row] = "the score is beyond what 32 bits hold"
        else:
            self.values[row - self.first] = score


def score_quality(
    rows: RowSource,
    specs: Sequence[VersionSpec],
    out_dirs: Sequence[Path],
    *,
    references: np.ndarray | None = None,
    shard_size: int = SHARD_SIZE,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    device: str = "cpu",
    threads: int | None = None,
    cache_dir: Path | None = None,
    largest_batch: int = _LARGEST_BATCH,
) -> ScoringReport:
    """Score all rows with all quality versions into one store each, going on where earlier calls stopped.

    `references`: (n_rows,) the row of each row's pristine reference, negative where it has none; None: nobody has one.
    `progress`, `cancelled`, `device`, `threads`, `cache_dir`: as in `models_zoo.engine.run.score`. `largest_batch`:
    images of one size that a network sees at once at most.
    Raises ScoringCancelled; VersionRefused, MetricError, ScoreStoreError and DiskFull with their reasons.
    """
    if len(specs) != len(out_dirs):
        raise ValueError(f"{len(specs)} versions need as many folders, not {len(out_dirs)}")
    started = time.monotonic()
    with one_thread():
        entries = [
            _open(rows, spec, folder, shard_size=shard_size, device=device, cache_dir=cache_dir)
            for spec, folder in zip(specs, out_dirs, strict=True)
        ]
        total, kept = len(rows) * len(entries), n_finished(entries)
        run = _Run(rows, references, device=device, threads=threads or cores(), largest_batch=largest_batch)
        failures: dict[int, str] = {}
        done = kept
        for count, problems in run(entries):
            done += count
            failures |= problems
            if progress:
                progress(done, total)
            if cancelled and cancelled():
                raise ScoringCancelled(f"stopped after {done:,} of {total:,} scores; finished shards are kept")
        for entry in entries:
            entry.store.assemble()
    return ScoringReport(
        n_scored=done - kept,
        n_kept=kept,
        seconds=time.monotonic() - started,
        backends=tuple(entry.store.header.backend for entry in entries),
        failures=failures,
    )


def _open(
    rows: RowSource, spec: VersionSpec, folder: Path, *, shard_size: int, device: str, cache_dir: Path | None
) -> _Entry:
    if not spec.is_quality:
        raise VersionRefused(f'"{spec.label}" gives classes, not a quality score: score it as a classifier')
    runs: Rater | _Measured
    if spec.kind == "metric":
        runs = _Measured(*measure_of(spec))
        backend = f"numpy {np.__version__}"
    else:
        runs = load_rater(
            spec, device=device, cache_dir=cache_dir, n_images=len(rows), probe=_probe(rows, spec.preprocessing)
        )
        backend = runs.backend
    header = ScoreHeader(
        n_rows=len(rows),
        shard_size=shard_size,
        n_classes=0,
        version=spec.fingerprint(),
        corpus=rows.digest,
        backend=backend,
        kind="values",
    )
    return _Entry(spec, runs, ScoreStore.create(folder, header))


def _probe(rows: RowSource, preprocessing: Preprocessing) -> np.ndarray | None:
    """The first decodable image among the first rows, as the network will see it: (1, H, W, 3)."""
    for image in rows.read(range(min(_ROWS_PER_TASK, len(rows)))):
        try:
            return fit(pixels_of(image), preprocessing)[None]
        except UndecodableImage:
            continue
    return None


class _Run:
    """One pass over the rows that some version lacks."""

    def __init__(
        self, rows: RowSource, references: np.ndarray | None, *, device: str, threads: int, largest_batch: int
    ) -> None:
        self.rows = rows
        self.references = references
        self.on_cpu = device == "cpu"
        self.threads = threads
        self.largest_batch = largest_batch
        self.known = _References(rows)

    def __call__(self, entries: Sequence[_Entry]) -> Iterator[tuple[int, dict[int, str]]]:
        """Yields (pairs done, a reason by row) as it goes; a shard is on disk when its last pair is yielded."""
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as executor:
            looked = in_order(executor, self._look, batches(entries, _ROWS_PER_TASK), window=self.threads + 1)
            columns: dict[_Entry, _Column] = {}
            queue = _Queue(executor if self.on_cpu else None, limit=self.threads + 1)
            buckets: dict[Geometry, _Buckets] = {}
            for batch, images in looked:
                for entry in batch.entries if not columns else ():
                    columns[entry] = _Column(entry.store.header.rows_of(batch.shard))
                done = _note(images, batch.entries, columns)
                for geometry, networks in _networks(batch.entries).items():
                    waiting = buckets.setdefault(geometry, self._buckets())
                    full = waiting.add((look.row, look.pixels[geometry]) for look in images if not look.failure)
                    for group in [*full, *(waiting.rest() if batch.is_last else ())]:
                        done += queue.run(networks, group, columns)
                if batch.is_last:
                    done += queue.finish(columns)
                    problems = self._write(batch.shard, columns)
                    columns.clear()
                yield done, problems if batch.is_last else {}

    def _buckets(self) -> "_Buckets":
        return _Buckets(
            pixels=_PIXELS_PER_BATCH[self.on_cpu], images=self.largest_batch, waiting=_PIXELS_WAITING[self.on_cpu]
        )

    @staticmethod
    def _write(shard: int, columns: dict[_Entry, _Column]) -> dict[int, str]:
        problems: dict[int, str] = {}
        for entry, column in columns.items():
            entry.store.write_shard(shard, column.values, problems=column.problems)
            problems |= column.problems
        return problems

    def _look(self, batch: Batch[_Entry]) -> list[_Looked]:
        """Read, decode and measure some rows; runs on a thread."""
        return [
            self._look_at(row, image, batch.entries)
            for row, image in zip(batch.rows, self.rows.read(batch.rows), strict=True)
        ]

    def _look_at(self, row: int, image: bytes | OSError | np.ndarray, entries: Sequence[_Entry]) -> _Looked:
        try:
            decoded = pixels_of(image)
        except UndecodableImage as error:
            return _Looked(row, failure=f"not decoded: {error.reason}")
        looked = _Looked(row)
        fitted: dict[Geometry, np.ndarray] = {}
        for entry in entries:
            if entry.geometry not in fitted:
                fitted[entry.geometry] = fit(decoded, entry.spec.preprocessing)
            if not entry.is_network:
                looked.measured.append((entry, self._measure(row, fitted[entry.geometry], entry)))
        looked.pixels = {entry.geometry: fitted[entry.geometry] for entry in entries if entry.is_network}
        return looked

    def _measure(self, row: int, pixels: np.ndarray, entry: _Entry) -> float | str:
        """What a measure says of one image, or why it says nothing."""
        assert isinstance(entry.runs, _Measured)
        card = entry.runs.card
        if min(pixels.shape[:2]) < card.min_side:
            return too_small(card.name, card.min_side)
        try:
            if not card.needs_reference:
                return entry.runs.call(pixels)
            reference = self._reference(row, pixels, entry.spec.preprocessing)
            return reference if isinstance(reference, str) else entry.runs.call(pixels, reference)
        except UnsuitableImage as error:
            return str(error)

    def _reference(self, row: int, pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray | str:
        """The pixels of a row's reference as the measure sees them, or why there are none."""
        number = -1 if self.references is None else int(self.references[row])
        if number < 0:
            return "has no reference"
        if number == row:
            return pixels
        try:
            reference = self.known.fitted(number, preprocessing)
        except UndecodableImage as error:
            return f"its reference is not decoded: {error.reason}"
        if reference.shape != pixels.shape:
            return "differs in size from its reference"
        return reference


def _networks(entries: Sequence[_Entry]) -> dict[Geometry, list[_Entry]]:
    """The networks by the geometry in which they see images."""
    found: dict[Geometry, list[_Entry]] = {}
    for entry in entries:
        if entry.is_network:
            found.setdefault(entry.geometry, []).append(entry)
    return found


def _note(images: Sequence[_Looked], entries: Sequence[_Entry], columns: dict[_Entry, _Column]) -> int:
    """Enter what is known without a network; the number of pairs done."""
    done = 0
    for look in images:
        if look.failure:
            for entry in entries:
                columns[entry].put(look.row, look.failure)
            done += len(entries)
        for entry, score in look.measured:
            columns[entry].put(look.row, score)
        done += len(look.measured)
    return done


@dataclass(frozen=True)
class _Group:
    """Images of one size that run together. pixels: uint8 (n, H, W, 3)"""

    rows: list[int]
    pixels: np.ndarray


class _Buckets:
    """Images of one geometry, waiting by size for others to share a batch with.

    `pixels`, `images`: what makes a bucket full; `waiting`: pixels that may wait in all buckets together.
    """

    def __init__(self, *, pixels: int, images: int, waiting: int) -> None:
        self.pixels = pixels
        self.images = images
        self.limit = waiting
        self._waiting: dict[Size, list[tuple[int, np.ndarray]]] = {}
        self._n_pixels = 0

    def add(self, images: Iterable[tuple[int, np.ndarray]]) -> list[_Group]:
        """Take images in; the groups that became full, and the largest ones while too many pixels wait."""
        ready = []
        for row, pixels in images:
            height, width = pixels.shape[:2]
            bucket = self._waiting.setdefault((height, width), [])
            bucket.append((row, pixels))
            self._n_pixels += height * width
            if len(bucket) >= self._capacity((height, width)):
                ready.append(self._take((height, width)))
            while self._n_pixels > self.limit:
                ready.append(self._take(max(self._waiting, key=self._pixels_of)))
        return ready

    def rest(self) -> list[_Group]:
        """Everything that still waits."""
        return [self._take(size) for size in list(self._waiting)]

    def _capacity(self, size: Size) -> int:
        return int(np.clip(self.pixels // (size[0] * size[1]), 1, self.images))

    def _pixels_of(self, size: Size) -> int:
        return len(self._waiting[size]) * size[0] * size[1]

    def _take(self, size: Size) -> _Group:
        self._n_pixels -= self._pixels_of(size)
        bucket = self._waiting.pop(size)
        return _Group([row for row, _ in bucket], np.stack([pixels for _, pixels in bucket]))


class _Queue:
    """Groups on their way through networks: on the threads of an executor, or at once in the caller's (None)."""

    def __init__(self, executor: ThreadPoolExecutor | None, *, limit: int) -> None:
        self.executor = executor
        self.limit = limit
        self._pending: deque[Future[list[tuple[_Entry, list[float | str]]]]] = deque()
        self._rows: deque[list[int]] = deque()

    def run(self, networks: list[_Entry], group: _Group, columns: dict[_Entry, _Column]) -> int:
        """Start a group; waits for the oldest where too many are on their way. The number of pairs done meanwhile."""
        if self.executor is None:
            return _enter(group.rows, _rate(networks, group.pixels), columns)
        self._pending.append(self.executor.submit(_rate, networks, group.pixels))
        self._rows.append(group.rows)
        return self._next(columns) if len(self._pending) > self.limit else 0

    def finish(self, columns: dict[_Entry, _Column]) -> int:
        """Wait for all of them; the number of pairs done."""
        return sum(self._next(columns) for _ in range(len(self._pending)))

    def _next(self, columns: dict[_Entry, _Column]) -> int:
        return _enter(self._rows.popleft(), self._pending.popleft().result(), columns)


def _rate(networks: list[_Entry], pixels: np.ndarray) -> list[tuple[_Entry, list[float | str]]]:
    """What every network says of images of one size."""
    said = []
    for entry in networks:
        assert isinstance(entry.runs, Rater)
        said.append((entry, rate(entry.runs, pixels)))
    return said


def rate(rater: Rater, pixels: np.ndarray) -> list[float | str]:
    """A network's score of each image, or why there is none. pixels: uint8 (n, H, W, 3)"""
    try:
        scores = rater(pixels)
    except (TooSmall, RunFailed) as error:
        return [str(error)] * len(pixels)
    return [float(score) if np.isfinite(score) else f'"{rater.spec.label}" gives no finite score' for score in scores]


def _enter(rows: list[int], said: list[tuple[_Entry, list[float | str]]], columns: dict[_Entry, _Column]) -> int:
    for entry, scores in said:
        for row, score in zip(rows, scores, strict=True):
            columns[entry].put(row, score)
    return len(rows) * len(said)


class _References:
    """Decoded references, the last used ones kept: the distorted versions of one photograph tend to be neighbours."""

    def __init__(self, rows: RowSource) -> None:
        self._rows = rows
        self._kept: OrderedDict[tuple[int, Geometry], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def fitted(self, row: int, preprocessing: Preprocessing) -> np.ndarray:
        """uint8 (H, W, 3). Raises UndecodableImage."""
        key = (row, preprocessing.geometry)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = fit(pixels_of(self._rows.read(range(row, row + 1))[0]), preprocessing)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = pixels
                self._bytes += pixels.nbytes
            while self._bytes > _REFERENCE_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels
