"""An edition's rows as files; docs/formats.md describes the columns."""

import csv
import io
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from django.utils.text import slugify

from accounts.errors import DomainError
from training.models import Edition

BLOCK = 2**18
BATCH = 10_000


def _parquet(edition: Edition) -> Iterator[bytes]:
    with edition.path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _csv(edition: Edition) -> Iterator[bytes]:
    with pq.ParquetFile(edition.path) as file:
        yield _lines([file.schema_arrow.names])
        for batch in file.iter_batches(BATCH):
            yield _lines(list(zip(*(_cells(column) for column in batch.columns), strict=True)))


def _cells(column: pa.Array) -> list[object]:
    return ["" if value is None else value for value in column.to_pylist()]


def _lines(rows: list[list[str]] | list[tuple[object, ...]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


ENDINGS: dict[str, tuple[str, Callable[[Edition], Iterator[bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", _csv),
    "parquet": ("application/vnd.apache.parquet", _parquet),
}


def edition_stream(edition: Edition, ending: str) -> tuple[str, str, Iterator[bytes]]:
    """(content type, file name, blocks) of an edition's rows.

    Raises:
        DomainError: an unknown format, or a file that has gone.
    """
    if ending not in ENDINGS:
        raise DomainError(f'Editions have no format "{ending}": choose from {", ".join(ENDINGS)}.')
    if not edition.path.is_file():
        raise DomainError(f'The file of "{edition}" has gone: make the edition again from its sources.')
    kind, write = ENDINGS[ending]
    return kind, f"{slugify(edition.labelled_set.name)}-edition-{edition.number}.{ending}", write(edition)
