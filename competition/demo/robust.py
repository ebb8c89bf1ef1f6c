"""The demo of robust training: where plain, robust, adjustable, early-exit and compressed classifiers disagree, people
say who is right, on clean and on corrupted images.

CIFAR-10 where the data folder is given, else handwritten digits. What was trained, imported or launched before is kept:
a demo that was broken off goes on.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from accounts.errors import DomainError
from accounts.models import User
from competition.demo import cifar10, digits, digits_seed, seeding
from competition.models import Round
from corpora.models import Corpus, Taxonomy
from jobs.inline import run_inline
from models_zoo.models import Version
from training.labelled import edition_add, labelled_set_create
from training.models import Edition, LabelledSet, Run
from training.services import run_create, run_retry

IMAGES = 1_000  # CIFAR-10 test images, each clean and under every corruption
Pixels = npt.NDArray[np.uint8]
Say = Callable[[str], object]


@dataclass(frozen=True)
class Training:
    """A run of the demo. roles: whose first output enters the competition."""

    title: str
    method: str
    roles: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)


TRAININGS = (
    Training("standard training", "pgdat", ("network",), {"lam": 0.0}),
    Training("adversarial training", "pgdat", ("network",), {"lam": 1.0}),
    Training("adjustable robustness", "oat", ("adjustable", "point"), {"dedicated": ()}),
    Training("early exits", "rdi", ("network",), {"baselines": False}),
    Training("compressed", "atmc", ("compressed",)),
)


@dataclass(frozen=True)
class Scene:
    """What the demo is about. preset, config: of every training."""

    name: str
    preset: str
    config: dict[str, Any]
    fractions: tuple[float, float, float]
    taxonomy: Callable[[User], Taxonomy]
    learnt: Callable[[Taxonomy, User], Corpus]
    asked: Callable[[Taxonomy, User], Corpus]


def build(data: Path | None, *, by: User, say: Say, k: int = 4, config: dict[str, Any] | None = None) -> Round:
    """Train, import clean and corrupted images, score, select, and open the campaign.

    data: the folder that holds cifar10/; None for digits. k: images per pair. config: changes of every training that
    has such a setting.

    Raises:
        DomainError: the data folder lacks an archive, or a training failed.
    """
    scene = digits_scene() if data is None else cifar_scene(data)
    taxonomy = scene.taxonomy(by)
    edition = edition_ensure(scene, taxonomy, by)
    versions = []
    for training in TRAININGS:
        say(f"Training: {training.title}")
        versions += trained(training, scene, edition, config or {}, by)
    say("Importing clean and corrupted images")
    corpus = scene.asked(taxonomy, by)
    say(f"{corpus.n_rows} images, {len(versions)} versions: scoring and selecting")
    return seeding.competition_ensure(
        f"Robust {scene.name}", corpus=corpus, versions=versions, by=by, context=None, k=k, reserve=k, control_size=20,
        overlap=1, duplicate_distance=None, threshold=0.3,
        description="Plain, robust, adjustable, early-exit and compressed classifiers on clean and corrupted images.",
        campaign_options={
            "purpose": "Your answers say which of several small classifiers is right where they disagree.",
            "instructions": "Some pictures are noisy, blurred or faint on purpose. Two classes are named: say whether "
            "the picture shows the left one, the right one, both or neither. If nobody could tell, say so.",
        },
    )  # fmt: skip


def trained(training: Training, scene: Scene, edition: Edition, config: dict[str, Any], by: User) -> list[Version]:
    """The versions that a training gave; trains, or goes on training, where that is needed."""
    from training.engine.registry import method

    name = f"{scene.name}: {training.title}"
    known = method(training.method).config.model_fields
    run = Run.objects.filter(name=name, method=training.method, created_by=by).order_by("-pk").first()
    if run is None:
        changed = {key: value for key, value in {**scene.config, **config}.items() if key in known}
        run = run_create(
            method=training.method, by=by, name=name, preset=scene.preset, edition=edition,
            config={**changed, **training.config},
        )  # fmt: skip
    if run.finished_at is None:
        run = run_retry(run=run, by=by)
        assert run.job is not None, "run_retry gives it one"
        run_inline(run.job, show=True)
        run.refresh_from_db()
    outputs = run.outputs.select_related("version__model__taxonomy")
    found = [outputs.filter(role=role).order_by("number").first() for role in training.roles]
    versions = [output.version for output in found if output is not None]
    if not versions:
        raise DomainError(f'"{run}" gave no {" or ".join(training.roles)}: start it anew.')
    return versions


def edition_ensure(scene: Scene, taxonomy: Taxonomy, by: User) -> Edition:
    """The labels that everything learns from."""
    corpus = scene.learnt(taxonomy, by)
    name = f"{scene.name} labels"
    made = LabelledSet.objects.filter(name=name).first() or labelled_set_create(
        name=name, task="classification", taxonomy=taxonomy, by=by, is_public=True
    )
    known: Edition | None = made.editions.first()
    return known or edition_add(
        labelled_set=made, sources=[{"kind": "corpus", "corpus": corpus.pk}], by=by, fractions=scene.fractions
    )


def digits_scene() -> Scene:
    folder = seeding.demo_folder("digits")

    def learnt(taxonomy: Taxonomy, by: User) -> Corpus:
        def write() -> None:
            images, labels, _, _ = digits.load()
            for number, (picture, label) in enumerate(zip(digits.to_uint8(images), labels, strict=True)):
                _save(folder / "train" / digits.NAMES[label] / f"{number:04d}.png", picture)

        return seeding.corpus_ensure(
            "digits to learn from", by=by, make=write, source="folder", location=str(folder / "train"),
            taxonomy=taxonomy, options={"labels_from": "folder"},
            description="899 handwritten digits; none of them is asked about.",
        )  # fmt: skip

    def asked(taxonomy: Taxonomy, by: User) -> Corpus:
        _, _, images, labels = digits.load()
        return seeding.corpus_ensure(
            digits_seed.CORPUS, by=by, make=lambda: digits.write_corpus(folder / "images", images, labels),
            source="folder", location=str(folder / "images"), taxonomy=taxonomy, options={"labels_from": "folder"},
            description="898 handwritten digits that no model saw in training, and five harder versions of each.",
        )  # fmt: skip

    def taxonomy(by: User) -> Taxonomy:
        return seeding.taxonomy_ensure(digits_seed.TAXONOMY, digits_seed.taxonomy_rows(), by=by)

    return Scene("digits", "digits", {"side": 8, "grey": True}, (0.7, 0.1, 0.2), taxonomy, learnt, asked)


def cifar_scene(data: Path) -> Scene:
    """Raises DomainError when the folder lacks an archive."""
    folder = data.resolve() / "cifar10"
    for name in ("train_images_20k.tar", "test_images.tar"):
        if not (folder / name).is_file():
            raise DomainError(f"{folder / name} is not there: --data must name the folder that holds cifar10/.")

    def learnt(taxonomy: Taxonomy, by: User) -> Corpus:
        return seeding.corpus_ensure(
            "CIFAR-10 to learn from", by=by, make=lambda: None, source="archive",
            location=str(folder / "train_images_20k.tar"), taxonomy=taxonomy, options={"labels_from": "folder"},
            description="20,000 CIFAR-10 training images, JPEG.",
        )  # fmt: skip

    def asked(taxonomy: Taxonomy, by: User) -> Corpus:
        place = seeding.demo_folder("cifar10") / "corrupted"
        return seeding.corpus_ensure(
            "CIFAR-10 clean and corrupted", by=by, make=lambda: write_corrupted(folder / "test_images.tar", place),
            source="folder", location=str(place), taxonomy=taxonomy, options={"labels_from": "folder"},
            description=f"{IMAGES:,} CIFAR-10 test images, and {len(CORRUPTIONS)} corrupted versions of each.",
        )  # fmt: skip

    def taxonomy(by: User) -> Taxonomy:
        return seeding.taxonomy_ensure("CIFAR-10 classes", cifar10.taxonomy_rows(), by=by)

    return Scene("CIFAR-10", "small", {}, (0.6, 0.2, 0.2), taxonomy, learnt, asked)


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float64) + rng.normal(0, 25, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))


def blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 1.4)))


def faint(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float64)
    mean = pixels.mean()
    return Image.fromarray((mean + rng.uniform(0.25, 0.4) * (pixels - mean)).round().astype(np.uint8))


def coarse(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(12, 17))
    return image.resize((side, side), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


CORRUPTIONS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "noisy": noisy, "blurred": blurred, "faint": faint, "coarse": coarse,
}  # fmt: skip


def write_corrupted(archive: Path, folder: Path) -> None:
    """The first images of each class as ``<class>/<number>_<kind>.png``, clean and under every corruption."""
    for label, number, image in _first_images(archive, IMAGES // len(cifar10.CLASSES)):
        rng = np.random.default_rng([cifar10.CLASSES.index(label), number])
        kinds = {"clean": image, **{kind: corrupt(image, rng) for kind, corrupt in CORRUPTIONS.items()}}
        for kind, picture in kinds.items():
            _save(folder / label / f"{number:04d}_{kind}.png", np.asarray(picture))


def _first_images(archive: Path, per_class: int) -> Iterator[tuple[str, int, Image.Image]]:
    """(class, number within it, RGB image)."""
    with tarfile.open(archive) as tar:
        members = sorted((member for member in tar if member.isfile()), key=lambda member: member.name)
        counts: dict[str, int] = {}
        for member in members:
            label = member.name.split("/")[-2]
            number = counts.get(label, 0)
            if label not in cifar10.CLASSES or number >= per_class:
                continue
            counts[label] = number + 1
            file = tar.extractfile(member)
            assert file is not None, "it is a file"
            yield label, number, Image.open(BytesIO(file.read())).convert("RGB")


def _save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
