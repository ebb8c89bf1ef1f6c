"""Opinion scores, screening, pairwise scales and active sampling, on real studies and on simulated ones.

    python -m benchmarks.bench_psychometrics [--data ../shared/data]

Real studies are read from the optional data folder; without it only the simulated parts are measured.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import process_time

import choix
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr

from benchmarks.bench_ranking import choix_dense, pairwise_votes, redrawn_votes, sklearn_by_vote
from benchmarks.report import markdown_table, write_section
from labeling.psychometrics.active import posterior, propose
from labeling.psychometrics.agreement import krippendorff
from labeling.psychometrics.mos import bias_removed_scores, maximum_likelihood_scores, mean_opinion_scores
from labeling.psychometrics.pairwise import Tally, fit, rank_votes, tally_of_wins, tally_votes
from labeling.psychometrics.people import report
from labeling.psychometrics.screening import bt500

Ratings = tuple[np.ndarray, np.ndarray, np.ndarray]  # person, item, value
MODELS, REPLICATES = 50, 1000
PLANTED, SEEDS = 4, 20
RATINGS = (
    "Real studies. MOS against the published means (UHD frames) or the matrix's own; the likelihood of P.910 Annex E "
    "against a generic optimiser (L-BFGS-B) of the same likelihood; BT.500 against the rule written out in loops."
)
PLANTS = (
    f"The same studies with {PLANTED} bad persons planted among the real ones: two answer at random, two rate 1.5 too "
    "high and carelessly. Error of the recovered quality against the means of the untouched study, mean of "
    f"{SEEDS} draws."
)
VOTES = "Real votes against choix, both without a prior."
ACTIVE = (
    "Active sampling, batches of one spanning tree with a tenth of random pairs, against random pairs. Simulated: "
    "strengths drawn with the spread given (natural logarithm of the odds), error against the truth. Replayed: real "
    "votes, each given out once, until half of a scene's votes are used, error against the fit of all of them (mean of "
    "100 orders). How many votes active sampling needs for the error, or the rank correlation, that random pairs have "
    "after so many; in brackets how many times fewer, below 1 more. Active sampling pays where a scale is wide enough "
    "for some answers to be known beforehand; where all items lie close together, as in the last scene, every pair "
    "tells about as much and there is nothing to choose."
)


def seconds(function: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = process_time()
    function()
    return process_time() - start


def coded(*columns: list[str]) -> list[np.ndarray]:
    return [np.unique(column, return_inverse=True)[1] for column in columns]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def raw_study(path: Path) -> Ratings:
    """A matrix of opinion scores, items by persons."""
    matrix = np.array([video["os"] for video in json.loads(path.read_text())["dis_videos"]], dtype=np.float64)
    item, person = np.nonzero(~np.isnan(matrix))
    return person, item, matrix[item, person]


def laboratory_study(folder: Path) -> tuple[Ratings, np.ndarray]:
    """Ratings of the coded frames, and the published means in the order of the items."""
    rows = read_rows(folder / "ratings.csv")
    names = [row["video_name"].rpartition("\\")[2].removesuffix(".png']") for row in rows]
    person, item = coded([row["user_ID"] for row in rows], names)
    published = {row["image_name"]: float(row["mos"]) for row in read_rows(folder / "mos_ci.csv")}
    means = np.array([published[name] for name in sorted(set(names))])
    return (person, item, np.array([float(row["rating"]) for row in rows])), means


def studies(data: Path) -> Iterator[tuple[str, Ratings, np.ndarray]]:
    """Name, ratings and independently known means of each real study."""
    for title, name in (("NFLX public", "nflx_public_raw.json"), ("VQEG HD3", "vqeg_hd3_raw.json")):
        person, item, value = raw_study(data / "subjective" / name)
        yield title, (person, item, value), np.array([value[item == k].mean() for k in range(item.max() + 1)])
    ratings, published = laboratory_study(data / "iqa_uhd_frames")
    yield "UHD frames", ratings, published


def slow_likelihood(person: np.ndarray, item: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Quality by a generic optimiser of the likelihood of P.910 Annex E."""
    k, p = item.max() + 1, person.max() + 1

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        quality, bias, log_sigma = np.split(theta, [k, k + p])
        residual = value - quality[item] - bias[person]
        weight = np.exp(-2 * log_sigma)[person]
        slope = -weight * residual
        gradient = [
            np.bincount(item, slope, k),
            np.bincount(person, slope, p) + 2 * bias.sum(),
            np.bincount(person, 1 - weight * residual**2, p),
        ]
        return (log_sigma[person] + weight * residual**2 / 2).sum() + bias.sum() ** 2, np.concatenate(gradient)

    start = np.concatenate([np.bincount(item, value) / np.bincount(item), np.zeros(2 * p)])
    options = {"maxiter": 20_000, "maxfun": 20_000, "ftol": 1e-16, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return found[:k] + (value.mean() - found[:k][item].mean() - found[k : k + p][person].mean())


def slow_rejections(person: np.ndarray, item: np.ndarray, value: np.ndarray) -> list[bool]:
    """BT.500 as it is written, one judgement after another."""
    above, below = np.zeros(person.max() + 1), np.zeros(person.max() + 1)
    for k in range(item.max() + 1):
        who, given = person[item == k], value[item == k]
        mean, sigma = given.mean(), given.std()
        if sigma == 0:
            continue
        kurtosis = ((given - mean) ** 4).mean() / sigma**4
        far = (2 if 2 <= kurtosis <= 4 else 20**0.5) * sigma
        for i, score in zip(who.tolist(), given.tolist(), strict=True):
            above[i] += score >= mean + far - 1e-9
            below[i] += score <= mean - far + 1e-9
    judged, far_off = np.bincount(person), above + below
    return [
        bool(far_off[i] / judged[i] > 0.05 and abs(above[i] - below[i]) / far_off[i] < 0.3) for i in range(judged.size)
    ]


def ratings_table(data: Path) -> str:
    rows = []
    for title, ratings, known in studies(data):
        person, item, value = ratings
        plain = mean_opinion_scores(item, value)
        likely, _ = maximum_likelihood_scores(*ratings)
        screened = bt500(*ratings)
        same = "yes" if screened.flagged.tolist() == slow_rejections(*ratings) else "NO"
        rows.append(
            (
                title,
                f"{item.max() + 1} x {person.max() + 1}",
                f"{np.abs(plain.quality - known).max():.0e}",
                f"{np.abs(likely.quality - slow_likelihood(*ratings)).max():.0e}",
                f"{int(screened.flagged.sum())} ({same})",
                f"{krippendorff(*first_only(ratings), level='interval').alpha:.3f}",
            )
        )
    header = [
        "study", "items x persons", "MOS: largest difference", "likelihood: largest difference",
        "BT.500 rejects (as written out)", "alpha, interval",
    ]  # fmt: skip
    return markdown_table(header, rows)


def first_only(ratings: Ratings) -> Ratings:
    """Two persons of the UHD study rated one frame twice."""
    person, item, value = ratings
    first = np.sort(np.unique(person * (item.max() + 1) + item, return_index=True)[1])
    return person[first], item[first], value[first]


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error up to the common offset that no rating can show."""
    return float(np.sqrt(np.mean((found - found.mean() - truth + truth.mean()) ** 2)))


def planted(ratings: Ratings, rng: np.random.Generator, seen: float) -> Ratings:
    """A share of the real ratings, with four more persons: two answer at random, two rate high and carelessly."""
    kept = rng.random(ratings[0].size) < seen
    person, item, value = (column[kept] for column in ratings)
    for number in range(PLANTED):
        items = np.flatnonzero(rng.random(ratings[1].max() + 1) < seen)
        answers = rng.integers(1, 6, items.size).astype(float)
        if number % 2:
            quality = (np.bincount(ratings[1], ratings[2]) / np.bincount(ratings[1]))[items]
            answers = np.clip(np.round(quality + 1.5 + rng.normal(0, 1, items.size)), 1, 5)
        person = np.append(person, np.full(items.size, ratings[0].max() + 1 + number))
        item, value = np.append(item, items), np.append(value, answers)
    return person, item, value


def planted_table(data: Path) -> str:
    rows = []
    for title, ratings, known in studies(data):
        for seen in (1.0, 0.3):
            errors, found = [], []
            for seed in range(SEEDS):
                person, item, value = planted(ratings, np.random.default_rng(seed), seen)
                present = np.unique(item)
                scores, people = maximum_likelihood_scores(person, item, value)
                quality = [mean_opinion_scores(item, value), bias_removed_scores(person, item, value)[0], scores]
                errors.append([error(one.quality, known[present]) for one in quality])
                worst = people.persons[np.argsort(people.inconsistency)[-PLANTED:]]
                found.append((worst > ratings[0].max()).sum())
            plain, unbiased, likely = np.mean(errors, axis=0)
            rows.append(
                (
                    title,
                    f"{100 * seen:.0f} %",
                    f"{plain:.3f}",
                    f"{unbiased:.3f}",
                    f"{likely:.3f}",
                    f"{np.mean(found):.1f} of {PLANTED}",
                )
            )
    header = [
        "study", "items each person saw", "plain MOS", "bias removed", "likelihood",
        "planted among the most inconsistent",
    ]  # fmt: skip
    return markdown_table(header, rows)


def tone_mapping(data: Path) -> dict[str, tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Scene -> number of conditions, person, first, second, outcome."""
    rows = read_rows(data / "subjective" / "tone_mapping_votes.csv")
    scenes = {}
    for scene in sorted({row["scene"] for row in rows}):
        own = [row for row in rows if row["scene"] == scene]
        both = coded([row["condition_A"] for row in own] + [row["condition_B"] for row in own])[0]
        first, second = both[: len(own)], both[len(own) :]
        person = coded([row["observer"] for row in own])[0]
        scenes[scene] = (both.max() + 1, person, first, second, np.array([float(row["is_A_selected"]) for row in own]))
    return scenes


def choix_strength(tally: Tally) -> np.ndarray:
    wins = [
        (int(winner), int(loser))
        for pair, (a, b) in enumerate(zip(tally.first, tally.second, strict=True))
        for count, winner, loser in ((tally.counts[0, pair], a, b), (tally.counts[1, pair], b, a))
        for _ in range(int(count))
    ]
    return choix.opt_pairwise(tally.n_items, wins, tol=1e-12)


def votes_table(data: Path) -> str:
    rows = []
    tallies = {
        f"tone mapping, {scene}": tally_votes(*votes[2:], votes[0]) for scene, votes in tone_mapping(data).items()
    }
    games = read_rows(data / "subjective" / "baseball_wins.csv")
    home, away = (coded([row[f"{side}.team"] for row in games])[0] for side in ("home", "away"))
    wins = np.zeros((home.max() + 1, home.max() + 1))
    np.add.at(wins, (home, away), [int(row["home.wins"]) for row in games])
    np.add.at(wins, (away, home), [int(row["away.wins"]) for row in games])
    tallies["baseball"] = tally_of_wins(wins)
    for title, tally in tallies.items():
        theirs = choix_strength(tally)
        ours, smoothed = fit(tally, prior=0).strength, fit(tally).strength
        rows.append(
            (
                title,
                tally.n_items,
                int(tally.counts.sum()),
                f"{np.abs(ours - theirs + theirs.mean()).max():.0e}",
                f"{np.ptp(ours):.2f}",
                f"{np.abs(ours - smoothed).max():.3f}",
                f"{spearmanr(fit(tally, model='thurstone').strength, ours).statistic:.3f}",
            )
        )
    header = [
        "votes", "items", "number", "largest difference to choix", "range of the scale", "moved by the prior",
        "Spearman with Thurstone",
    ]  # fmt: skip
    return markdown_table(header, rows)


def speed_table() -> str:
    rng = np.random.default_rng(0)
    votes = pairwise_votes(rng)
    names = [f"m{k}" for k in range(MODELS)]
    ours = median(seconds(lambda: rank_votes(names, *votes, replicates=REPLICATES)) for _ in range(5))
    rows = [("Bradley-Terry, 50 items, 100,000 votes, 1,000 replicates over persons", f"{ours:.2f}")]
    for title, one in (("scikit-learn, a row per vote", sklearn_by_vote), ("choix, wins summed by pair", choix_dense)):
        each = median(seconds(lambda one=one: one(*redrawn_votes(rng, votes))) for _ in range(5))
        rows.append((f"the same, {title}, one by one (extrapolated from 5)", f"{each * REPLICATES:,.0f}"))
    persons, items, count = 3000, 60_000, 1_000_000
    cells = np.unique(rng.integers(0, persons * items, int(1.01 * count)))[:count]
    person, item = cells // items, cells % items
    noise = rng.normal(0, 0.4, persons)[person] + 0.7 * rng.normal(size=cells.size)
    value = np.clip(np.round(rng.uniform(1, 5, items)[item] + noise), 1, 5)
    cases: dict[str, Callable[[], object]] = {
        "MOS with intervals": lambda: mean_opinion_scores(item, value),
        "bias removed": lambda: bias_removed_scores(person, item, value),
        "likelihood": lambda: maximum_likelihood_scores(person, item, value),
        "report on 3,000 persons": lambda: report(person, item, value),
        "alpha, ordinal, 200 replicates": lambda: krippendorff(person, item, value, level="ordinal", replicates=200),
    }
    rows += [(f"1,000,000 sparse ratings: {title}", f"{seconds(one):.1f}") for title, one in cases.items()]
    votes_so_far = [rng.integers(0, 200, 4000)]
    votes_so_far += [(votes_so_far[0] + rng.integers(1, 200, 4000)) % 200, rng.integers(0, 2, 4000)]
    rows.append(
        (
            "the next 199 pairs of 200 items, 4,000 votes so far",
            f"{seconds(lambda: propose(200, *votes_so_far, seed=0)):.2f}",
        )
    )
    return markdown_table(["what", "CPU seconds"], rows)


def course(
    m: int, truth: np.ndarray, ask: Callable[[int, int], float | None], allowed: Callable[[], np.ndarray],
    active: bool, turns: int, seed: int,
) -> np.ndarray:  # fmt: skip
    """(turns, 2) error and rank correlation after each batch of m - 1 votes."""
    rng = np.random.default_rng(seed)
    first, second, outcome = [], [], []
    found = []
    for turn in range(turns):
        may = allowed()
        if active:
            pairs = propose(m, first, second, outcome, seed=1000 * seed + turn, allowed=may)
        else:
            choices = np.argwhere(np.triu(may, 1))
            pairs = choices[rng.choice(len(choices), m - 1, replace=False)]
        for a, b in pairs.tolist():
            first.append(a)
            second.append(b)
            outcome.append(ask(a, b))
        mean = posterior(tally_votes(first, second, outcome, m)).mean
        found.append((error(mean, truth), spearmanr(mean, truth).statistic))
    return np.array(found)


def simulated_course(m: int, spread: float, active: bool, turns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, spread, m)
    every = ~np.eye(m, dtype=bool)
    return course(
        m, truth, lambda a, b: float(rng.random() < expit(truth[a] - truth[b])), every.copy, active, turns, seed
    )


def replayed_course(votes: tuple, active: bool, seed: int) -> np.ndarray:
    """The votes of a real study, each given out once, pair by pair in random order, until half are used."""
    m, _, first, second, outcome = votes
    rng = np.random.default_rng(seed)
    pool: dict[tuple[int, int], list[float]] = {}
    for row in rng.permutation(first.size):
        a, b, won = int(first[row]), int(second[row]), float(outcome[row])
        pool.setdefault((min(a, b), max(a, b)), []).append(won if a < b else 1 - won)
    truth = posterior(tally_votes(first, second, outcome, m)).mean

    def allowed() -> np.ndarray:
        may = np.zeros((m, m), dtype=bool)
        for a, b in (pair for pair, left in pool.items() if left):
            may[a, b] = may[b, a] = True
        return may

    def ask(a: int, b: int) -> float:
        won = pool[min(a, b), max(a, b)].pop()
        return won if a < b else 1 - won

    return course(m, truth, ask, allowed, active, first.size // (2 * (m - 1)), seed)


def votes_to_reach(curve: np.ndarray, bar: float, falling: bool, each: int) -> float:
    """Votes after which a curve, one point a batch of `each` votes, stays beyond the bar; interpolated."""
    beyond = curve <= bar if falling else curve >= bar
    if not beyond[-1]:
        return float("nan")
    start = int(np.flatnonzero(~beyond)[-1]) + 1 if not beyond.all() else 0
    if start == 0:
        return float(each)
    share = (bar - curve[start - 1]) / (curve[start] - curve[start - 1])
    return each * (start + share)


def compared(title: str, m: int, courses: Callable[[bool, int], np.ndarray], seeds: int) -> list[tuple[object, ...]]:
    """What active sampling needs to be as good as random pairs are after half and after all of their votes."""
    active, random = (np.mean([courses(way, seed) for seed in range(seeds)], axis=0) for way in (True, False))
    rows = []
    for turn in (len(random) // 2, len(random)):
        needs = [
            votes_to_reach(active[:, column], float(random[turn - 1, column]), column == 0, m - 1) for column in (0, 1)
        ]
        votes = turn * (m - 1)
        said = [f"{need:.0f} ({votes / need:.2f})" if need == need else "more" for need in needs]
        rows.append((title, votes, f"{random[turn - 1, 0]:.3f}", said[0], f"{random[turn - 1, 1]:.3f}", said[1]))
    return rows


def active_table(data: Path) -> str:
    rows = []
    for m, spread, turns, seeds in ((16, 1.5, 30, 30), (16, 3.0, 30, 30), (50, 2.0, 30, 8)):
        title = f"simulated, {m} items, spread {spread:g}"
        rows += compared(
            title,
            m,
            lambda active, seed, m=m, spread=spread, turns=turns: simulated_course(m, spread, active, turns, seed),
            seeds,
        )
    if data.exists():
        for scene, votes in tone_mapping(data).items():
            rows += compared(
                f"replayed, tone mapping, {scene}",
                votes[0],
                lambda active, seed, votes=votes: replayed_course(votes, active, seed),
                60,
            )
    header = ["", "random votes", "their error", "active votes", "their Spearman", "active votes"]
    return markdown_table(header, rows)


def run(data: Path) -> str:
    """Measures everything and returns the section."""
    parts = ["## Psychometrics", "`python -m benchmarks.bench_psychometrics`", speed_table()]
    if data.exists():
        parts += [RATINGS, ratings_table(data), PLANTS, planted_table(data), VOTES, votes_table(data)]
    parts += [ACTIVE, active_table(data)]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("FALSIFY_SHARED_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="the optional data folder")
    section = run(parser.parse_args().data)
    write_section("psychometrics", section, libraries=("numpy", "scipy", "scikit-learn", "choix"))
    print(section)


if __name__ == "__main__":
    main()
