"""Textures, blurred by degrees, whose opinion scores fall with the blur: what a small network learns in seconds."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from scipy.ndimage import gaussian_filter

from accounts.models import User
from corpora.models import Corpus
from corpora.services import corpus_create
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo.engine.rows import PackedRows
from training.engine.labels import SCHEMA, LabelledData

SIDE = 48
LEVELS = 4
SCALE = {"mos_low": "0", "mos_high": "100"}


def texture(content: int, *, side: int = SIDE) -> np.ndarray:
    """A random texture of its own colours and coarse structure: uint8 (side, side, 3)."""
    rng = np.random.default_rng(content)
    coarse = gaussian_filter(rng.normal(size=(side, side, 3)), (5, 5, 0))
    fine = rng.normal(size=(side, side, 1))
    return np.clip(128 + 60 * coarse / coarse.std() + 28 * fine, 0, 255).astype(np.uint8)


def blurred(content: int, level: int, *, side: int = SIDE) -> np.ndarray:
    """The texture under a blur of 0 … LEVELS - 1 steps."""
    sharp = texture(content, side=side).astype(np.float64)
    return gaussian_filter(sharp, (0.45 * level, 0.45 * level, 0)).round().astype(np.uint8)


def noisy(content: int, level: int) -> np.ndarray:
    """The texture under coarse noise: a network that only knows blur finds it sharp."""
    rng = np.random.default_rng(1000 + content)
    noise = rng.normal(0, 30 * level, (SIDE // 2, SIDE // 2, 1)).repeat(2, 0).repeat(2, 1)
    return np.clip(blurred(content, 2) + noise, 0, 255).round().astype(np.uint8)


def mos_of(content: int, level: int) -> float:
    return 90 - 25 * level + content % 5


def blur_table(contents: Sequence[int], splits: Mapping[int, str] | None = None, **values: Any) -> pa.Table:
    """An edition of all levels of some contents, of one corpus, row after row; split by `splits`, else train."""
    keys = [(content, level) for content in contents for level in range(LEVELS)]
    n = len(keys)
    columns: dict[str, Any] = {
        "corpus": [1] * n, "row": list(range(n)), "path": [f"{content}-{level}.png" for content, level in keys],
        "source": ["corpus:1"] * n, "origin": ["base"] * n, "scale": [0] * n,
        "mos": [mos_of(*key) for key in keys], "std": [8.0] * n, "n": [20] * n, "label": [None] * n,
        "group": [f"content {content}" for content, _ in keys],
        "split": [(splits or {}).get(content, "train") for content, _ in keys],
    }  # fmt: skip
    return pa.table(columns | values, schema=SCHEMA)


def blur_data(contents: Sequence[int], splits: Mapping[int, str] | None = None, **values: Any) -> LabelledData:
    pixels = np.stack([blurred(content, level) for content in contents for level in range(LEVELS)])
    return LabelledData(blur_table(contents, splits, **values), {1: PackedRows(pixels, digest="blurred textures")})


def both_data(base: Sequence[int], found: Sequence[int], splits: Mapping[int, str]) -> LabelledData:
    """Blurred textures as base labels, noisy ones as found labels on a scale of their own."""
    tables = [blur_table(base, splits)]
    n = len(found) * LEVELS
    tables.append(blur_table(found, splits, corpus=[2] * n, origin=["found"] * n, scale=[1] * n, std=[12.0] * n))
    pixels = [
        np.stack([make(content, level) for content in contents for level in range(LEVELS)])
        for make, contents in ((blurred, base), (noisy, found))
    ]
    sources = {at + 1: PackedRows(each, digest=f"textures {at}") for at, each in enumerate(pixels)}
    return LabelledData(pa.concat_tables(tables), sources)


def class_data(n: int = 40, n_found: int = 12, n_val: int = 20) -> LabelledData:
    """Three classes of single colours with noise: base, found (darker) and validation rows."""
    rng = np.random.default_rng(0)
    total = n + n_found + n_val
    label = np.arange(total) % 3
    pixels = rng.normal(90, 25, (total, 16, 16, 3))
    pixels[np.arange(total), :, :, label] += 60
    pixels[n : n + n_found] *= 0.5
    columns: dict[str, Any] = {
        "corpus": [1] * total, "row": list(range(total)), "path": [f"{at}.png" for at in range(total)],
        "source": ["corpus:1"] * total, "origin": ["base"] * n + ["found"] * n_found + ["base"] * n_val,
        "scale": [0] * total, "mos": [None] * total, "std": [None] * total, "n": [None] * total,
        "label": label.tolist(), "group": [str(at) for at in range(total)],
        "split": ["train"] * (n + n_found) + ["val"] * n_val,
    }  # fmt: skip
    packed = PackedRows(np.clip(pixels, 0, 255).astype(np.uint8), digest="colours")
    return LabelledData(pa.table(columns, schema=SCHEMA), {1: packed})


def blur_corpus(
    by: User,
    folder: Path,
    *,
    name: str = "blurred",
    contents: Sequence[int] = range(12),
    rated: bool = True,
    **more: Any,
) -> Corpus:
    """An imported corpus of PNG files with contents, and with opinion scores from 0 to 100 where it is rated."""
    place = folder / name
    place.mkdir(parents=True)
    with (place / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "group", *(["mos", "mos_std", "mos_n"] if rated else [])])
        for content in contents:
            for level in range(LEVELS):
                path = f"{content}-{level}.png"
                Image.fromarray(blurred(content, level)).save(place / path)
                writer.writerow([path, f"t{content}", *([mos_of(content, level), 9.0, 21] if rated else [])])
    return imported(by, place / "list.csv", name=name, **({"options": SCALE} if rated else {}), **more)


def imported(by: User, list_: Path, *, name: str, **values: Any) -> Corpus:
    made = corpus_create(name=name, source="list", location=str(list_), by=by, **values)
    run_inline(Job.objects.about(made).get())
    made.refresh_from_db()
    return made
