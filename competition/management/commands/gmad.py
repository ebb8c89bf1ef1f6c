"""gMAD competitions from files to files: `gmad select` and `gmad rank`. No database, no server."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from competition import gmad_files
from competition.gmad_files import Scores
from corpora.tables import FileError, write_table

if TYPE_CHECKING:
    from competition.ranking.gmad import GmadStanding
    from competition.selection.columns import Column
    from competition.selection.gmad import Selection
    from labeling.psychometrics.logistic import Logistic

MOST_MISSING = 10  # lines that the terminal lists
QUANTILES = "quantiles"
SMALL_SCALE = 10.0  # MOS that reach no higher on a scale to 100 are probably of another scale


class Command(BaseCommand):
    help = "gMAD competitions from files to files: select pairs of images, rank models from people's answers."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True, metavar="select|rank")
        _add_select(commands.add_parser("select", help="the pairs with which models attack each other"))
        _add_rank(commands.add_parser("rank", help="rank models from judgements, or from matrices"))

    def handle(self, *args: Any, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {"select": self._select, "rank": self._rank}
        try:
            actions[options["what"]](**options)
        except ValueError as error:  # the base of every error about input in the pure rooms
            raise CommandError(str(error)) from error

    def _select(
        self,
        *,
        scores: Path,
        calibration: str | None,
        mos_range: tuple[float, float],
        lower_is_better: list[str],
        quantiles: list[str],
        levels: int,
        half_width: float,
        quantile_levels: bool,
        top: int,
        cap: int | None,
        groups: Path | None,
        newcomer: list[str],
        out: Path,
        **options: Any,
    ) -> None:
        from competition.selection.gmad import ask_once, select

        levels_out = out.parent / "levels.csv"
        if out.name == levels_out.name:
            raise FileError("--out cannot be levels.csv: the levels are written there")
        given = gmad_files.read_scores(scores, lower_is_better)
        columns = self._calibrated(given, calibration, lower_is_better, quantiles, mos_range)
        with tqdm(total=len(given.paths), unit=" rows", unit_scale=True, disable=None, leave=False) as bar:
            selection = select(
                columns,
                names=given.models,
                levels=levels,
                half_width=None if quantile_levels else half_width,
                top=top,
                cap=cap,
                groups=None if groups is None else gmad_files.read_groups(groups, given.paths),
                newcomers=_positions(given, "--newcomer", newcomer) or None,
                progress=lambda done, total: _advance(bar, done, total),
            )
        write_table(out, gmad_files.PAIR_COLUMNS, _pairs(given, selection))
        write_table(levels_out, gmad_files.LEVEL_COLUMNS, _levels(selection))
        self._say_missing(selection)
        exhibits = ask_once(selection.pairs)
        self.stdout.write(
            f"{out}: {len(selection.pairs):,} pairs of {len(given.models)} models over {len(given.paths):,} images, "
            f"{len(exhibits.first):,} of them different; {levels_out}: {selection.levels.count.size} levels"
        )

    def _calibrated(
        self,
        given: Scores,
        calibration: str | None,
        lower_is_better: Sequence[str],
        quantiles: Sequence[str],
        mos_range: tuple[float, float],
    ) -> "list[Column]":
        """The columns on a common scale."""
        from competition.selection.calibration import Calibrated, Scale, quantile_map

        _positions(given, "--quantiles", quantiles)
        by_quantiles = given.models if calibration == QUANTILES else quantiles
        scales: dict[str, Scale] = {
            model: quantile_map(given.column(model), model=model) for model in given.models if model in by_quantiles
        }
        if calibration not in (None, QUANTILES):
            scales |= self._fitted(given, Path(str(calibration)), lower_is_better, list(scales), mos_range)
        return [
            Calibrated(column, scales[model]) if model in scales else column
            for model, column in zip(given.models, given.columns, strict=True)
        ]

    def _fitted(
        self,
        given: Scores,
        calibration: Path,
        lower_is_better: Sequence[str],
        others: Sequence[str],
        mos_range: tuple[float, float],
    ) -> "dict[str, Logistic]":
        """The logistic of every model but some."""
        models = [model for model in given.models if model not in others]
        fits, highest = gmad_files.read_calibration(calibration, models, lower_is_better, mos_range)
        for model, fit in fits.items():
            self.stderr.write(
                f'"{model}": the logistic explains {fit.explained:.0%} of the variance of the MOS of {fit.n:,} images, '
                f"error {fit.rmse:.1f}"
            )
        if highest <= SMALL_SCALE:
            self.stderr.write(f"The MOS reach {highest:g} on a scale from 0 to 100: is --mos-range right?")
        return fits

    def _say_missing(self, selection: "Selection") -> None:
        for missing in selection.missing[:MOST_MISSING]:
            self.stderr.write(f"No pair: {missing.reason}" if not missing.found else f"Fewer pairs: {missing.reason}")
        if len(selection.missing) > MOST_MISSING:
            self.stderr.write(f"{len(selection.missing) - MOST_MISSING:,} more have no pair, or fewer.")

    def _rank(
        self,
        *,
        judgements: Path | None,
        levels: Path | None,
        aggressiveness: Path | None,
        resistance: Path | None,
        mode: str,
        out: Path,
        replicates: int,
        seed: int,
        **options: Any,
    ) -> None:
        if judgements and levels and not (aggressiveness or resistance):
            standing = _rank_judgements(judgements, levels, mode, replicates, seed)
        elif aggressiveness and resistance and not (judgements or levels):
            standing = _rank_matrices(aggressiveness, resistance, mode)
        else:
            raise FileError("give either --judgements and --levels, or --aggressiveness and --resistance")
        for note in dict.fromkeys([*standing.aggressiveness.notes, *standing.resistance.notes]):
            self.stderr.write(note)
        write_table(out, gmad_files.STANDING_COLUMNS, _standings(standing))
        drawn = len(standing.aggressiveness.replicates)
        self.stdout.write(f"{out}: {len(standing.models)} models, {mode}, {drawn:,} bootstrap replicates")


def _rank_judgements(judgements: Path, levels: Path, mode: str, replicates: int, seed: int) -> "GmadStanding":
    from competition.ranking.gmad import rank_judgements

    known = gmad_files.read_levels(levels)
    given = gmad_files.read_judgements(judgements, known)
    return rank_judgements(
        known.models, given.attacker, given.defender, given.level, given.person, given.score, known.counts,
        mode="published" if mode == "published" else "exact", replicates=replicates, seed=seed,
    )  # fmt: skip


def _rank_matrices(aggressiveness: Path, resistance: Path, mode: str) -> "GmadStanding":
    from competition.ranking.gmad import rank_matrices

    models, a = gmad_files.read_square(aggressiveness)
    others, r = gmad_files.read_square(resistance)
    if set(models) != set(others):
        odd = sorted(set(models) ^ set(others))
        raise FileError(f'{aggressiveness.name} and {resistance.name} do not name the same models: "{odd[0]}"')
    order = [others.index(name) for name in models]
    return rank_matrices(models, a, r[order][:, order], mode="published" if mode == "published" else "exact")


def _add_select(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scores", type=Path, required=True, metavar="FILE", help="path and one column of scores per model")
    add(
        "--calibration",
        metavar="FILE",
        help=f'path,mos and one column per model: map scores to 0..100 by a logistic; or "{QUANTILES}": by their own',
    )
    add("--mos-range", type=float, nargs=2, default=(0.0, 100.0), metavar=("LOW", "HIGH"), help="ends of the MOS scale")
    add("--lower-is-better", nargs="+", default=[], metavar="NAME", help="models whose lower scores are better")
    add("--quantiles", nargs="+", default=[], metavar="NAME", help="map these models by their own quantiles instead")
    add("--levels", type=int, default=6, help="levels per defender")
    add("--half-width", type=float, default=9.0, help="a level reaches so far to both sides of its centre")
    add("--quantile-levels", action="store_true", help="levels of equally many images instead")
    add("--top", type=int, default=1, help="disjoint pairs per attacker, defender and level")
    add("--cap", type=int, help="different pairs that may show one image")
    add("--groups", type=Path, metavar="FILE", help="path,group: no pair shows two images of one source")
    add("--newcomer", nargs="+", default=[], metavar="NAME", help="only the pairs in which these models take part")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="pairs, CSV or Parquet by its ending; levels.csv is written beside it",
    )


def _add_rank(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--judgements", type=Path, metavar="FILE", help=",".join(gmad_files.JUDGEMENT_COLUMNS))
    add("--levels", type=Path, metavar="FILE", help="levels.csv of the selection that was judged")
    add("--aggressiveness", type=Path, metavar="FILE", help="square table: the row's model attacks the column's")
    add("--resistance", type=Path, metavar="FILE", help="square table: the row's model defends against the column's")
    add("--mode", choices=("exact", "published"), default="exact", help="log Phi exactly, or as the study's solver")
    add("--out", type=Path, required=True, metavar="FILE", help="standings, CSV or Parquet by its ending")
    add("--replicates", type=int, default=1000, help="bootstrap replicates over people; 0: no intervals")
    add("--seed", type=int, default=0, help="of the bootstrap")


def _advance(bar: Any, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _positions(given: Scores, option: str, names: Sequence[str]) -> list[int]:
    """Positions of the models an option names."""
    unknown = [name for name in names if name not in given.models]
    if unknown:
        raise FileError(f'{option} names "{unknown[0]}"; {given.file} has the models {", ".join(given.models)}')
    return [given.models.index(name) for name in names]


def _pairs(given: Scores, selection: "Selection") -> Iterator[list[Any]]:
    """Rows of `gmad_files.PAIR_COLUMNS`."""
    pairs = selection.pairs
    said = (pairs.attacker_worst, pairs.attacker_best, pairs.defender_worst, pairs.defender_best)
    for at in range(len(pairs)):
        yield [
            given.models[pairs.attacker[at]],
            given.models[pairs.defender[at]],
            int(pairs.level[at]),
            given.paths[int(pairs.worst[at])].as_py(),
            given.paths[int(pairs.best[at])].as_py(),
            *(float(column[at]) for column in said),
        ]


def _levels(selection: "Selection") -> Iterator[list[Any]]:
    """Rows of `gmad_files.LEVEL_COLUMNS`."""
    levels = selection.levels
    for defender, name in enumerate(selection.names):
        for k in range(levels.count.shape[1]):
            yield [name, k + 1, float(levels.centre[defender, k]), int(levels.count[defender, k])]


def _standings(standing: "GmadStanding") -> list[list[Any]]:
    """Rows of `gmad_files.STANDING_COLUMNS`, most aggressive first, models without a score last."""
    ranks = (standing.aggressiveness, standing.resistance)
    rows = [
        [name, *(float(column[at]) for rank in ranks for column in (rank.score, rank.low, rank.high))]
        for at, name in enumerate(standing.models)
    ]
    return sorted(rows, key=lambda row: (row[1] != row[1], -row[1] if row[1] == row[1] else 0.0))
