"""Editions of labelled sets: one table of rows from all sources, and the images that belong to it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from accounts.errors import DomainError
from corpora.models import Corpus
from corpora.reading import row_source
from models_zoo.models import Task
from training.contents import ALL_TRAIN, BY_GROUP, assign
from training.engine.labels import NO_LABEL, SCHEMA, SPLITS, LabelledData, LabelsError, read_table
from training.models import Edition, LabelledSet
from training.sources import COLUMNS, Labels, source_check, source_labels, source_name

if TYPE_CHECKING:
    from accounts.models import User

FRACTIONS = (0.6, 0.2, 0.2)


def edition_table(
    *,
    labelled_set: LabelledSet,
    sources: Sequence[Mapping[str, Any]],
    by: "User",
    seed: int,
    fractions: Sequence[float],
    based_on: Edition | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of an edition, of ``training.engine.labels.SCHEMA``, and their counts by split, source and origin.

    Raises:
        Denied: a source that the person may not see.
        DomainError: sources that are unknown, of another task, or without labels; fractions that make no split; labels
            of one value; a split that remains empty.
    """
    shares = _fractions(fractions)
    if not sources:
        raise DomainError("A labelled set needs a source: name a corpus, a campaign or scores.", field="sources")
    for source in sources:
        source_check(source)
    names = [source_name(source) for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise DomainError(f"{twice} is named twice among the sources: name it once.", field="sources")
    parts = [source_labels(source, labelled_set=labelled_set, by=by) for source in sources]
    sizes = np.array([len(part) for part in parts])
    of_source = np.repeat(np.arange(len(parts)), sizes)
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    labels = Labels(**joined)
    left_out = sum((part.left_out for part in parts), Counter())
    train_only = np.array([source.get("split", BY_GROUP) == ALL_TRAIN for source in sources])[of_source]
    contents, group, split = assign(
        labels.corpus,
        labels.row,
        train_only=train_only,
        seed=seed,
        fractions=shares,
        older=read_table(based_on.path) if based_on else None,
    )
    kept = split != ""
    left_out["between two splits"] += int((~kept).sum())
    origin = np.array([source.get("origin", "base") for source in sources], dtype=object)
    name = np.array(names, dtype=object)
    columns: dict[str, Any] = {
        "corpus": labels.corpus,
        "row": labels.row,
        "path": contents.path,
        "source": name[of_source],
        "origin": origin[of_source],
        "scale": of_source.astype(np.int32),
        "mos": pa.array(labels.mos, mask=np.isnan(labels.mos)),
        "std": pa.array(labels.std, mask=np.isnan(labels.std)),
        "n": pa.array(labels.n.astype(np.int32), mask=labels.n == 0),
        "label": pa.array(labels.label.astype(np.int32), mask=labels.label == NO_LABEL),
        "group": group,
        "split": split,
    }
    table = pa.table({key: pa.array(value) for key, value in columns.items()}, schema=SCHEMA)
    table = table.filter(pa.array(kept)).sort_by(
        [("scale", "ascending"), ("corpus", "ascending"), ("row", "ascending")]
    )
    _require_learnable(table, labelled_set, shares)
    return table, _counts(table, left_out)


def edition_data(edition: Edition) -> LabelledData:
    """An edition with its images, as recipes get it. Raises DomainError where a corpus or the file has gone."""
    try:
        table = read_table(edition.path)
    except LabelsError as error:
        raise DomainError(f'"{edition}" cannot be read: {error}.') from error
    ids = table["corpus"].unique().to_pylist()
    sources = {corpus.pk: row_source(corpus) for corpus in Corpus.objects.filter(pk__in=ids)}
    taxonomy = edition.labelled_set.taxonomy
    n_classes = None if taxonomy is None else taxonomy.n_classes
    return LabelledData(table, sources, name=f'"{edition}"', n_classes=n_classes)


def _fractions(given: Sequence[float]) -> tuple[float, ...]:
    shares = tuple(float(share) for share in given)
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0:
        raise DomainError(
            f"The fractions of train, val and test are {', '.join(f'{share:g}' for share in shares)}: give three "
            "shares that add up to 1, the first above 0.",
            field="fractions",
        )
    return shares


def _require_learnable(table: pa.Table, labelled_set: LabelledSet, fractions: Sequence[float]) -> None:
    split = table["split"].to_numpy()
    for name, share in zip(SPLITS, fractions, strict=True):
        if share and not (split == name).any():
            raise DomainError(
                f'The {name} split of "{labelled_set}" would be empty: its {len(table["group"].unique())} groups of '
                "like content all fall into other splits. Add sources, or choose another seed or other fractions.",
                field="fractions",
            )
    train = table.filter(pa.array(split == "train"))
    column = "mos" if labelled_set.task == Task.QUALITY else "label"
    scales = train["scale"].to_numpy() if column == "mos" else np.zeros(len(train), np.int64)
    values = train[column].to_numpy()
    if all(np.ptp(values[scales == scale]) == 0 for scale in np.unique(scales)):
        what = "opinion score" if column == "mos" else "class"
        raise DomainError(
            f'All training labels of "{labelled_set}" are of one {what}, {values[0]:g}: nothing can be learnt from '
            "them. Add sources with others.",
            field="sources",
        )


def _counts(table: pa.Table, left_out: Mapping[str, int]) -> dict[str, Any]:
    columns = {name: Counter(table[name].to_pylist()) for name in ("split", "source", "origin")}
    cells = Counter(zip(table["origin"].to_pylist(), table["split"].to_pylist(), strict=True))
    return {
        **{name: dict(counted) for name, counted in columns.items()},
        "cells": {origin: {split: cells[origin, split] for split in SPLITS} for origin in columns["origin"]},
        "groups": len(table["group"].unique()),
        "left_out": {reason: count for reason, count in left_out.items() if count},
    }
