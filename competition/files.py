"""MAD with files alone: predictions in, exhibits out; verdicts in, standings out. No database, no server, no Django.

Tables are CSV or Parquet by the ending of their name; docs/formats.md documents every column. A *predictions file* says
what one model predicts (`path,class[,confidence]`, the model is the file's stem) or what several do (`path` and one
column of classes per model). Classes are indices, or ids and names of the taxonomy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from competition.selection.columns import MAX_CONFIDENCE
from corpora.tables import FileError, examples, no_doubles, no_gaps, read_table, read_truth, require_columns
from corpora.taxonomy import Taxonomy, TaxonomyError, flat, from_csv, imagenet1k

VERDICT_COLUMNS = ("model_a", "model_b", "path", "a_correct", "b_correct")
STANDING_COLUMNS = ("model", "score", "low", "high", "rank", "rank_best", "rank_worst", "n_images")
EXHIBIT_COLUMNS = {
    "model_a": pa.string(),
    "model_b": pa.string(),
    "rank": pa.int64(),
    "path": pa.string(),
    "class_a": pa.string(),
    "class_b": pa.string(),
    "distance": pa.float64(),
    "confidence_a": pa.float32(),
    "confidence_b": pa.float32(),
}
REPORT_COLUMNS = {
    "model_a": pa.string(),
    "model_b": pa.string(),
    "images": pa.int64(),
    "disagreements": pa.int64(),
    "confident": pa.int64(),
    "accepted": pa.int64(),
    "lost_to_caps": pa.int64(),
    "lost_to_duplicates": pa.int64(),
    "reasons": pa.string(),
}


@dataclass(frozen=True)
class Predictions:
    """What several models said about the same images.

    models: (m,) names; paths: (n,) strings, the order of rows; classes: per model (n,) indices into `taxonomy`;
    confidences: per model (n,) float32, or None if any model has none, and then `unsure` names one that has none;
    named: whether the files gave classes by name rather than by index.
    """

    models: tuple[str, ...]
    paths: pa.ChunkedArray
    classes: tuple[npt.NDArray[Any], ...]
    confidences: tuple[npt.NDArray[np.float32], ...] | None
    unsure: str
    taxonomy: Taxonomy
    named: bool

    def said(self, index: int) -> str:
        """A class as the files write it."""
        return self.taxonomy.classes[index].name if self.named else str(index)


@dataclass(frozen=True)
class _Answers:
    """One model's columns before they are put into the common order."""

    model: str
    file: str
    paths: pa.ChunkedArray
    classes: pa.ChunkedArray
    confidences: npt.NDArray[np.float32] | None


def read_predictions(files: Sequence[Path], taxonomy: str) -> Predictions:
    """Read predictions files of either layout and put all models into the row order of the first file.

    taxonomy: "imagenet1k", "none" or a taxonomy file. Raises FileError for files that differ in their images (naming
    some), images named twice, empty cells, confidences outside 0..1, unknown classes, and models named twice.
    """
    answers = [some for path in files for some in _answers(path)]
    for number, some in enumerate(answers):
        earlier = next((other for other in answers[:number] if other.model == some.model), None)
        if earlier is not None:
            raise FileError(
                f'model "{some.model}" stands in {earlier.file} and again in {some.file}: rename one of them'
            )
    labels = _taxonomy_for(taxonomy, answers)
    classes, confidences = [], []
    for some in answers:
        order = _order(answers[0], some)
        indices = _indices(some, labels)
        classes.append(indices if order is None else indices[order])
        if some.confidences is not None:
            confidences.append(some.confidences if order is None else some.confidences[order])
    unsure = next((some.model for some in answers if some.confidences is None), "")
    return Predictions(
        models=tuple(some.model for some in answers),
        paths=answers[0].paths,
        classes=tuple(classes),
        confidences=None if unsure else tuple(confidences),
        unsure=unsure,
        taxonomy=labels,
        named=any(pa.types.is_string(some.classes.type) for some in answers),
    )


def read_taxonomy(name: str) -> Taxonomy:
    """ "imagenet1k" or the taxonomy in a CSV file of that name. Raises FileError where there is neither."""
    if name == "imagenet1k":
        return imagenet1k()
    if name == "none":
        raise FileError('the taxonomy "none" has no classes of its own: name a file or imagenet1k')
    if not Path(name).is_file():
        raise FileError(f'taxonomy "{name}" is neither imagenet1k nor none nor a file')
    try:
        return from_csv(name)
    except TaxonomyError as error:
        raise FileError(str(error)) from error


def read_verdicts(path: Path) -> dict[str, list[Any]]:
    """Column -> values of a verdicts file, as `competition.ranking.perron.rank_from_verdicts` takes them."""
    table = read_table(path, text=VERDICT_COLUMNS)
    require_columns(path, table, VERDICT_COLUMNS)
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in VERDICT_COLUMNS}
    for name in ("model_a", "model_b", "path"):
        no_gaps(path, table[name], name)
    for name in ("a_correct", "b_correct"):
        columns[name] = [read_truth(path, name, row, text) for row, text in enumerate(columns[name])]
    return columns


def _answers(path: Path) -> list[_Answers]:
    """The models in one file: one, or one per column."""
    table = read_table(path, text=("path",))
    names = table.column_names
    if len(set(names)) < len(names):
        raise FileError(f"{path.name} has two columns of the same name: {', '.join(names)}")
    if "path" not in names or len(names) < 2:
        raise FileError(
            f"{path.name} has the columns {', '.join(names)}; a predictions file has path,class[,confidence] for one "
            "model, or path and one column of classes per model"
        )
    no_gaps(path, table["path"], "path")
    no_doubles(path, table["path"])
    if "class" not in names:
        if "confidence" in names:
            raise FileError(f'{path.name} has a column "confidence" but no column "class"')
        models = [name for name in names if name != "path"]
        return [_Answers(model, path.name, table["path"], _classes(path, table, model), None) for model in models]
    extra = [name for name in names if name not in ("path", "class", "confidence")]
    if extra:
        raise FileError(f'{path.name}: column "{extra[0]}" is not known beside path, class and confidence: remove it')
    confidences = _confidences(path, table) if "confidence" in names else None
    return [_Answers(path.stem, path.name, table["path"], _classes(path, table, "class"), confidences)]


def _classes(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of classes as int64 or as strings."""
    column = table[name]
    no_gaps(path, column, name)
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if pa.types.is_string(kind):
        return column
    try:
        return column.cast(pa.int64())  # a whole number stored as a float passes, any other does not
    except pa.ArrowInvalid as error:
        raise FileError(f'{path.name}: the column "{name}" must hold class indices or names, not {kind}') from error


def _confidences(path: Path, table: pa.Table) -> npt.NDArray[np.float32]:
    column = table["confidence"]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise FileError(f'{path.name}: the column "confidence" must hold numbers, not {column.type}')
    no_gaps(path, column, "confidence")
    values: npt.NDArray[np.float32] = column.to_numpy().astype(np.float32)
    bad = np.flatnonzero(~((values >= 0) & (values <= MAX_CONFIDENCE)))
    if bad.size:
        raise FileError(
            f'{path.name}, row {bad[0] + 1}: the confidence of "{table["path"][int(bad[0])]}" is {values[bad[0]]}; '
            "confidences lie between 0 and 1"
        )
    return values


def _taxonomy_for(name: str, answers: Sequence[_Answers]) -> Taxonomy:
    """The taxonomy asked for; for "none", a flat one of the classes that occur."""
    if name != "none":
        return read_taxonomy(name)
    if any(pa.types.is_string(some.classes.type) for some in answers):
        return flat(
            sorted({text for some in answers for text in pc.unique(some.classes.cast(pa.string())).to_pylist()})
        )
    return flat(max(0, *(pc.max(some.classes).as_py() for some in answers)) + 1)


def _indices(some: _Answers, taxonomy: Taxonomy) -> npt.NDArray[Any]:
    """A model's classes as indices, in the order of its own file."""
    kind = np.uint16 if taxonomy.n_classes <= np.iinfo(np.uint16).max else np.uint32
    if pa.types.is_string(some.classes.type) or _by_name(taxonomy):
        encoded = some.classes.cast(pa.string()).combine_chunks().dictionary_encode()
        found = [_find(some, text, taxonomy) for text in encoded.dictionary.to_pylist()]
        named: npt.NDArray[Any] = np.array(found, kind)[encoded.indices.to_numpy()]
        return named
    indices: npt.NDArray[Any] = some.classes.to_numpy()
    bad = np.flatnonzero((indices < 0) | (indices >= taxonomy.n_classes))
    if bad.size:
        raise FileError(
            f'{some.file}, row {bad[0] + 1}: model "{some.model}" says class {indices[bad[0]]}; '
            f'taxonomy "{taxonomy.name}" has classes 0 to {taxonomy.n_classes - 1}'
        )
    return indices.astype(kind)


def _by_name(taxonomy: Taxonomy) -> bool:
    """Whether a flat taxonomy was made of names, so that numbers are names as well."""
    return taxonomy.is_flat and any(item.name != str(item.index) for item in taxonomy.classes)


def _find(some: _Answers, text: str, taxonomy: Taxonomy) -> int:
    if _by_name(taxonomy):
        return next(item.index for item in taxonomy.classes if item.name == text)
    try:
        return taxonomy.find(text)
    except TaxonomyError as error:
        raise FileError(f'{some.file}, model "{some.model}": {error}') from error


def _order(first: _Answers, some: _Answers) -> npt.NDArray[np.int64] | None:
    """Where the rows of the first file stand in this one; None if in the same order."""
    if some.paths is first.paths or some.paths.equals(first.paths):
        return None
    position = pc.index_in(first.paths, value_set=some.paths.combine_chunks())
    problems = []
    if position.null_count:
        lacking = first.paths.filter(pc.is_null(position))
        problems.append(f"lacks {len(lacking):,} images that {first.file} has, such as {examples(lacking)}")
    unknown = some.paths.filter(pc.invert(pc.is_in(some.paths, value_set=first.paths.combine_chunks())))
    if len(unknown):
        problems.append(f"has {len(unknown):,} images that {first.file} lacks, such as {examples(unknown)}")
    if problems:
        raise FileError(f"{some.file} {', and '.join(problems)}: every model must have scored the same images")
    order: npt.NDArray[np.int64] = position.to_numpy().astype(np.int64)
    return order
