"""Seeds the photographs demo: distorted photographs, five quality models, a launched gMAD competition with training,
and a small trained network to be troubleshot.

The photographs ship inside scikit-image and scikit-learn; nothing is downloaded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accounts.models import User
from competition.demo import photographs_target, seeding
from competition.models import Competition
from corpora.models import Corpus
from corpora.photographs import package_photographs
from corpora.reading import manifest_of
from corpora.services import item_ensure
from labeling.models import Campaign, TrialKind
from labeling.services import TrialSpec, trials_add
from models_zoo.models import Task, Version, VersionKind

if TYPE_CHECKING:
    from jobs.context import JobContext

COMPETITION = "Distorted photographs"
CORPUS = "distorted photographs"
SIZE = "512x384"
MEASURE = "SSIM"  # what the small network learns to say
OPTIONS: dict[str, Any] = {
    "kind": "gmad",
    "options": {"levels": 3},
    "control_size": 6,
    "overlap": 1,
    "campaign_options": {
        "purpose": "Your answers show which of five image-quality models people contradict: see the leaderboard.",
        "instructions": "Two pictures stand side by side, often of different things. Say which one has the better "
        "technical quality: sharpness, noise, blocks, colours. Never mind what they show. If you see no clear "
        "difference, say that you are uncertain.",
        "consent": "Your answers and how long they took are stored with your account on this server only.",
        "gold_share": 0.1,
        "repeat_share": 0.1,
    },
}


@dataclass(frozen=True)
class Entry:
    """A model of the demo: a registered measure, with parameters where it needs some."""

    name: str
    metric: str
    description: str


ENTRIES = (
    Entry("SSIM", "ssim", "Full-reference: compares with the pristine photograph."),
    Entry("PSNR", "psnr", "Full-reference: mean squared error on a logarithmic scale."),
    Entry("NIQE of the photographs", "niqe", "No reference; its model of naturalness is fitted to these photographs."),
    Entry("JPEG quality (Wang 2002)", "jpeg_quality", "No reference; made for blocks, blind to much else."),
    Entry("Blur effect", "blur_effect", "No reference; made for blur, blind to much else."),
)
#: (better, worse, expected zone of an answer for the better one, why)
TEACHING = (
    ("chelsea/pristine", "chelsea/blur_3", (21, 100), "the right answer is the sharp picture: the other is blurred"),
    (
        "coffee/pristine",
        "astronaut/noise_4",
        (21, 100),
        "different things may be compared: one is full of noise",
    ),
    ("rocket/pristine", "china/pristine", (-20, 20), "both are untouched: no clear difference in quality"),
    ("flower/jpeg_1", "flower/jpeg_4", (21, 100), "strong compression shows blocks and false colours"),
)
KNOWN = (
    ("coffee/pristine", "coffee/blur_4"), ("china/noise_1", "china/noise_5"), ("rocket/pristine", "chelsea/jpeg_5"),
    ("astronaut/pristine", "camera/blur_5"), ("flower/pristine", "flower/jpeg2000_5"),
    ("motorcycle/pristine", "motorcycle/noise_4"),
)  # fmt: skip


def seed(*, by: User, context: "JobContext", size: str = SIZE) -> dict[str, Any]:
    """Build what is missing of the demo; repeated, it goes on where it was.

    Args:
        size: to which the photographs are cropped, "WIDTHxHEIGHT".
    """
    competition = _competition(by=by, context=context, size=size)
    context.report(message="Training a small network to be troubleshot")
    measure = Version.objects.get(model__name=MEASURE)
    target = photographs_target.target_ensure(competition.corpus, measure, by=by, context=context)
    return {"competition": competition.pk, "target": target.pk}


def _competition(*, by: User, context: "JobContext", size: str) -> Competition:
    """The launched competition of five measures."""
    known = Competition.objects.filter(name=COMPETITION).first()
    if known is not None and known.rounds.exclude(campaign=None).exists():
        return known
    context.report(message="Distorting the photographs")
    corpus = seeding.corpus_ensure(
        CORPUS,
        by=by,
        make=lambda: None,
        source="distorted",
        location="",
        options={"photographs": "packages", "size": size, "seed": "1"},
        description="Photographs that ship with scikit-image and scikit-learn, each distorted in four ways and five "
        "strengths as in the gMAD study.",
    )
    versions = []
    for number, entry in enumerate(ENTRIES):
        context.report(done=number, total=len(ENTRIES), unit="models", message=f"Adding {entry.name}")
        context.check()
        versions.append(_version(entry, by=by))
    context.report(message="Scoring and selecting")
    round_ = seeding.competition_ensure(
        COMPETITION, corpus=corpus, versions=versions, by=by, context=context,
        description="Five image-quality models, judged on the pairs on which one contradicts another.", **OPTIONS,
    )  # fmt: skip
    if round_.campaign is not None:
        teaching_add(round_.campaign, corpus)
    return round_.competition


def _version(entry: Entry, *, by: User) -> Version:
    from models_zoo import metrics

    card = metrics.get(entry.metric)
    return seeding.version_ensure(
        entry.name,
        by=by,
        make=(lambda: _niqe_params(seeding.demo_folder("photographs"))) if card.params == "niqe" else None,
        card={
            "task": Task.QUALITY,
            "higher_is_better": card.higher_is_better,
            "score_low": card.low,
            "score_high": card.high,
            "licence": card.licence,
            "description": f"{entry.description} {card.source}.",
        },
        kind=VersionKind.METRIC,
        architecture=entry.metric,
    )


def _niqe_params(folder: Path) -> Path:
    """NIQE's model of pristine photographs, fitted to those of the packages."""
    from models_zoo.metrics.niqe import niqe_fit

    file = folder / "niqe.npz"
    niqe_fit(photograph.pixels for photograph in package_photographs()).save(file)
    return file


def teaching_add(campaign: Campaign, corpus: Corpus) -> None:
    """Training pairs with feedback, and gold pairs whose order nobody doubts."""
    rows = {str(path).rsplit(".", 1)[0]: row for row, path in enumerate(manifest_of(corpus).column("path"))}
    named = {name for first, second, *_ in (*TEACHING, *KNOWN) for name in (first, second)}
    items = item_ensure(corpus=corpus, rows=sorted(rows[name] for name in named))
    specs = [
        TrialSpec(
            items[rows[first]],
            second=items[rows[second]],
            kind=TrialKind.TRAINING,
            expected={"low": low, "high": high},
            explanation=why,
        )
        for first, second, (low, high), why in TEACHING
    ]
    specs += [
        TrialSpec(
            items[rows[better]],
            second=items[rows[worse]],
            kind=TrialKind.GOLD,
            expected={"low": 21, "high": 100},
        )
        for better, worse in KNOWN
    ]
    trials_add(campaign=campaign, trials=specs)
