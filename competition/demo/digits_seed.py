"""Seeds the digits demo: corpus, five classifiers, a launched competition, training and gold trials."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accounts.models import User
from competition.demo import digits, seeding
from competition.models import Competition
from corpora.models import Corpus, Taxonomy
from corpora.reading import manifest_of
from corpora.services import item_ensure
from labeling.models import Campaign, TrialKind
from labeling.services import TrialSpec, trials_add
from models_zoo.models import Version, VersionKind

if TYPE_CHECKING:
    from torch import nn

    from jobs.context import JobContext

COMPETITION = "Handwritten digits"
CORPUS = "digits"
TAXONOMY = "digit shapes"
PREPROCESSING = {"channels": "grey"}
SOURCE = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
OPTIONS: dict[str, Any] = {
    "k": 4,
    "reserve": 4,
    "threshold": 0.7,
    "control_size": 10,
    "overlap": 1,
    "duplicate_distance": None,
    "campaign_options": {
        "purpose": "Your answers ranked five small classifiers of handwritten digits: see the leaderboard.",
        "instructions": "Each picture shows a handwritten digit, sometimes turned, shifted, blurred, noisy or partly "
        "covered. Two digits are named. Say which of them the picture shows: only the left one, only the right one, "
        "both, or neither. If nobody could tell, say so.",
        "consent": "Your answers and how long they took are stored with your account on this server only.",
        "gold_share": 0.1,
    },
}
#: path of a clean digit -> (class asked first, class asked second, why)
TEACHING = ((0, 6, "one closed loop and no stroke: a zero"), (7, 1, "a flat top and a slanting stroke: a seven"))


def seed(*, by: User, context: "JobContext") -> dict[str, Any]:
    """Build what is missing of the demo; repeated, it goes on where it was."""
    taxonomy = seeding.taxonomy_ensure(TAXONOMY, taxonomy_rows(), by=by)
    known = Competition.objects.filter(name=COMPETITION).first()
    if known is not None and known.rounds.exclude(campaign=None).exists():
        return {"competition": known.pk}
    train_x, train_y, test_x, test_y = digits.load()
    folder = seeding.demo_folder("digits")
    context.report(message="Drawing the corpus")
    corpus = seeding.corpus_ensure(
        CORPUS,
        by=by,
        make=lambda: digits.write_corpus(folder / "images", test_x, test_y),
        source="folder",
        location=str(folder / "images"),
        taxonomy=taxonomy,
        options={"labels_from": "folder"},
        description="898 handwritten digits that no model saw in training, and five harder versions of each.",
    )
    card = {"licence": "CC BY 4.0 (digits)", "source_url": SOURCE}
    total = sum(recipe.epochs for recipe in digits.RECIPES)
    versions = []
    done = 0
    for recipe in digits.RECIPES:

        def make(recipe: digits.Recipe = recipe, start: int = done) -> Path:
            def each_epoch(epoch: int, loss: float) -> None:
                context.report(
                    done=start + epoch, total=total, unit="epochs",
                    message=f"Training {recipe.name}: epoch {epoch} of {recipe.epochs}, loss {loss:.3f}",
                )  # fmt: skip

            network = digits.train(recipe, train_x, train_y, seed=0, each_epoch=each_epoch)
            return save_weights(network, folder / f"{recipe.name}.safetensors")

        versions.append(
            seeding.version_ensure(
                recipe.name,
                taxonomy=taxonomy,
                by=by,
                make=make,
                card={**card, "description": recipe.description},
                kind=VersionKind.TORCH,
                architecture=recipe.architecture,
                arch_kwargs=recipe.arch_kwargs,
                preprocessing=PREPROCESSING,
            )
        )
        done += recipe.epochs
    context.report(done=done, total=total, message="Asking the nearest neighbours")
    versions.append(neighbours_version(corpus, taxonomy, train_x, train_y, folder, card, by))
    context.report(message="Scoring and selecting")
    round_ = seeding.competition_ensure(
        COMPETITION, corpus=corpus, versions=versions, by=by, context=context,
        description="Five small classifiers of handwritten digits, judged where they disagree.", **OPTIONS,
    )  # fmt: skip
    if round_.campaign is not None:
        teaching_add(round_.campaign, corpus)
    return {"competition": round_.competition_id}


def taxonomy_rows() -> list[tuple[str, str, int | None, str]]:
    index = {name: number for number, name in enumerate(digits.NAMES)}
    return [
        (child, parent, index.get(child), digits.GLOSSES[index[child]] if child in index else "")
        for child, parent in digits.SHAPES.items()
    ]


def save_weights(network: "nn.Module", path: Path) -> Path:
    from safetensors.torch import save_file

    save_file(network.state_dict(), path)
    return path


def neighbours_version(
    corpus: Corpus,
    taxonomy: Taxonomy,
    train_x: np.ndarray,
    train_y: np.ndarray,
    folder: Path,
    card: dict[str, str],
    by: User,
) -> Version:
    """The nearest neighbours, which are no network: they enter as a predictions file."""

    def make() -> Path:
        manifest = manifest_of(corpus)
        paths = [str(path) for path in manifest.column("path")]
        queries = np.stack([digits.read_image(folder / "images" / path) for path in paths])
        classes, confidences = digits.neighbours_predict(train_x, train_y, queries)
        file = folder / "neighbours.csv"
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(["path", "class", "confidence"])
            writer.writerows(zip(paths, classes.tolist(), confidences.round(4).tolist(), strict=True))
        return file

    return seeding.version_ensure(
        digits.NEIGHBOURS_NAME, taxonomy=taxonomy, by=by, make=make,
        card={**card, "description": digits.NEIGHBOURS_DESCRIPTION}, kind=VersionKind.PREDICTIONS, corpus=corpus,
    )  # fmt: skip


def teaching_add(campaign: Campaign, corpus: Corpus) -> None:
    """Two training trials with feedback, and gold trials, on clean digits."""
    manifest = manifest_of(corpus)
    paths, labels = manifest.column("path"), manifest.column("label")
    clean = [row for row, path in enumerate(paths) if str(path).endswith("_original.png")]
    rows_of = {digit: [row for row in clean if labels[row] == digit] for digit in range(digits.N_CLASSES)}
    training = [(rows_of[a][0], a, b, why) for a, b, why in TEACHING]
    gold = [(rows_of[a][1], a, (a + 3) % 10, "") for a in range(0, digits.N_CLASSES, 2)]
    items = item_ensure(corpus=corpus, rows=[row for row, *_ in training + gold])
    specs = [
        TrialSpec(items[row], [a, b], kind, {a: True, b: False}, why)
        for kind, asked in ((TrialKind.TRAINING, training), (TrialKind.GOLD, gold))
        for row, a, b, why in asked
    ]
    trials_add(campaign=campaign, trials=specs)
