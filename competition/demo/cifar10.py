"""The CIFAR-10 demo: 10,000 test images, four pretrained ResNets, six published classifiers as predictions files.

Images: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Published predictions: B. Recht
et al., arXiv 1806.00451. The published classifiers saw the lossless images, the ResNets see JPEG files.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from accounts.errors import DomainError
from accounts.models import User
from competition.demo import seeding
from competition.models import Round
from models_zoo.adapters.spec import IMAGENET_MEAN, IMAGENET_STD
from models_zoo.models import VersionKind

NAME = "CIFAR-10"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
#: child -> parent, after WordNet's nouns
TREE = {
    "artifact": "entity", "vehicle": "artifact", "aircraft": "vehicle", "motor vehicle": "vehicle", "vessel": "vehicle",
    "animal": "entity", "mammal": "animal", "carnivore": "mammal", "ungulate": "mammal", "amphibian": "animal",
    "airplane": "aircraft", "automobile": "motor vehicle", "truck": "motor vehicle", "ship": "vessel",
    "bird": "animal", "frog": "amphibian", "cat": "carnivore", "dog": "carnivore", "deer": "ungulate",
    "horse": "ungulate",
}  # fmt: skip
GLOSSES = {
    "airplane": "aircraft with wings and engines, propellers or jets", "automobile": "car; not a truck or pickup",
    "bird": "any bird", "cat": "domestic cat", "deer": "any deer", "dog": "any dog", "frog": "frog or toad",
    "horse": "horse, foal or pony", "ship": "ship or boat", "truck": "big truck; not a pickup",
}  # fmt: skip
RESNETS = {
    20: "resnet20-12fca82f.th", 32: "resnet32-d509ac18.th", 44: "resnet44-014dd654.th", 56: "resnet56-4bfd9763.th",
}  # fmt: skip
PUBLISHED = (
    "wrn_28_10_cutout16", "densenet_BC_100_12", "vgg16_keras", "cudaconvnet", "random_features_32k_aug",
    "alexnet_tf_ben",
)  # fmt: skip


def build(data: Path, *, k: int, by: User, say: Callable[[str], object]) -> Round:
    """Import, add ten entrants, score, select, and open the campaign; what is there already is kept.

    Raises:
        DomainError: when the data folder lacks a file.
    """
    folder = data.resolve() / "cifar10"
    needed = ["test_images.tar", "published_predictions.csv", *(f"weights/{name}" for name in RESNETS.values())]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise DomainError(f"{folder / missing[0]} is not there: --data must name the folder that holds cifar10/.")
    taxonomy = seeding.taxonomy_ensure("CIFAR-10 classes", taxonomy_rows(), by=by)
    say("Importing 10,000 images")
    corpus = seeding.corpus_ensure(
        "CIFAR-10 test", by=by, make=lambda: None, source="archive", location=str(folder / "test_images.tar"),
        taxonomy=taxonomy, options={"labels_from": "folder"},
        description="The 10,000 CIFAR-10 test images, JPEG.",
    )  # fmt: skip
    say(f"{corpus.n_rows} images; adding {len(RESNETS) + len(PUBLISHED)} entrants")
    versions = [
        seeding.version_ensure(
            f"CIFAR ResNet-{depth}", taxonomy=taxonomy, by=by, make=partial(_weights, folder, name),
            card={"source_url": "https://arxiv.org/abs/1512.03385", "description": "Pretrained on CIFAR-10"},
            kind=VersionKind.TORCH, architecture=f"cifar_resnet{depth}",
            preprocessing={"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
        )
        for depth, name in RESNETS.items()
    ]  # fmt: skip
    versions += [
        seeding.version_ensure(
            name, taxonomy=taxonomy, by=by, make=partial(_one_column, folder, name),
            card={"source_url": "https://arxiv.org/abs/1806.00451", "description": "Published predictions"},
            kind=VersionKind.PREDICTIONS, corpus=corpus,
        )
        for name in PUBLISHED
    ]  # fmt: skip
    say("Scoring and selecting")
    round_ = seeding.competition_ensure(
        NAME, corpus=corpus, versions=versions, by=by, context=None, k=k, reserve=k, control_size=100,
        description="Ten classifiers of CIFAR-10, judged by recorded answers of real people (CIFAR-10H).",
    )  # fmt: skip
    say(f"Round 1 is {round_.get_state_display().lower()}")
    return round_


def taxonomy_rows() -> list[tuple[str, str, int | None, str]]:
    index = {name: number for number, name in enumerate(CLASSES)}
    return [(child, parent, index.get(child), GLOSSES.get(child, "")) for child, parent in TREE.items()]


def _weights(folder: Path, name: str) -> Path:
    return folder / "weights" / name


def _one_column(folder: Path, name: str) -> Path:
    """One classifier's column of the published predictions as a predictions file of its own."""
    table = pa.csv.read_csv(folder / "published_predictions.csv")
    file = seeding.demo_folder("cifar10") / f"{name}.csv"
    pa.csv.write_csv(pa.table({"path": table["path"], "class": table[name]}), file)
    return file
