"""Ensembles: what several versions say of a corpus, mixed into one column without running any of them again.

Member: a version of the ensemble: its columns, its weight, and where wanted its scale, a logistic

    y = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2

that maps its oriented scores (higher = better) to a common scale. A quality score is the weighted mean of the members'
(calibrated) scores. A class is voted for: every member gives its class its weight times its confidence; the class with
the most wins, of equal ones that of the first member, and what it got is the confidence (the weights sum to one).
A row that one member could not score has no score. Blocks are read, mixed and written one after the other.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from models_zoo.engine.scores import ScoreHeader, ScoreStore, missing_class

BACKEND = "mixed"
SHARD_ROWS = 65_536
LEAST_SUM, MOST_SUM = 1 - 1e-6, 1 + 1e-6  # of the weights
NOT_SCORED = "a member of the ensemble gave no score"

Scale = tuple[float, float, float, float]
FloatArray = npt.NDArray[np.float64]


class EnsembleError(ValueError):
    """Members that cannot be mixed; the message says why."""


@dataclass(frozen=True)
class Member:
    """One member's share. store: its assembled scores; weight: above 0; scale: (b1, b2, b3, b4), None: scores as they
    are."""

    store: ScoreStore
    weight: float
    scale: Scale | None = None


def check_members(weights: Sequence[float], scales: Sequence[Scale | None]) -> None:
    """Raises EnsembleError for no members, weights that are not above 0 or do not sum to 1, and scales of some only."""
    if not weights:
        raise EnsembleError("an ensemble needs at least one member")
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise EnsembleError(f"the weights {', '.join(f'{weight:g}' for weight in weights)} are not all above 0")
    if not LEAST_SUM <= sum(weights) <= MOST_SUM:
        raise EnsembleError(f"the weights sum to {sum(weights):g}: they have to sum to 1")
    if len({scale is None for scale in scales}) > 1:
        raise EnsembleError("some members have a scale and others have none: give each one, or none")
    for scale in scales:
        if scale is not None and (len(scale) != 4 or not np.isfinite(scale).all() or scale[3] == 0):
            raise EnsembleError(f"{scale} is no scale: give four finite numbers b1, b2, b3, b4, the last not 0")


def calibrate(x: npt.ArrayLike, scale: Scale) -> FloatArray:
    """Oriented scores on the common scale, any shape; NaN stays NaN.

    Measured from the nearer end of the logistic, so that an end far away costs no digits.
    """
    b1, b2, b3, b4 = scale
    with np.errstate(over="ignore"):  # far from the middle the ratio may overflow: the end of the scale
        place = (np.asarray(x, np.float64) - b3) / abs(b4)
    return np.where(place > 0, b1 - (b1 - b2) * expit(-place), b2 + (b1 - b2) * expit(place))


def mix_scores(
    columns: Sequence[npt.ArrayLike], weights: Sequence[float], scales: Sequence[Scale | None], *, sign: int = 1
) -> npt.NDArray[np.float32]:
    """Weighted mean of the members' scores.

    columns: per member (n,) scores as given, NaN where there is none; sign: -1 where lower scores are better, so that a
    scale sees oriented scores and the mean points the way of the members.
    """
    said = [np.asarray(column, np.float64) for column in columns]
    parts = [
        weight * (column if scale is None else sign * calibrate(sign * column, scale))
        for column, weight, scale in zip(said, weights, scales, strict=True)
    ]
    return np.sum(parts, axis=0).astype(np.float32)


def mix_votes(
    classes: Sequence[npt.NDArray[np.integer]], confidences: Sequence[npt.ArrayLike], weights: Sequence[float]
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
    """The class with the most weighted confidence of each row, and how much it got.

    classes: per member (n,), the largest value of the type where there is no answer; confidences: per member (n,).
    """
    said = np.stack(classes)  # (members, n)
    votes = np.stack([weight * np.asarray(sure, np.float64) for weight, sure in zip(weights, confidences, strict=True)])
    totals = np.stack([np.where(said == each, votes, 0.0).sum(axis=0) for each in said])
    best = totals.argmax(axis=0)
    rows = np.arange(said.shape[1])
    none = missing_class(said.dtype)
    lost = (said == none).any(axis=0)
    winner = np.where(lost, none, said[best, rows]).astype(said.dtype)
    return winner, np.where(lost, 0.0, np.minimum(totals[best, rows], 1.0)).astype(np.float32)


def mix(
    members: Sequence[Member], folder: Path, *, sign: int = 1, progress: Callable[[int, int], None] | None = None
) -> ScoreStore:
    """Write an ensemble's scores as a complete store; goes on where an earlier call was stopped.

    sign: -1 for quality models whose lower scores are better. progress(rows done, rows).
    Raises EnsembleError for members that cannot be mixed, ScoreStoreError where one is not complete.
    """
    weights, scales = [member.weight for member in members], [member.scale for member in members]
    check_members(weights, scales)
    first = members[0].store.header
    for member in members[1:]:
        header = member.store.header
        for name in ("kind", "n_rows", "n_classes", "corpus"):
            if getattr(header, name) != getattr(first, name):
                raise EnsembleError(
                    f"members differ in {name}: {getattr(first, name)!r} and {getattr(header, name)!r}; mix scores of "
                    "one corpus and one task"
                )
    columns = [member.store.read() for member in members]
    header = ScoreHeader(
        n_rows=first.n_rows,
        shard_size=SHARD_ROWS,
        n_classes=first.n_classes,
        version=fingerprint(members),
        corpus=first.corpus,
        backend=BACKEND,
        has_confidence=all(member.store.header.has_confidence for member in members),
        kind=first.kind,
    )
    store = ScoreStore.create(folder, header)
    for shard in store.unfinished_shards():
        rows = header.rows_of(shard)
        block = [tuple(np.array(part[rows.start : rows.stop]) for part in column) for column in columns]
        if header.kind == "values":
            values = mix_scores([part[0] for part in block], weights, scales, sign=sign)
            lost = {rows.start + int(at): NOT_SCORED for at in np.flatnonzero(np.isnan(values))}
            store.write_shard(shard, values, problems=lost)
        else:
            store.write_shard(shard, *mix_votes([part[0] for part in block], [part[1] for part in block], weights))
        if progress is not None:
            progress(rows.stop, header.n_rows)
    store.assemble()
    return store


def fingerprint(members: Sequence[Member]) -> str:
    """sha256 of what decides the mixed scores: the members' own fingerprints, weights and scales."""
    said = [[member.store.header.version, member.weight, member.scale] for member in members]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
