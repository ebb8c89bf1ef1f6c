"""`manage.py score`: what a version says about a corpus, as a predictions file. No server is needed.

Three ways, from most to least in the database:

* ``--version NAME --corpus NAME``: both in the database; the scores stay there and resume where they broke off;
* ``--version NAME --corpus DIR``: any folder of images;
* ``--weights FILE --architecture NAME --corpus DIR``, or ``--metric NAME [--params FILE] --corpus DIR``: no database at
  all.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from accounts.errors import DomainError
from models_zoo.adapters.spec import LONG_SIDE, Outputs, Preprocessing, VersionSpec
from models_zoo.export import (
    BATCH,
    prediction_tables,
    predictions_write,
    quality_tables,
    require_table_ending,
    scores_tables,
)

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


class Command(BaseCommand):
    help = (
        "Score a corpus or a folder of images with a version, a weights file or a measure; writes "
        "path,class,confidence, or path,score where it rates quality."
    )
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """``--version`` names a version here, not Django's."""
        parser: CommandParser = super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--version", help='A version of the zoo: "model label", or its number')
        parser.add_argument("--weights", type=Path, help="Instead of --version: weights, .onnx or .pt2")
        parser.add_argument("--kind", choices=["torch", "onnx", "export"], default="torch", help="Of --weights")
        parser.add_argument("--architecture", default="", help="Of --weights: a name of the registry")
        parser.add_argument("--classes", type=int, help="Of --weights: how many classes it predicts")
        parser.add_argument("--preprocessing", help="Of --weights: a preset, or fields as JSON")
        parser.add_argument(
            "--outputs", choices=get_args(Outputs), help='Of --weights: "score" of a quality network; told by its card'
        )
        parser.add_argument("--metric", help="Instead of --version: a quality measure of the registry")
        parser.add_argument("--params", type=Path, help="Of --metric: its parameters, where it needs some")
        parser.add_argument("--corpus", required=True, help="A corpus of the database, or a folder of images")
        parser.add_argument("--out", type=Path, required=True, help="The file to write: .csv or .parquet")
        parser.add_argument("--user", help="Who asks; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if sum(bool(options[name]) for name in ("version", "weights", "metric")) != 1:
                raise DomainError("Give one of --version, --weights and --metric.")
            require_table_ending(options["out"])
            n_failed = self._score(options)
        except (DomainError, ValueError) as error:
            raise CommandError(str(error)) from error
        left_out = f"; {n_failed:,} images have no score and are left out" if n_failed else ""
        self.stdout.write(f"{options['out']} is written{left_out}.")

    def _score(self, options: dict[str, Any]) -> int:
        """Writes the file; the number of images left out."""
        folder = Path(options["corpus"]).expanduser()
        show = options["verbosity"] > 0
        if not options["version"]:
            if not folder.is_dir():
                raise DomainError(f'"{folder}" is no folder: --weights and --metric score a folder of images.')
            spec = _spec_of_file(options) if options["weights"] else _spec_of_measure(options)
            return _score_folder(spec, folder, options["out"], show)
        version = version_named(options["version"], options["user"])
        if folder.is_dir():
            from models_zoo.reading import version_spec

            return _score_folder(version_spec(version), folder, options["out"], show)
        return _score_corpus(version, options["corpus"], options["user"], options["out"], show)


def _spec_of_file(options: dict[str, Any]) -> VersionSpec:
    from models_zoo.management.commands.version_add import preprocessing_of

    classes = options["classes"]
    outputs = options["outputs"] or _outputs_of(options["architecture"])
    is_quality = outputs == "score"
    preprocessing = preprocessing_of(options["preprocessing"] or ("whole-imagenet" if is_quality else "imagenet"))
    return VersionSpec(
        kind=options["kind"],
        architecture=options["architecture"],
        arch_kwargs={"num_classes": classes} if classes and options["kind"] == "torch" else {},
        weights=str(options["weights"].expanduser()),
        preprocessing=replace(preprocessing, long_side=preprocessing.long_side or LONG_SIDE)
        if is_quality
        else preprocessing,
        num_classes=classes,
        outputs=outputs,
    )


def _outputs_of(architecture: str) -> Outputs:
    """A quality architecture gives a score, everything else logits unless something else is said."""
    from models_zoo.architectures import UnknownArchitecture, architecture_card

    try:
        return "score" if architecture and architecture_card(architecture).task == "quality" else "logits"
    except UnknownArchitecture as error:
        raise DomainError(f"There is {error}.") from error


def _spec_of_measure(options: dict[str, Any]) -> VersionSpec:
    params = options["params"]
    return VersionSpec(
        kind="metric",
        architecture=options["metric"],
        weights=str(params.expanduser()) if params else None,
        preprocessing=Preprocessing(long_side=LONG_SIDE),
        outputs="score",
    )


def version_named(name: str, username: str | None) -> Any:
    """The verified version that a name means, for a person. Raises DomainError naming the near ones."""
    from corpora.management.commands.corpus_import import owner
    from models_zoo.models import Version

    visible = Version.objects.visible_to(owner(username))
    found = list(visible.named(name).select_related("model__taxonomy"))
    if not found:
        some = ", ".join(f'"{version}"' for version in visible.verified().select_related("model")[:8])
        raise DomainError(f'There is no version "{name}". There are: {some or "none yet; add one with version_add"}.')
    if len(found) > 1:
        numbers = ", ".join(str(version.pk) for version in found)
        raise DomainError(f'"{name}" means several versions: give the number of one of them ({numbers}).')
    return found[0]


def _score_corpus(version: Any, name: str, username: str | None, out: Path, show: bool) -> int:
    from corpora.management.commands.corpus_import import owner
    from corpora.models import Corpus
    from jobs.inline import run_inline
    from models_zoo.models import Scores
    from models_zoo.services import scores_request

    by = owner(username)
    corpus = Corpus.objects.visible_to(by).filter(name=name).first()
    if corpus is None:
        raise DomainError(f'"{name}" is neither a folder nor a corpus: check the path, or run "corpus_import" first.')
    run_inline(scores_request(versions=[version], corpus=corpus, by=by), show=show)
    scores = Scores.objects.select_related("corpus", "version__model").get(version=version, corpus=corpus)
    predictions_write(out, scores_tables(scores))
    return scores.n_missing


def _score_folder(spec: VersionSpec, folder: Path, out: Path, show: bool) -> int:
    """Score every image under a folder, in the order of their paths."""
    from models_zoo.engine.quality import score_quality
    from models_zoo.engine.rows import FolderRows
    from models_zoo.engine.run import score
    from models_zoo.engine.scores import ScoreStore

    paths = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGES and file.is_file()
    )
    if not paths:
        raise DomainError(f'"{folder}" holds no images ({", ".join(sorted(IMAGES))}).')
    with tempfile.TemporaryDirectory() as scratch, tqdm(total=len(paths), unit=" images", disable=not show) as bar:
        store = Path(scratch) / "scores"
        (score_quality if spec.is_quality else score)(
            FolderRows(folder, paths, digest="folder"),
            [spec],
            [store],
            progress=lambda done, total: bar.update(done - bar.n) and None,
        )
        columns = ScoreStore.open(store).read()
        tables = quality_tables if spec.is_quality else prediction_tables
        predictions_write(out, tables(_pieces(paths), *columns))
        return len(ScoreStore.open(store).missing_rows())


def _pieces(paths: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), BATCH):
        yield paths[start : start + BATCH]
