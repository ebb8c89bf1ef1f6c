"""Tables as data sets ship them: CSV, tab-separated text and Excel workbooks, as dicts by column name."""

import csv
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from corpora.importers.base import ImportRefused

WORKBOOK_BYTES = 256 * 2**20  # unpacked; SPAQ's is 2 MB
_HEADER_WITHIN = 20  # lines: workbooks often have a title above the header


def read_sheet(file: Path, columns: Sequence[str], sheet: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows below the header, which is the first line that holds all `columns` (in upper or lower case).

    sheet: of a workbook; its first one by default. Keys are the header's cells in lower case; cells are texts, in
    workbooks also numbers and None. Empty lines are passed over. Raises ImportRefused for a file that is no such table.
    """
    lines = _workbook(file, sheet) if file.suffix.lower() == ".xlsx" else _text(file)
    wanted = {name.lower() for name in columns}
    header: list[str] = []
    for cells in islice(lines, _HEADER_WITHIN):
        header = ["" if cell is None else str(cell).strip().lower() for cell in cells]
        if wanted <= set(header):
            break
    else:
        raise ImportRefused(f'"{file.name}" has no header with the columns {", ".join(columns)}: is it the right file?')
    for cells in lines:
        row = dict(zip(header, cells, strict=False))
        if any(cell not in (None, "") for cell in row.values()):
            yield row


def read_lines(file: Path) -> list[str]:
    """The lines of a small text file that are not empty, without white space at their ends."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise ImportRefused(f'"{file.name}" is no text in UTF-8: {error}') from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _text(file: Path) -> Iterator[list[Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
            opened.seek(0)
            delimiter = max(",;\t", key=first.count)
            yield from csv.reader(opened, delimiter=delimiter)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ImportRefused(f'"{file.name}" is no CSV table in UTF-8: {error}') from error


def _workbook(file: Path, sheet: str | None) -> Iterator[list[Any]]:
    from openpyxl import load_workbook  # only where a workbook is really read

    try:
        with zipfile.ZipFile(file) as archive:
            if sum(info.file_size for info in archive.infolist()) > WORKBOOK_BYTES:
                raise ImportRefused(f'"{file.name}" unpacks to more than {WORKBOOK_BYTES:,} bytes: save it as CSV')
        book = load_workbook(file, read_only=True, data_only=True)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, SyntaxError) as error:
        raise ImportRefused(f'"{file.name}" is no Excel workbook: {error}') from error
    try:
        if sheet is not None and sheet not in book.sheetnames:
            names = ", ".join(book.sheetnames)
            raise ImportRefused(f'"{file.name}" has no sheet "{sheet}": it has {names}')
        yield from (list(row) for row in book[sheet or book.sheetnames[0]].iter_rows(values_only=True))
    finally:
        book.close()
