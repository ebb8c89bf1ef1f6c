"""The parts of a run that compute: called by ``training.services.run_execute``. Torch is imported inside the functions.

Outputs become versions of the model of the first input of the same task, or of a new model made for the run.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import transaction

from accounts.errors import DomainError
from accounts.permissions import require_view
from corpora.models import Taxonomy
from jobs.context import JobContext, JobLost
from models_zoo.models import Model, Task, Version, VersionState
from models_zoo.reading import version_spec
from models_zoo.running import version_verify
from models_zoo.services import model_create, version_add
from training.engine.devices import Resources
from training.engine.registry import method
from training.models import Run, RunOutput

if TYPE_CHECKING:
    from training.engine.context import Progress
    from training.engine.labels import LabelledData
    from training.engine.local import RunResult
    from training.engine.networks import InputNetwork, Output

logger = structlog.get_logger(__name__)
LABEL_LENGTH = 60  # of a version


def run_train(*, run: Run, context: JobContext | None) -> "RunResult":
    """Run the method from its newest checkpoint on; ``context`` None in a process that only helps (accelerate).

    Raises:
        DomainError, ValueError: see ``run_execute``.
    """
    from training.engine.guards import RunLost
    from training.engine.local import run_method

    def progress(where: "Progress") -> None:
        assert context is not None
        try:
            context.report(done=where.done, total=where.total or None, unit="steps", message=_words(where))
        except JobLost as error:
            raise RunLost(str(error)) from error

    try:
        return run_method(
            run.method,
            config=method(run.method).config(**run.config),
            directory=run.directory,
            data=_data(run),
            inputs=run_inputs(run),
            seed=run.seed,
            resources=Resources.from_dict({**run.resources, "device": run.device}),
            progress=progress if context is not None else None,
        )
    except RunLost as lost:
        raise JobLost(str(lost)) from lost


def run_inputs(run: Run) -> "dict[str, list[InputNetwork]]":
    """The versions that go into a run, by role.

    Raises:
        Denied: when the person who started it may no longer see one.
    """
    found: dict[str, list[InputNetwork]] = {}
    for entry in run.inputs.select_related("version__model__taxonomy", "version__run_output"):
        require_view(run.created_by, entry.version.model)
        found.setdefault(entry.role, []).append(version_network(entry.version))
    return found


def version_network(version: Version) -> "InputNetwork":
    """A version as methods take it, with what the run that made it said of it."""
    from training.engine.networks import InputNetwork

    made_by: RunOutput | None = getattr(version, "run_output", None)
    facts = {} if made_by is None else made_by.facts
    direction = version.model.higher_is_better if version.model.task == Task.QUALITY else None
    return InputNetwork(str(version), version_spec(version), facts, _arrays_file(facts), direction)


def outputs_register(*, run: Run, result: "RunResult", context: JobContext) -> list[RunOutput]:
    """Make a verified version of each output, once, whatever was interrupted before.

    Raises:
        DomainError: when an output does not pass the check of versions.
    """
    registered = []
    for output in result.outputs:
        context.check()
        registered.append(_output_register(run, result, output))
    for entry in registered:
        context.check()
        version = version_verify(version=Version.objects.select_related("model__taxonomy").get(pk=entry.version_id))
        if version.state == VersionState.REFUSED:
            raise DomainError(f'The output "{entry.role}" of the run was refused as a version: {version.refusal}')
    return registered


def _output_register(run: Run, result: "RunResult", output: "Output") -> RunOutput:
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        known: RunOutput | None = run.outputs.filter(role=output.role, number=output.number).first()
        if known is not None:
            return known
        model = _model_of(run, Task.QUALITY if output.outputs == "score" else Task.CLASSIFICATION)
        several = sum(other.role == output.role for other in result.outputs) > 1
        version = version_add(
            model=model,
            label=_label(run, model, output, several=several),
            kind="torch",
            by=run.created_by,
            file=result.directory / output.file,
            architecture=output.architecture,
            arch_kwargs=output.arch_kwargs,
            preprocessing=output.preprocessing,
            outputs=output.outputs,
            parents=_parents(run, output),
            purpose=output.purpose,
        )
        facts = dict(output.facts)
        if output.arrays_file:
            file = result.directory / output.arrays_file
            facts["arrays_file"] = str(file.relative_to(settings.VAR_DIR))
        made: RunOutput = run.outputs.create(role=output.role, number=output.number, version=version, facts=facts)
    logger.info("run_output_registered", run=run.pk, role=output.role, number=output.number, version=version.pk)
    return made


def _model_of(run: Run, task: Task) -> Model:
    """Where the outputs of a task belong: the model of the run's earlier outputs of it, of its first input of it that
    the run's owner may change, or a new one."""
    earlier = run.outputs.filter(version__model__task=task).select_related("version__model__taxonomy").first()
    if earlier is not None:
        found: Model = earlier.version.model
        return found
    suitable = run.inputs.filter(
        version__model__in=Model.objects.editable_by(run.created_by), version__model__task=task
    ).select_related("version__model__taxonomy")
    by_role = {entry.role: entry.version.model for entry in reversed(suitable)}
    for slot in method(run.method).card.inputs:
        if slot.role in by_role:
            return by_role[slot.role]
    return _model_create(run, task)


def _model_create(run: Run, task: Task) -> Model:
    """A model for what a run made; it points the way that the first input of the task does."""
    like = run.inputs.filter(version__model__task=task).select_related("version__model__taxonomy").first()
    card = None if like is None else like.version.model
    name = run.name[:120]
    if Model.objects.filter(name=name).exists():
        name = f"{run.name[:100]} (run {run.pk})"
    is_quality = task == Task.QUALITY
    return model_create(
        name=name,
        task=task,
        taxonomy=None if is_quality else _taxonomy(run, card),
        higher_is_better=card.higher_is_better if card is not None and is_quality else True,
        by=run.created_by,
        description=f'Trained by run {run.pk}, method "{run.method}".',
        is_public=run.is_public,
    )


def _taxonomy(run: Run, card: Model | None) -> Taxonomy:
    """The label space of the labels, else of the first classifier that went in."""
    labels = run.edition.labelled_set.taxonomy if run.edition is not None else None
    found: Taxonomy | None = labels or (card.taxonomy if card is not None else None)
    if found is None:
        raise DomainError(
            f'Method "{run.method}" gave a classifier, but nothing says in which label space: give the run class '
            "labels or a classifier to start from."
        )
    return found


def _label(run: Run, model: Model, output: "Output", *, several: bool) -> str:
    """A label that the model lacks yet: what the recipe said, else the run; numbered where there are several."""
    number = f" {output.role} {output.number + 1}" if several else ""
    wanted = output.label or f"run {run.pk}{number}"
    with_run = f", run {run.pk}{number}"
    candidates = [wanted[:LABEL_LENGTH], f"{wanted[: LABEL_LENGTH - len(with_run)]}{with_run}"]
    taken = set(model.versions.filter(label__in=candidates).values_list("label", flat=True))
    return next(
        (label for label in candidates if label not in taken), f"run {run.pk} {output.role} {output.number + 1}"
    )


def _parents(run: Run, output: "Output") -> list[Version]:
    places = {(role, number) for role, number in output.parents}
    entries = run.inputs.select_related("version__model")
    return [entry.version for entry in entries if not places or (entry.role, entry.number) in places]


def _arrays_file(facts: dict[str, Any]) -> Path | None:
    kept = facts.get("arrays_file")
    return Path(settings.VAR_DIR) / kept if kept else None


def _data(run: Run) -> "LabelledData | None":
    if run.edition is None:
        return None
    from training.sets import edition_data

    require_view(run.created_by, run.edition.labelled_set)
    return edition_data(run.edition)


def _words(where: "Progress") -> str:
    return f"Stage {where.stage}" if where.total else where.stage.capitalize()
