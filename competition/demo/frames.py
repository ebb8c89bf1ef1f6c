"""A gMAD competition of real quality models over real video frames, answered by recorded people.

324 H.265-coded frames of the AVT image-quality study (TU Ilmenau) with the laboratory ratings of 21 people, 1 to 5, one
of each person and frame. A recorded person's comparison of two frames is the difference of their own two ratings, four
points being the whole scale. People saw every frame at the full height of the screen, so the coded ones are enlarged to
one height.
"""

import csv
import tarfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
from PIL import Image
from scipy.stats import spearmanr

from accounts.errors import DomainError
from accounts.models import User
from competition.demo import seeding
from competition.demo.replaying import Answering
from competition.models import Entrant, Exhibit, ExhibitRole, Round, Snapshot
from corpora.reading import manifest_of, opinion_table
from labeling.models import Judgement, Slot
from models_zoo.models import Scores, Task, Version, VersionKind
from models_zoo.reading import oriented

NAME = "Coded video frames"
CORPUS = "AVT frames"
N_PEOPLE = 21
NOTE = "Recorded people (AVT frames, laboratory)"
LOWEST, HIGHEST = 1, 5  # of a rating
SHOWN_HEIGHT = 896  # lines: people saw every frame at the full height of the screen, however few lines were coded
NEEDED = (
    "iqa_uhd_frames/images.tar", "iqa_uhd_frames/mos_ci.csv", "iqa_uhd_frames/ratings.csv",
    "iqa_uhd_frames/objective_metrics.csv", "biqa_params/cnniqa_live.pth", "biqa_params/brisque_svr_model.txt",
    "biqa_params/brisque_feature_range.txt", "biqa_params/niqe_pristine_params.npz",
)  # fmt: skip
COMPUTED = {"vmaf": "VMAF", "psnr": "PSNR (video)", "ssim": "SSIM (video)", "ms_ssim": "MS-SSIM (video)"}
"""Columns of the study's own full-reference metrics, measured against the uncoded video."""
PLAIN = {"blur_effect": "Blur effect", "jpeg_quality": "JPEG quality (Wang 2002)"}


def build(data: Path, *, levels: int, by: User, say: Callable[[str], object]) -> Round:
    """Import, add nine entrants, score, select, and open the campaign; what is there already is kept.

    Raises:
        DomainError: when the data folder lacks a file.
    """
    data = data.resolve()
    missing = [name for name in NEEDED if not (data / name).is_file()]
    if missing:
        raise DomainError(f"{data / missing[0]} is not there: --data must name the folder that holds it.")
    frames = data / "iqa_uhd_frames"
    folder = seeding.demo_folder("frames")
    say("Importing 324 frames")
    corpus = seeding.corpus_ensure(
        CORPUS, by=by, make=partial(_unpack, frames, folder), source="list", location=str(folder / "frames.csv"),
        options={"mos_low": str(LOWEST), "mos_high": str(HIGHEST)},
        description="H.265-coded video frames with laboratory ratings (TU Ilmenau).",
    )  # fmt: skip
    versions = [
        _network(data, by=by),
        _measure("BRISQUE", "brisque", partial(_brisque, data, folder), by=by),
        _measure("NIQE", "niqe", lambda: data / "biqa_params" / "niqe_pristine_params.npz", by=by),
        *(_measure(name, metric, None, by=by) for metric, name in PLAIN.items()),
        *(_computed(frames, folder, column, name, corpus=corpus, by=by) for column, name in COMPUTED.items()),
    ]
    say(f"{corpus.n_rows} frames, {len(versions)} entrants; scoring and selecting")
    round_ = seeding.competition_ensure(
        NAME, corpus=corpus, versions=versions, by=by, context=None, kind="gmad",
        options={"levels": levels, "calibration": "logistic"}, control_size=60, overlap=5,
        campaign_options={"repeat_share": 0.0},
        description="Nine quality models over coded video frames, judged by recorded people.",
    )  # fmt: skip
    say(f"Round 1 is {round_.get_state_display().lower()}")
    return round_


def _unpack(frames: Path, folder: Path) -> None:
    """The pictures as people saw them, and a list of them with source content and opinion scores."""
    (folder / "images").mkdir(exist_ok=True)
    with tarfile.open(frames / "images.tar") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is None:
                continue
            with Image.open(file) as coded:
                width = round(coded.width * SHOWN_HEIGHT / coded.height)
                shown = coded.resize((width, SHOWN_HEIGHT), Image.Resampling.BICUBIC)
            shown.save(folder / "images" / Path(member.name).name, quality=95)
    with (frames / "ratings.csv").open(newline="") as rows:
        counts = Counter(_rated_name(row["video_name"]) for row in csv.DictReader(rows))
    with (frames / "mos_ci.csv").open(newline="") as rows, (folder / "frames.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "group", "mos", "mos_std", "mos_n"])
        for row in csv.DictReader(rows):
            name = row["image_name"]
            path, source = f"images/{name}.jpg", name.split("_1frame")[0]
            writer.writerow([path, source, row["mos"], row["std"], counts[name]])


def _rated_name(text: str) -> str:
    r"""The frame's name in "['.\\selection\\<name>.png']"."""
    return text.split("\\")[-1].removesuffix("']").removesuffix(".png")


def _network(data: Path, *, by: User) -> Version:
    return seeding.version_ensure(
        "CNNIQA (LIVE)", by=by, make=lambda: data / "biqa_params" / "cnniqa_live.pth",
        card={
            "task": Task.QUALITY, "higher_is_better": False, "source_url": "https://doi.org/10.1109/CVPR.2014.224",
            "description": "Kang et al. 2014, trained on LIVE: predicts DMOS, lower is better.",
        },
        kind=VersionKind.TORCH, architecture="cnniqa", preprocessing={"channels": "grey"},
    )  # fmt: skip


def _measure(name: str, metric: str, make: Callable[[], Path] | None, *, by: User) -> Version:
    from models_zoo import metrics

    card = metrics.get(metric)
    return seeding.version_ensure(
        name, by=by, make=make,
        card={
            "task": Task.QUALITY, "higher_is_better": card.higher_is_better, "score_low": card.low,
            "score_high": card.high, "licence": card.licence, "description": f"{card.summary} {card.source}.",
        },
        kind=VersionKind.METRIC, architecture=metric,
    )  # fmt: skip


def _brisque(data: Path, folder: Path) -> Path:
    """The published parameters as one file: the ranges of the features, then the machine."""
    parts = [data / "biqa_params" / f"brisque_{name}.txt" for name in ("feature_range", "svr_model")]
    file = folder / "brisque.txt"
    file.write_text("".join(part.read_text(encoding="ascii") for part in parts), encoding="ascii")
    return file


def _computed(frames: Path, folder: Path, column: str, name: str, *, corpus: Any, by: User) -> Version:
    def make() -> Path:
        table = pyarrow.csv.read_csv(frames / "objective_metrics.csv").select(["image", column])
        present = set(manifest_of(corpus).column("path").tolist())  # some frames were never rated
        file = folder / f"{column}.csv"
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["path", "score"])
            for row in table.to_pylist():
                path = f"images/{row['image']}.jpg"
                if path in present:
                    writer.writerow([path, row[column]])
        return file

    return seeding.version_ensure(
        name, by=by, make=make,
        card={"task": Task.QUALITY, "description": "As the study measured it against the uncoded video."},
        kind=VersionKind.PREDICTIONS, corpus=corpus,
    )  # fmt: skip


def answers(round: Round, folder: Path) -> Callable[[int], Answering]:
    """How each recorded person compares; ``folder`` holds ``ratings.csv``."""
    with (folder / "ratings.csv").open(newline="") as rows:
        rated = {(int(row["user_ID"]), _rated_name(row["video_name"])): int(row["rating"])
                 for row in csv.DictReader(rows)}  # fmt: skip
    people = sorted({person for person, _ in rated})
    names = [Path(str(path)).stem for path in manifest_of(round.competition.corpus).column("path")]

    def answer_for(person: int) -> Answering:
        def answer(trial: dict[str, Any]) -> dict[str, Any]:
            rows = Slot.objects.values_list("trial__item__row", "trial__second__row").get(pk=trial["slot"])
            first, second = (rated[people[person], names[row]] for row in rows)
            return {"value": 100 * (first - second) / (HIGHEST - LOWEST)}

        return answer

    return answer_for


def report(round: Round) -> str:
    """What the competition found beside what all ratings say, as Markdown.

    Raises:
        DomainError: before the round's first snapshot.
    """
    snapshot = Snapshot.objects.filter(round=round, excluded_people=[]).order_by("-number").first()
    if snapshot is None:
        raise DomainError(f"{round} has no leaderboard yet: label it first.")
    entrants = list(round.competition.entrants.select_related("version__model").order_by("number"))
    srcc = {entrant.pk: _srcc(entrant) for entrant in entrants}
    lines: dict[str, dict[int, Any]] = {
        measure: {line.entrant_id: line for line in snapshot.standings.filter(measure=measure)}
        for measure in ("aggressiveness", "resistance")
    }
    aggressive, resistant = lines["aggressiveness"], lines["resistance"]
    order = sorted(entrants, key=lambda entrant: aggressive[entrant.pk].rank)
    selected = Exhibit.objects.filter(round=round, role=ExhibitRole.SELECTED)
    n_pairs, n_distinct = selected.count(), selected.values("trial").distinct().count()
    n_images = len({row for pair in selected.values_list("item__row", "second_item__row") for row in pair})
    preferences = np.array(selected.exclude(preference=None).values_list("preference", flat=True))
    n_judgements = Judgement.objects.filter(campaign=round.campaign, superseded_at=None).count()
    truth = [srcc[entrant.pk] for entrant in entrants]
    agreeing = {
        measure: spearmanr([found[entrant.pk].score for entrant in entrants], truth).statistic
        for measure, found in lines.items()
    }
    return "\n".join(
        [
            f"{len(entrants)} quality models, {round.competition.corpus.n_rows} frames, "
            f"{round.competition.options['levels']} levels, {round.competition.overlap} recorded people a pair.",
            "",
            "| entrant | SRCC with all ratings | aggressiveness (95 % interval) | rank | resistance (95 % interval) | "
            "rank |",
            "|---|---:|---:|---:|---:|---:|",
            *(
                f"| {entrant.version.model.name} | {srcc[entrant.pk]:.3f} | {_shown(aggressive[entrant.pk])} | "
                f"{_shown(resistant[entrant.pk])} |"
                for entrant in order
            ),
            "",
            f"- {n_pairs} requests became {n_distinct} different pairs over {n_images} different frames; "
            f"{n_judgements:,} judgements with the control arm.",
            f"- Spearman of the SRCC with aggressiveness **{agreeing['aggressiveness']:.3f}**, with resistance "
            f"**{agreeing['resistance']:.3f}**.",
            f"- Of the pairs, people see a clear difference in the attacker's favour in "
            f"{_percent(np.mean(preferences > 20))} (the defender is falsified), in favour of what it finds worst in "
            f"{_percent(np.mean(preferences < -20))}, and none in {_percent(np.mean(np.abs(preferences) <= 20))}.",
            f"- Agreement between people: Krippendorff's alpha (interval) {snapshot.agreement['alpha']:.3f}.",
        ]
    )


def _srcc(entrant: Entrant) -> float:
    """Rank correlation of the entrant's scores with the opinion scores of every frame."""
    corpus = entrant.competition.corpus
    rated = opinion_table(corpus)
    column = oriented(Scores.objects.select_related("version__model").get(version=entrant.version_id, corpus=corpus))
    said = np.asarray(column)[rated.rows]
    known = np.isfinite(said)
    return float(spearmanr(said[known], rated.mos[known]).statistic)


def _shown(line: Any) -> str:
    return f"{line.score:.2f} ({line.low:.2f} to {line.high:.2f}) | {line.rank}"


def _percent(share: Any) -> str:
    return f"{100 * float(share):.0f} %"
