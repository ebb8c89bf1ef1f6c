"""The explorer of a run, and the other files that its recipe left, for pages and programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models_zoo.reading import class_names
from training.engine.explore import FILE, FOLDER, KINDS, read_explorer
from training.models import Run, RunOutput


@dataclass(frozen=True)
class Artifact:
    name: str
    size_bytes: int


def has_explorer(run: Run) -> bool:
    return (run.directory / FOLDER / FILE).is_file()


def explorer_of(run: Run) -> dict[str, Any] | None:
    """What the run's page shows, with the names of the classes that its sample images have or were taken for; None
    where it has none."""
    found = read_explorer(run.directory)
    if found is None or found.get("kind") not in KINDS:
        return None
    return {**found, "classes": _names(run, found)}


def adjustable_of(run: Run, explorer: dict[str, Any]) -> RunOutput | None:
    """The output whose points the explorer shows: that of the role it names, else the run's only one of a kind."""
    outputs = list(run.outputs.select_related("version__model"))
    wanted = explorer.get("role") or explorer["kind"]
    named = [output for output in outputs if output.role == wanted]
    found = named or [output for output in outputs if output.version.architecture.startswith(explorer["kind"])]
    return found[0] if found else None


def artifacts(run: Run) -> list[Artifact]:
    """The files that the recipe kept, by name; none while they are being written."""
    folder = run.directory / FOLDER
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [Artifact(file.name, file.stat().st_size) for file in files if file.is_file() and file.suffix != ".tmp"]


def artifact_path(run: Run, name: str) -> Path | None:
    """Where an artifact lies; None for anything else."""
    return run.directory / FOLDER / name if name in {each.name for each in artifacts(run)} else None


def _names(run: Run, explorer: dict[str, Any]) -> dict[int, str]:
    """Names by class, where the label space of the labels has some."""
    if run.edition is None or run.edition.labelled_set.taxonomy is None:
        return {}
    names = class_names(run.edition.labelled_set.taxonomy)
    said = {*explorer.get("labels", ())}
    for name in ("clean", "attacked", "predictions", "predictions_attacked"):
        said |= {entry[0] for row in explorer.get(name, ()) for entry in row}
    return {number: names[number] for number in sorted(said) if 0 <= number < len(names)}
