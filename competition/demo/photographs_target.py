"""A small quality network for the photographs demo, to be troubleshot: nobody has rated the photographs, so a
full-reference measure says how good each distorted one is, and the network learns to say it without the reference."""

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from accounts.models import User
from corpora.models import Corpus
from corpora.reading import manifest_of
from models_zoo.models import Task, Version
from models_zoo.services import model_update, scores_ensure
from training.contents import components, contents_of, group_names, split_of
from training.labelled import edition_add, labelled_set_create
from training.models import Edition, LabelledSet, Run
from training.services import run_create, run_execute

if TYPE_CHECKING:
    from jobs.context import JobContext

NAME = "Photograph quality (UNIQUE, small)"
LABELLED = "SSIM of the distorted photographs"
EVERY = 3  # each third photograph is left unlabelled: there the network can be troubleshot
FRACTIONS = (0.6, 0.2, 0.2)
CONFIG: dict[str, Any] = {"epochs": 60, "crop": 128, "decay_epochs": 20}
"""A minute or two on two cores."""


def target_ensure(corpus: Corpus, measure: Version, *, by: User, context: "JobContext") -> Version:
    """The demo's trained network; repeated, it goes on where it was."""
    run = Run.objects.filter(name=NAME, method="unique", created_by=by).first()
    if run is None:
        run = run_create(
            method="unique", name=NAME, by=by, preset="small", config=CONFIG,
            edition=_edition(corpus, measure, by=by, context=context), seed=1, enqueue=False,
        )  # fmt: skip
    if run.finished_at is None:
        run = run_execute(run=run, context=context)
    output = run.outputs.select_related("version__model").first()
    assert output is not None, "the method saves one network"
    version: Version = output.version
    if not version.model.is_public:
        model_update(
            model=version.model, by=by, is_public=True,
            description="A small blind quality network, trained on what SSIM says of two thirds of the distorted "
            "photographs. Press “Troubleshoot” to find where it fails.",
        )  # fmt: skip
    return version


def _edition(corpus: Corpus, measure: Version, *, by: User, context: "JobContext") -> Edition:
    """What the measure says of two of three photographs, split by photograph."""
    known = LabelledSet.objects.filter(name=LABELLED).first()
    labelled_set = known or labelled_set_create(
        name=LABELLED, task=Task.QUALITY, by=by, is_public=True,
        description="Pseudo-ratings: SSIM, which sees the pristine photograph, of two thirds of the photographs.",
    )  # fmt: skip
    scores_ensure(versions=[measure], corpus=corpus, context=context)
    rows = labelled_rows(corpus)
    source = {"kind": "scores", "version": measure.pk, "corpus": corpus.pk, "rows": rows}
    return edition_add(
        labelled_set=labelled_set, sources=[source], by=by, seed=_split_seed(corpus, rows), fractions=FRACTIONS
    )


def _split_seed(corpus: Corpus, rows: list[int]) -> int:
    """The first seed that gives validation and test two photographs each; there are too few to leave it to chance."""
    contents = contents_of(np.full(len(rows), corpus.pk), np.array(rows))
    groups = set(group_names(contents, components(contents)).tolist())

    def is_even(seed: int) -> bool:
        parts = Counter(split_of(group, seed=seed, fractions=FRACTIONS) for group in groups)
        return parts["val"] == parts["test"] == 2

    return next(seed for seed in count() if is_even(seed))


def labelled_rows(corpus: Corpus) -> list[int]:
    """Rows of all but each third photograph; versions of one photograph lie in one folder."""
    folders = [str(path).split("/", 1)[0] for path in manifest_of(corpus).column("path")]
    _, place = np.unique(folders, return_inverse=True)
    return np.flatnonzero(place % EVERY != EVERY - 1).tolist()
