"""Opinions from files to files: `opinion mos`, `screen`, `agreement` and `pairwise`. No database, no server."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from django.core.management.base import BaseCommand, CommandError

from corpora.tables import write_table
from labeling import opinion_files as files
from labeling.opinion_files import Judgements, Votes
from labeling.psychometrics.agreement import Level, krippendorff
from labeling.psychometrics.mos import (
    LikelihoodMode,
    likelihood_mode,
    maximum_likelihood_scores,
    mean_opinion_scores,
)
from labeling.psychometrics.pairwise import PRIOR_WINS, PairModel, PairwiseStanding, rank_votes
from labeling.psychometrics.people import CANNOT_REJECT, PersonMeasures, report

MOST_NOTES = 10  # that the terminal lists
# A gold answer is right within this share of the range of all values, unless told otherwise.
GOLD_SHARE = 0.1
# Beyond so many judgements the interval of alpha is short, and 200 replicates state it well enough.
MANY_JUDGEMENTS, FEWER_REPLICATES = 200_000, 200
_ACTIONS = {
    "mos": "mean opinion scores of items, and their quality by maximum likelihood",
    "screen": "what speaks against each person: BT.500, bias, inconsistency, repeats, gold",
    "agreement": "Krippendorff's alpha and percent agreement",
    "pairwise": "scores and ranks of items from pairwise votes, a scale per scene",
}


class Command(BaseCommand):
    help = "Opinion scores, screening, agreement and pairwise scales from files to files."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True, metavar="|".join(_ACTIONS))
        each = {name: commands.add_parser(name, help=text, description=text) for name, text in _ACTIONS.items()}
        for name in ("mos", "screen", "agreement"):
            columns = f"{','.join(files.JUDGEMENT_COLUMNS)}[,repeat][,gold]"
            _add_file(each[name], "--judgements", columns)
        _add_file(each["pairwise"], "--votes", f"{','.join(files.VOTE_COLUMNS)}[,scene]; winner is a, b or tie")
        for one in each.values():
            _add_file(one, "--out", "CSV or Parquet by its ending")
            one.add_argument("--without", nargs="+", default=[], metavar="PERSON", help="leave these persons out")
        _add_choices(each["mos"], "--likelihood", LikelihoodMode, None, "by default what the ratings per item call for")
        each["screen"].add_argument(
            "--gold-tolerance", type=float, help="a gold answer is right within this; a tenth of the scale by default"
        )
        _add_choices(each["pairwise"], "--model", PairModel, "bradley-terry", "default: bradley-terry")
        each["pairwise"].add_argument(
            "--prior", type=float, default=PRIOR_WINS, help="pseudo-wins each way on every pair compared; default 0.1"
        )
        for name in ("agreement", "pairwise"):
            each[name].add_argument("--replicates", type=int, help="of the bootstrap, 0: no intervals; default 1000")
            each[name].add_argument("--seed", type=int, default=0, help="of the bootstrap")

    def handle(self, *args: Any, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {
            "mos": self._mos,
            "screen": self._screen,
            "agreement": self._agreement,
            "pairwise": self._pairwise,
        }
        replicates = options.get("replicates")
        if replicates is not None and replicates < 0:
            raise CommandError(f"--replicates must be 0 or more, {replicates} given")
        try:
            actions[options["what"]](**options)
        except ValueError as error:  # the base of every error about input in the pure rooms
            raise CommandError(str(error)) from error

    def _mos(
        self, *, judgements: Path, out: Path, without: list[str], likelihood: LikelihoodMode | None, **options: Any
    ) -> None:
        given = files.read_judgements(judgements, frozenset(without))
        counted = ~given.marked
        person, item, value = given.person.code[counted], given.item.code[counted], given.value[counted]
        scores = mean_opinion_scores(item, value)
        mode = likelihood or likelihood_mode(scores.ratings)
        likely, _ = maximum_likelihood_scores(person, item, value, mode=mode)
        columns = (scores.ratings, scores.quality, scores.error, scores.low, scores.high, likely.quality)
        write_table(out, files.MOS_COLUMNS, zip(given.item.names, *(x.tolist() for x in columns), strict=True))
        self._say((*given.notes, scores.note, likely.note))
        self.stdout.write(f"{out}: {len(scores.items):,} items; {_size(given)}; likelihood: {mode}")

    def _screen(
        self, *, judgements: Path, out: Path, without: list[str], gold_tolerance: float | None, **options: Any
    ) -> None:
        given = files.read_judgements(judgements, frozenset(without))
        tolerance = GOLD_SHARE * float(np.ptp(given.value)) if gold_tolerance is None else gold_tolerance
        is_gold = ~np.isnan(given.answer)
        right = np.where(is_gold, np.abs(given.value - given.answer) <= tolerance + 1e-9, np.nan)
        found = report(given.person.code, given.item.code, given.value, repeat_of=given.repeat_of, right=right)
        rows = [_screened(given.person.names[line.person], line) for line in found.people]
        write_table(out, files.SCREEN_COLUMNS, rows)
        self._say((*given.notes, *found.notes))
        able = sum(line.rejectable for line in found.people)
        rejected = [given.person.names[line.person] for line in found.people if line.rejected]
        said = f"BT.500 rejects {len(rejected)} of the {able} persons it can judge"
        if not able:
            said = "BT.500 can reject nobody"
        others = sum(bool(line.reasons) for line in found.people if not line.rejected)
        self.stdout.write(f"{out}: {_size(given)}; {said}; other rules speak against {others} more")

    def _agreement(
        self,
        *,
        judgements: Path,
        out: Path,
        without: list[str],
        replicates: int | None,
        seed: int,
        **options: Any,
    ) -> None:
        given = files.read_judgements(judgements, frozenset(without))
        first = given.repeat_of < 0
        person, item, value = given.person.code[first], given.item.code[first], given.value[first]
        count = 1000 if value.size <= MANY_JUDGEMENTS else FEWER_REPLICATES
        count = count if replicates is None else replicates
        found = {
            level: krippendorff(person, item, value, level=level, replicates=count, seed=seed)
            for level in get_args(Level)
        }
        rows = [
            (level, one.alpha, one.low, one.high, one.percent, one.items, one.persons, one.values)
            for level, one in found.items()
        ]
        write_table(out, files.AGREEMENT_COLUMNS, rows)
        self._say((*given.notes, *dict.fromkeys(one.note for one in found.values())))
        self.stdout.write(f"{out}: {_size(given)}; {count:,} bootstrap replicates over items")

    def _pairwise(
        self,
        *,
        votes: Path,
        out: Path,
        without: list[str],
        model: PairModel,
        prior: float,
        replicates: int | None,
        seed: int,
        **options: Any,
    ) -> None:
        given = files.read_votes(votes, frozenset(without))
        count = 1000 if replicates is None else replicates
        rows: list[Sequence[Any]] = []
        notes: list[str] = []
        for scene, items, rows_of in _scenes(given):
            standing = rank_votes(
                [given.item.names[k] for k in items.tolist()],
                given.person.code[rows_of],
                np.searchsorted(items, given.a[rows_of]),
                np.searchsorted(items, given.b[rows_of]),
                given.outcome[rows_of],
                model=model,
                prior=prior,
                replicates=count,
                seed=seed,
            )
            rows += _standing_rows(scene, standing)
            notes += [f'scene "{scene}": {note}' if scene else note for note in standing.notes]
        write_table(out, files.PAIRWISE_COLUMNS, rows)
        self._say(notes)
        self.stdout.write(
            f"{out}: {len(rows):,} items in {len(given.scene.names):,} scenes; {given.outcome.size:,} votes of "
            f"{len(given.person.names):,} persons; {count:,} bootstrap replicates over persons"
        )

    def _say(self, notes: Iterable[str]) -> None:
        said = [note for note in notes if note]
        for note in said[:MOST_NOTES]:
            self.stderr.write(note)
        if len(said) > MOST_NOTES:
            self.stderr.write(f"and {len(said) - MOST_NOTES} more remarks of this kind")


def _add_file(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(name, type=Path, required=True, metavar="FILE", help=text)


def _add_choices(parser: argparse.ArgumentParser, name: str, kind: Any, default: Any, text: str) -> None:
    parser.add_argument(name, choices=get_args(kind), default=default, help=text)


def _size(given: Judgements) -> str:
    repeats = int(given.marked.sum())
    more = f" and {repeats:,} repeats" if repeats else ""
    return f"{given.value.size - repeats:,} judgements{more} of {len(given.person.names):,} persons"


def _screened(name: str, line: PersonMeasures) -> Sequence[Any]:
    """A row of `files.SCREEN_COLUMNS`."""
    unable = () if line.rejectable else (CANNOT_REJECT,)
    return (
        name,
        line.judged,
        line.above,
        line.below,
        line.rejected,
        line.bias,
        np.nan if line.inconsistency is None else line.inconsistency,
        np.nan if line.repeat_error is None else line.repeat_error,
        "; ".join((*line.reasons, *line.warnings, *unable)),
    )


def _scenes(given: Votes) -> Iterator[tuple[str, files.Integers, files.Integers]]:
    """Each scene's name, the numbers of its items in ascending order, and its rows."""
    order = np.argsort(given.scene.code, kind="stable")
    ends = np.cumsum(np.bincount(given.scene.code, minlength=len(given.scene.names)))
    for name, rows in zip(given.scene.names, np.split(order, ends[:-1]), strict=True):
        yield name, np.unique(np.concatenate([given.a[rows], given.b[rows]])), rows


def _standing_rows(scene: str, standing: PairwiseStanding) -> list[Sequence[Any]]:
    """Rows of `files.PAIRWISE_COLUMNS`, group by group, best first."""
    columns = (
        standing.strength,
        standing.low,
        standing.high,
        standing.rank,
        standing.rank_best,
        standing.rank_worst,
    )
    rows = list(zip(standing.items, *(column.tolist() for column in columns), strict=True))
    order = np.lexsort((standing.rank, standing.connectivity.component))
    return [(scene, *rows[k]) for k in order.tolist()]
