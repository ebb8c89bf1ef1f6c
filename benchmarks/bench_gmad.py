"""gMAD: selection against the obvious numpy ways, the cost of a ranking, published figures, and a real competition.

    python -m benchmarks.bench_gmad                      # one and four million rows; writes docs/benchmarks.md
    python -m benchmarks.bench_gmad --rows 1e5 --dry     # fewer, and only prints

Synthetic models share a quality and add noise of their own; scores are 32-bit floats on 0..100. Seconds are CPU seconds
of this process. The real competition reads `../shared/data` (or FALSIFY_SHARED_DATA) and is left out where that is
absent.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import argparse
import csv
import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numba import njit
from scipy.stats import pearsonr, spearmanr

from benchmarks.bench_selection import cpu_seconds, extra_megabytes
from benchmarks.report import markdown_table, write_section
from competition.ranking.gmad import rank_judgements, rank_matrices
from competition.selection.gmad import select

MODELS, LEVELS, HALF_WIDTH = 16, 6, 9.0
PEOPLE, REPLICATES = 31, 1000
DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
UPSCALING = DATA / "subjective" / "ai_upscaling_mos_9_biqa_scores.csv"
NINE = ("BRISQUE", "CNNIQA", "DBCNN", "HYPERIQA", "ILNIQE", "MANIQA", "MUSIQ", "NIQE", "paq2piq")
LOWER_IS_BETTER = ("BRISQUE", "ILNIQE", "NIQE")
BY_QUANTILES = "ILNIQE"  # its scores fall with the MOS of this study
OBSERVERS = 15

STUDIES: dict[str, tuple[list[str], list[list[float]], list[float]]] = {
    "aesthetics, aggressiveness": (
        ["GIST+SVR", "AAF+SVR", "Kong16", "Jin16"],
        [[0, 0.216, 0.103, 0.031], [0.314, 0, 0.182, 0.160], [0.287, 0.292, 0, 0.299], [0.459, 0.466, 0.578, 0]],
        [-0.577, -0.189, 0.145, 0.621],
    ),
    "aesthetics, resistance": (
        ["GIST+SVR", "AAF+SVR", "Kong16", "Jin16"],
        [[0, 0.686, 0.713, 0.541], [0.662, 0, 0.708, 0.534], [0.741, 0.648, 0, 0.422], [0.934, 0.810, 0.701, 0]],
        [-0.097, -0.064, -0.098, 0.260],
    ),
    "streaming, aggressiveness": (
        ["Liu12", "Yin15", "SQI"],
        [[0, 0, 0.687], [0.430, 0, 0.077], [0.566, 0.777, 0]],
        [-0.106, -0.161, 0.267],
    ),
    "streaming, resistance": (
        ["Liu12", "Yin15", "SQI"],
        [[0, 0.570, 0.434], [0.636, 0, 0.223], [0.313, 0.499, 0]],
        [0.010, -0.112, 0.102],
    ),
}

Columns = list[np.ndarray]
Found = list[tuple[int, int, int, int, int]]  # attacker, defender, level, worst, best


def synthetic_scores(n_rows: int, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    quality = rng.normal(50, 18, n_rows)
    return [np.clip(quality + rng.normal(0, 8 + model, n_rows), 0, 100).astype(np.float32) for model in range(MODELS)]


def centres(own: np.ndarray) -> np.ndarray:
    low, high = float(own.min()), float(own.max())
    return low + (high - low) / LEVELS * (np.arange(1, LEVELS + 1) - 0.5)


def argsort_per_cell(columns: Columns) -> Found:
    """A mask per level, and an argsort per cell."""
    found: Found = []
    for defender, own in enumerate(columns):
        for k, centre in enumerate(centres(own)):
            inside = np.flatnonzero(np.abs(own.astype(np.float64) - centre) < HALF_WIDTH)
            for attacker, said in enumerate(columns):
                if attacker != defender and len(inside) > 1:
                    there = said[inside]
                    order = np.argsort(there, kind="stable")
                    best = order[np.searchsorted(there[order], there[order[-1]])]  # of equal ones the first
                    found.append((attacker, defender, k + 1, int(inside[order[0]]), int(inside[best])))
    return found


def argmin_per_cell(columns: Columns) -> Found:
    """The same without a sort, which nothing but habit asks for."""
    found: Found = []
    for defender, own in enumerate(columns):
        for k, centre in enumerate(centres(own)):
            inside = np.flatnonzero(np.abs(own.astype(np.float64) - centre) < HALF_WIDTH)
            for attacker, said in enumerate(columns):
                if attacker != defender and len(inside) > 1:
                    there = said[inside]
                    found.append((attacker, defender, k + 1, int(inside[there.argmin()]), int(inside[there.argmax()])))
    return found


@njit(cache=True)
def _walk(order: np.ndarray, own: np.ndarray, centre: float, half_width: float) -> int:
    for row in order:
        if abs(np.float64(own[row]) - centre) < half_width:
            return row
    return -1


def argsort_and_walk(columns: Columns) -> Found:
    """One argsort per model and end, then a walk from both ends for every cell, compiled."""
    found: Found = []
    middles = [centres(own) for own in columns]
    for attacker, said in enumerate(columns):
        rising, falling = np.argsort(said, kind="stable"), np.argsort(-said, kind="stable")
        for defender, own in enumerate(columns):
            for k, centre in enumerate(middles[defender]):
                if attacker != defender:
                    worst, best = (_walk(order, own, centre, HALF_WIDTH) for order in (rising, falling))
                    if worst != best:
                        found.append((attacker, defender, k + 1, int(worst), int(best)))
    return found


def ours(columns: Columns) -> Found:
    pairs = select(columns, levels=LEVELS, half_width=HALF_WIDTH).pairs
    arrays = (pairs.attacker, pairs.defender, pairs.level, pairs.worst, pairs.best)
    return list(zip(*(array.tolist() for array in arrays), strict=True))


WAYS = {
    "numpy: argsort per cell": argsort_per_cell,
    "numpy: argmin and argmax per cell": argmin_per_cell,
    "numba: argsorts per model, walk from both ends": argsort_and_walk,
}


def selection_lines(n_rows: int, repeats: int) -> list[list[str]]:
    """The lines of the table for one number of rows. Raises SystemExit if the ways do not agree."""
    columns = synthetic_scores(n_rows)
    seconds, pairs = cpu_seconds(lambda: ours(columns), repeats)
    lines = []
    for way, function in WAYS.items():
        spent, found = cpu_seconds(lambda function=function: function(columns), 1)
        if sorted(found) != sorted(pairs):
            raise SystemExit(f"{way} selects other pairs")
        extra = extra_megabytes(lambda function=function: function(columns[:2]))
        lines.append([way, f"{n_rows:,}", f"{spent:.2f}", f"{spent / seconds:.1f}", f"{extra:.1f}"])
    peak = extra_megabytes(lambda: ours(columns))
    return [*lines, ["**`select`**", f"{n_rows:,}", f"{seconds:.3f}", "1.0", f"{peak:.1f}"]]


def option_lines(n_rows: int) -> list[list[str]]:
    columns = synthetic_scores(n_rows)
    rng = np.random.default_rng(1)
    groups = rng.integers(0, n_rows // 21, n_rows)
    hashes = rng.integers(0, 2**63, n_rows).astype(np.uint64)
    options: dict[str, dict[str, Any]] = {
        "equal-count levels": {"half_width": None},
        "5 disjoint pairs a cell": {"top": 5},
        "an image in at most 2 exhibits": {"cap": 2},
        "21 images a source, none twice": {"groups": groups, "spread": "competition"},
        "the same, near-duplicates, 2 exhibits": {
            "groups": groups,
            "hashes": hashes,
            "duplicate_distance": 8,
            "spread": "competition",
            "cap": 2,
        },
        "a newcomer": {"newcomers": [MODELS - 1]},
    }
    lines = []
    for name, some in options.items():
        seconds, selection = cpu_seconds(lambda some=some: select(columns, **some), 1)
        lines.append([name, f"{len(selection.pairs):,}", f"{seconds:.2f}"])
    return lines


def selection_section(rows: list[int], repeats: int) -> str:
    compile_first = synthetic_scores(3000)
    for function in (ours, *WAYS.values()):
        function(compile_first)
    select(compile_first, top=2, cap=2, groups=np.arange(3000) // 9, hashes=np.arange(3000, dtype=np.uint64),
           duplicate_distance=1, spread="competition", half_width=None)  # fmt: skip
    lines = [line for n_rows in rows for line in selection_lines(n_rows, repeats)]
    table = markdown_table(["way", "images", "CPU seconds", "times `select`", "peak extra MB"], lines)
    more = markdown_table(["with", "pairs", "CPU seconds"], option_lines(rows[0]))
    shown = " ".join(str(n_rows) for n_rows in rows)
    return (
        "## gMAD selection\n\n"
        f"All {MODELS * (MODELS - 1)} ordered pairs of {MODELS} models, {LEVELS} levels of half width {HALF_WIDTH:g}: "
        f"{MODELS * (MODELS - 1) * LEVELS:,} cells. One core, one run; all ways select the same pairs, which the "
        "command checks. Memory: what is allocated at the peak, by numpy for two models.\n\n"
        f"`python -m benchmarks.bench_gmad --rows {shown}`\n\n{table}\n\n"
        f"`select` on {rows[0]:,} images, with options:\n\n{more}"
    )


def judgements(m: int, k: int, people: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Everybody judges every cell; models later in the list attack better."""
    rng = np.random.default_rng(seed)
    attacker, defender, level, person = (
        column.ravel() for column in np.meshgrid(range(m), range(m), range(1, k + 1), range(people), indexing="ij")
    )
    apart = attacker != defender
    attacker, defender, level, person = (column[apart] for column in (attacker, defender, level, person))
    score = 60 * (attacker - defender) / m + 20 + rng.normal(0, 30, len(person)) + rng.normal(0, 8, people)[person]
    return {
        "attacker": attacker,
        "defender": defender,
        "level": level,
        "person": person,
        "score": np.clip(score, -100, 100),
        "counts": rng.integers(50, 500, (m, k)),
    }


def ranking_section() -> str:
    lines = []
    for m, mode in ((MODELS, "exact"), (MODELS, "published"), (50, "exact")):
        names = [f"model {number}" for number in range(m)]
        case = judgements(m, LEVELS, PEOPLE)
        run: dict[str, Any] = {"mode": mode, **case}
        seconds, standing = cpu_seconds(lambda run=run, names=names: rank_judgements(names, **run), 3)
        one, _ = cpu_seconds(lambda run=run, names=names: rank_judgements(names, replicates=0, **run), 3)
        size = f"{len(case['score']):,}"
        ratio = f"{one * REPLICATES / seconds:,.0f}"
        lines.append([f"{m} models, {mode}", size, f"{seconds:.2f}", f"{one * 1000:.0f}", ratio])
        if len(standing.aggressiveness.replicates) != REPLICATES:
            raise SystemExit("the ranking drew another number of replicates")
    table = markdown_table(
        ["", "judgements", f"CPU seconds, {REPLICATES:,} replicates", "one ranking, ms", "times, one by one"], lines
    )
    return (
        "## gMAD ranking\n\n"
        f"{LEVELS} levels, {PEOPLE} people who judge every pair; from single judgements to aggressiveness, resistance, "
        "both global ranks, intervals over people and rank ranges. One by one: as many rankings without replicates.\n\n"
        f"`python -m benchmarks.bench_gmad`\n\n{table}"
    )


def studies_section() -> str:
    lines = []
    for study, (names, matrix, published) in STUDIES.items():
        scores = {
            mode: rank_matrices(names, np.array(matrix), np.array(matrix), mode=mode).aggressiveness.score
            for mode in ("published", "exact")
        }
        lines += [
            [f"{study}: {name}", f"{wanted:.3f}", f"{scores['published'][at]:.4f}", f"{scores['exact'][at]:.4f}"]
            for at, (name, wanted) in enumerate(zip(names, published, strict=True))
        ]
    largest = max(abs(float(line[2]) - float(line[1])) for line in lines)
    table = markdown_table(["study: model", "as published", "`published`", "`exact`"], lines)
    return (
        "## gMAD: the global ranks of published studies\n\n"
        "From the matrices as printed, three digits; the published scores come from more, and the last digits printed "
        f"move a score by up to 0.003. Largest difference: {largest:.4f}.\n\n"
        f"`python -m benchmarks.bench_gmad`\n\n{table}"
    )


def gmad_command(*arguments: str | Path) -> str:
    """Runs `manage.py gmad` and returns what it said beside its results."""
    import django
    from django.core.management import call_command

    django.setup()
    told = StringIO()
    call_command("gmad", *map(str, arguments), stdout=StringIO(), stderr=told, no_color=True)
    return told.getvalue()


def real_section() -> str:
    table = pyarrow.csv.read_csv(UPSCALING)
    images = ["/".join(parts) for parts in zip(*(table[name].to_pylist() for name in ("upscaler", "factor", "f")))]  # noqa: B905
    mos, spread = (dict(zip(images, table[name].to_numpy().astype(float), strict=True)) for name in ("mos", "std"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        scores = table.select(list(NINE)).add_column(0, "path", [images])
        pa.csv.write_csv(scores, place / "scores.csv")
        pa.csv.write_csv(scores.append_column("mos", table["mos"].cast(pa.float64())), place / "calibration.csv")
        gmad_command(
            "select", "--scores", place / "scores.csv", "--calibration", place / "calibration.csv", "--mos-range", "1",
            "5", "--lower-is-better", *LOWER_IS_BETTER, "--quantiles", BY_QUANTILES, "--out", place / "pairs.csv",
        )  # fmt: skip
        pairs = read_rows(place / "pairs.csv")
        answer(pairs, mos, spread, place / "judgements.csv")
        gmad_command(
            "rank", "--judgements", place / "judgements.csv", "--levels", place / "levels.csv", "--out",
            place / "standings.csv",
        )  # fmt: skip
        standings = read_rows(place / "standings.csv")
    values = np.array([mos[image] for image in images])
    srcc = {name: oriented_srcc(table, name, values) for name in NINE}
    order = [row["model"] for row in standings]
    by_srcc = [srcc[name] for name in order]
    lines = [
        [
            row["model"],
            f"{srcc[row['model']]:.3f}",
            *(interval(row, *names) for names in (("aggressiveness", "aggr"), ("resistance", "res"))),
        ]
        for row in standings
    ]
    related = {
        what: (spearmanr(by_srcc, [float(row[what]) for row in standings])[0],
               pearsonr(by_srcc, [float(row[what]) for row in standings])[0])
        for what in ("aggressiveness", "resistance")
    }  # fmt: skip
    body = markdown_table(["measure", "SRCC with the MOS", "aggressiveness (95 %)", "resistance (95 %)"], lines)
    distinct = {frozenset((row["worst_path"], row["best_path"])) for row in pairs}
    return (
        "## gMAD: nine measures over a real study\n\n"
        f"The scores of nine no-reference measures over {len(images):,} upscaled images, through `gmad select` and "
        f"`gmad rank`: logistic calibration to the MOS ({BY_QUANTILES}, whose scores fall with the MOS, by quantiles), "
        f"{LEVELS} levels of half width {HALF_WIDTH:g}. {len(pairs)} pairs, {len(distinct)} different. {OBSERVERS} "
        "simulated people answer each: what they think of an image is drawn from its MOS and standard deviation; the "
        "difference, from -4 to 4, is scaled to -100..100. Four measures could not score the 202 largest images.\n\n"
        f"`python -m benchmarks.bench_gmad`\n\n{body}\n\n"
        f"Over the nine measures, SRCC with the MOS against aggressiveness: Spearman "
        f"{related['aggressiveness'][0]:.2f}, Pearson {related['aggressiveness'][1]:.2f}; against resistance: Spearman "
        f"{related['resistance'][0]:.2f}, Pearson {related['resistance'][1]:.2f}."
    )


def answer(pairs: list[dict[str, str]], mos: dict[str, float], spread: dict[str, float], out: Path) -> None:
    """A judgements file of simulated people; a person thinks the same of an image whenever it comes."""
    rng = np.random.default_rng(0)
    thinks: dict[tuple[int, str], float] = {}
    rows = []
    for row in pairs:
        for person in range(OBSERVERS):
            worst, best = (
                thinks.setdefault((person, image), float(np.clip(rng.normal(mos[image], spread[image]), 1, 5)))
                for image in (row["worst_path"], row["best_path"])
            )
            rows.append([row["attacker"], row["defender"], row["level"], f"p{person}", round(25 * (best - worst), 2)])
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["attacker", "defender", "level", "person", "score"])
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def oriented_srcc(table: pa.Table, name: str, mos: np.ndarray) -> float:
    scores = table[name].to_numpy().astype(float) * (-1 if name in LOWER_IS_BETTER else 1)
    scored = ~np.isnan(scores)
    return float(spearmanr(scores[scored], mos[scored])[0])


def interval(row: dict[str, str], score: str, ends: str) -> str:
    return f"{float(row[score]):.2f} ({float(row[f'{ends}_low']):.2f} to {float(row[f'{ends}_high']):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: int(float(text)), nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--repeats", type=int, default=5, help="runs of `select`; the fastest counts")
    parser.add_argument("--dry", action="store_true", help="print, and leave docs/benchmarks.md alone")
    options = parser.parse_args()
    sections = {
        "gmad-selection": lambda: selection_section(options.rows, options.repeats),
        "gmad-ranking": ranking_section,
        "gmad-studies": studies_section,
        "gmad-real": real_section,
    }
    for name, section in sections.items():
        if name == "gmad-real" and not UPSCALING.exists():
            print(f"{UPSCALING} is not there: the real competition is left out")
            continue
        text = section()
        print(text, end="\n\n")
        if not options.dry:
            write_section(name, text, libraries=("numpy", "scipy", "numba", "pyarrow"))


if __name__ == "__main__":
    main()
