"""MAD competitions from files to files: `mad select`, `mad rank` and `mad distance`. No database, no server."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from competition import files
from competition.files import VERDICT_COLUMNS, Predictions
from corpora.tables import FileError, write_table
from corpora.taxonomy import TaxonomyError, level_table

MOST_SHORT_PAIRS = 10  # that the terminal lists


class Command(BaseCommand):
    help = "MAD competitions from files to files: select images, rank models from verdicts, look up class distances."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True, metavar="select|rank|distance")
        _add_select(commands.add_parser("select", help="the images on which each pair of models differs most"))
        _add_rank(commands.add_parser("rank", help="rank models from verdicts, with 95 %% intervals"))
        _add_distance(commands.add_parser("distance", help="the distance of two classes"))

    def handle(self, *args: Any, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {
            "select": self._select,
            "rank": self._rank,
            "distance": self._distance,
        }
        try:
            actions[options["what"]](**options)
        except ValueError as error:  # the base of every error about input in the pure rooms
            raise CommandError(str(error)) from error

    def _select(
        self,
        *,
        predictions: list[Path],
        taxonomy: str,
        k: int,
        reserve: int,
        threshold: float,
        out: Path,
        report: Path | None,
        **options: Any,
    ) -> None:
        from competition.selection.mad import select

        given = files.read_predictions(predictions, taxonomy)
        with tqdm(total=len(given.paths), unit=" rows", unit_scale=True, disable=None, leave=False) as bar:
            selections = select(
                given.classes,
                given.confidences,
                level_table(given.taxonomy),
                k=k,
                reserve=reserve,
                threshold=threshold,
                progress=lambda done, total: _advance(bar, done, total),
            )
        write_table(out, files.EXHIBIT_COLUMNS, _exhibits(given, selections))
        if report is not None:
            write_table(report, files.REPORT_COLUMNS, _report_rows(given, selections))
        self._summarise(given, selections, out)

    def _summarise(self, given: Predictions, selections: list[Any], out: Path) -> None:
        exhibits = sum(min(some.k, len(some.rows)) for some in selections)
        reserves = sum(max(0, len(some.rows) - some.k) for some in selections)
        short = [some for some in selections if some.reasons]
        for some in short[:MOST_SHORT_PAIRS]:
            self.stderr.write(f"{given.models[some.i]} and {given.models[some.j]}: {'; '.join(some.reasons)}")
        if len(short) > MOST_SHORT_PAIRS:
            self.stderr.write(
                f"{len(short) - MOST_SHORT_PAIRS} more pairs are short of images: --report FILE lists all"
            )
        if given.confidences is None:
            self.stderr.write(f'The confidence filter is off: model "{given.unsure}" has no confidences.')
        self.stdout.write(
            f"{out}: {exhibits:,} exhibits and {reserves:,} in reserve for {len(selections):,} pairs of "
            f"{len(given.models)} models over {len(given.paths):,} images"
        )

    def _rank(self, *, verdicts: Path, out: Path, replicates: int, seed: int, **options: Any) -> None:
        from competition.ranking.perron import rank_from_verdicts

        found = files.read_verdicts(verdicts)
        ranking = rank_from_verdicts(*(found[name] for name in VERDICT_COLUMNS), replicates=replicates, seed=seed)
        rows = ranking.rows()
        kinds = {name: _standing_kind(name) for name in files.STANDING_COLUMNS}
        write_table(out, kinds, ([row[name] for name in files.STANDING_COLUMNS] for row in rows))
        self.stdout.write(f"{out}: {len(rows)} models, {replicates:,} bootstrap replicates")

    def _distance(self, *, classes: list[str], taxonomy: str, **options: Any) -> None:
        chosen = files.read_taxonomy(taxonomy)
        try:
            a, b = (chosen.find(text) for text in classes)
        except TaxonomyError as error:
            raise FileError(str(error)) from error
        distance = float(level_table(chosen).distance(a, b))
        names = "\t".join(f"{chosen.classes[index].name} ({index}, {chosen.classes[index].id})" for index in (a, b))
        self.stdout.write(f"{distance!r}\t{names}")


def _add_select(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="path,class[,confidence] of one model each (named as its file), or path and a column of classes per model",
    )
    _add_taxonomy(parser, 'or "none": every two classes are at distance 1')
    parser.add_argument("--report", type=Path, metavar="FILE", help="where each pair's images went, CSV or Parquet")
    parser.add_argument("--k", type=int, default=30, help="exhibits per pair of models")
    parser.add_argument("--reserve", type=int, default=30, help="spare images per pair, ranked behind the exhibits")
    parser.add_argument("--threshold", type=float, default=0.8, help="both models are at least this confident")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="exhibits, CSV or Parquet by its ending"
    )


def _add_rank(parser: argparse.ArgumentParser) -> None:
    columns = ",".join(files.VERDICT_COLUMNS)
    parser.add_argument("--verdicts", type=Path, required=True, metavar="FILE", help=columns)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="standings, CSV or Parquet by its ending"
    )
    parser.add_argument("--replicates", type=int, default=1000, help="bootstrap replicates; 0: no intervals")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")


def _add_distance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("classes", nargs=2, metavar="CLASS", help="index, id or name")
    _add_taxonomy(parser, "")


def _add_taxonomy(parser: argparse.ArgumentParser, more: str) -> None:
    parser.add_argument("--taxonomy", default="imagenet1k", metavar="NAME", help=f"imagenet1k, a taxonomy CSV {more}")


def _advance(bar: Any, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _exhibits(given: Predictions, selections: list[Any]) -> Iterator[list[Any]]:
    """Rows of `files.EXHIBIT_COLUMNS`, pair by pair, best first."""
    for some in selections:
        for at, row in enumerate(some.rows.tolist()):
            yield [
                given.models[some.i],
                given.models[some.j],
                at + 1,
                given.paths[row].as_py(),
                given.said(int(some.class_i[at])),
                given.said(int(some.class_j[at])),
                float(some.distance[at]),
                None if some.confidence_i is None else some.confidence_i[at],
                None if some.confidence_j is None else some.confidence_j[at],
            ]


def _report_rows(given: Predictions, selections: list[Any]) -> Iterator[list[Any]]:
    """Rows of `files.REPORT_COLUMNS`."""
    for some in selections:
        pair = [given.models[some.i], given.models[some.j]]
        yield [*pair, *astuple(some.counts), "; ".join(some.reasons)]


def _standing_kind(name: str) -> pa.DataType:
    if name == "model":
        return pa.string()
    return pa.float64() if name in ("score", "low", "high") else pa.int64()
