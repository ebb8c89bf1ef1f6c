"""Scoring: every row of a corpus through several versions, one decode for all that share a geometry.

The corpus is cut into shards of consecutive rows, a shard into batches. The cuts depend on nothing but the numbers of
rows, so that an interrupted scoring, taken up again, writes the bytes that an undisturbed one would have written. On a
CPU each thread takes a whole batch through decoding and all networks, which run on one thread each: no thread waits for
another and results do not depend on how many there are. On a GPU threads decode ahead and the caller's thread drives
the device.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models_zoo.adapters.load import Classifier, load, one_thread
from models_zoo.adapters.spec import Preprocessing, VersionSpec
from models_zoo.engine.decode import decode_batch
from models_zoo.engine.rows import RowSource
from models_zoo.engine.scores import ScoreHeader, ScoreStore, class_dtype, missing_class
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

SHARD_SIZE = 1024
_PROBE_ROWS = 32
_PIXELS_PER_BATCH = {True: 16 * 224 * 224, False: 256 * 224 * 224}  # on a CPU, on a device
_LARGEST_BATCH = {True: 256, False: 4096}
_SECONDS_PER_SHARD = 20.0


@dataclass(frozen=True)
class _Entry:
    """A version on its way: what runs it and where its scores go."""

    spec: VersionSpec
    classifier: Classifier
    store: ScoreStore


def score(
    rows: RowSource,
    specs: Sequence[VersionSpec],
    out_dirs: Sequence[Path],
    *,
    shard_size: int = SHARD_SIZE,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    device: str = "cpu",
    threads: int | None = None,
    cache_dir: Path | None = None,
    compiled: bool = False,
) -> ScoringReport:
    """Score all rows with all versions into one store each, going on where earlier calls stopped.

    `progress(done, total)` counts (row, version) pairs; `cancelled()` is asked after every batch. `threads`: for
    decoding and, on a CPU, inference; all available cores if None. `cache_dir`: keeps ONNX Runtime exports.
    `compiled`: torch.compile on a GPU.
    Raises ScoringCancelled; VersionRefused, ScoreStoreError and DiskFull with their reasons.
    """
    if len(specs) != len(out_dirs):
        raise ValueError(f"{len(specs)} versions need as many folders, not {len(out_dirs)}")
    started = time.monotonic()
    threads = threads or cores()
    with one_thread():
        groups = [
            _open_group(rows, group, shard_size=shard_size, device=device, cache_dir=cache_dir, compiled=compiled)
            for group in _by_geometry(specs, out_dirs)
        ]
        entries = [entry for group in groups for entry in group]
        total = len(rows) * len(entries)
        kept = n_finished(entries)
        done = kept
        failures: dict[int, str] = {}
        for group in groups:
            for batch, problems in _run_group(rows, group, device=device, threads=threads):
                failures |= problems
                done += len(batch.rows) * len(batch.entries)
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


def shard_size_for(seconds_per_image: float) -> int:
    """A power of two from 256 to 65,536 that makes a shard about twenty seconds of work."""
    wanted = _SECONDS_PER_SHARD / max(seconds_per_image, 1e-9)
    return int(2 ** np.clip(np.floor(np.log2(max(wanted, 1.0))), 8, 16))


def classify(scores: np.ndarray, outputs: str) -> tuple[np.ndarray, np.ndarray]:
    """(class, confidence), each (n,), from scores (n, C): argmax, and the largest (softmax) probability.

    Rows with a value that is not finite get the sentinel `missing_class` of the store's class type and confidence 0.
    """
    dtype = class_dtype(scores.shape[1])
    finite = np.isfinite(scores).all(axis=1)
    usable = np.where(finite[:, None], scores, 0)
    best = usable.argmax(axis=1)
    confidences = probabilities(usable, outputs)[np.arange(len(best)), best]
    classes = np.where(finite, best, missing_class(dtype)).astype(dtype)
    return classes, np.where(finite, np.clip(confidences, 0, 1), 0).astype(np.float32)


def probabilities(scores: np.ndarray, outputs: str) -> np.ndarray:
    """(n, C) float32: softmax of logits, or the probabilities themselves."""
    if outputs == "probabilities":
        return scores
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _by_geometry(specs: Sequence[VersionSpec], folders: Sequence[Path]) -> list[list[tuple[VersionSpec, Path]]]:
    groups: dict[tuple[object, ...], list[tuple[VersionSpec, Path]]] = {}
    for spec, folder in zip(specs, folders, strict=True):
        groups.setdefault(spec.preprocessing.geometry, []).append((spec, folder))
    return list(groups.values())


def _open_group(
    rows: RowSource,
    group: list[tuple[VersionSpec, Path]],
    *,
    shard_size: int,
    device: str,
    cache_dir: Path | None,
    compiled: bool,
) -> list[_Entry]:
    """Load the versions of one geometry, probing them on the first rows, and open their stores."""
    probe, _ = decode_batch(rows.read(range(min(_PROBE_ROWS, len(rows)))), group[0][0].preprocessing)
    entries = []
    for spec, folder in group:
        classifier = load(
            spec,
            device=device,
            cache_dir=cache_dir,
            n_images=len(rows),
            compiled=compiled,
            probe=probe if len(probe) else None,
        )
        n_classes = classifier(probe).shape[1] if len(probe) else spec.num_classes or 1
        header = ScoreHeader(
            n_rows=len(rows),
            shard_size=shard_size,
            n_classes=n_classes,
            version=spec.fingerprint(),
            corpus=rows.digest,
            backend=classifier.backend,
        )
        entries.append(_Entry(spec, classifier, ScoreStore.create(folder, header)))
    return entries


def _run_group(
    rows: RowSource, group: list[_Entry], *, device: str, threads: int
) -> Iterator[tuple[Batch[_Entry], dict[int, str]]]:
    """Yields each finished batch with what went wrong in it; shards are on disk when their last batch is yielded."""
    preprocessing = group[0].spec.preprocessing
    on_cpu = device == "cpu"
    collected: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def work(batch: Batch[_Entry]) -> tuple[np.ndarray, dict[int, str], list[tuple[np.ndarray, np.ndarray]]]:
        pixels, problems = decode_batch(rows.read(batch.rows), preprocessing)
        return pixels, problems, _infer(batch, pixels, problems) if on_cpu else []

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        todo = batches(group, _batch_size(rows, preprocessing, on_cpu=on_cpu))
        for batch, (pixels, problems, results) in in_order(executor, work, todo, window=threads + 2):
            for index, result in enumerate(results or _infer(batch, pixels, problems)):
                collected.setdefault(index, []).append(result)
            if batch.is_last:
                for index, entry in enumerate(batch.entries):
                    classes, confidences = (np.concatenate(column) for column in zip(*collected[index], strict=True))
                    entry.store.write_shard(batch.shard, classes, confidences)
                collected.clear()
            yield batch, {batch.rows[position]: reason for position, reason in problems.items()}


def _infer(batch: Batch[_Entry], pixels: np.ndarray, problems: dict[int, str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(classes, confidences) of every version; undecodable images are missing, `problems` gains rows without score."""
    undecodable = list(problems)
    results = []
    for entry in batch.entries:
        classes, confidences = classify(entry.classifier(pixels), entry.spec.outputs)
        for position in np.flatnonzero(classes == missing_class(classes.dtype)):
            problems.setdefault(int(position), f'"{entry.spec.label}" gives no finite score')
        classes[undecodable] = missing_class(classes.dtype)
        confidences[undecodable] = 0
        results.append((classes, confidences))
    return results


def _batch_size(rows: RowSource, preprocessing: Preprocessing, *, on_cpu: bool) -> int:
    """Images of about 16 x 224 x 224 pixels in sum on a CPU, where small batches suit the caches; more on a device."""
    side = preprocessing.input_size
    if side is None:
        first, _ = decode_batch(rows.read(range(min(1, len(rows)))), preprocessing)
        side = first.shape[1] if len(first) else 1
    return int(np.clip(_PIXELS_PER_BATCH[on_cpu] // side**2, 1, _LARGEST_BATCH[on_cpu]))
