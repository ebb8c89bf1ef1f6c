"""Writes: runs of training methods, and (from ``training.labelled``) labelled sets.

Every function checks that the person may do it, writes, logs. ``run_execute`` is for jobs and commands: what imports
torch is imported inside it.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.errors import Conflict, DomainError
from accounts.models import User
from accounts.permissions import require_edit, require_researcher, require_view
from jobs.models import Job
from jobs.services import job_enqueue
from models_zoo.models import Task, Version, VersionKind, VersionState
from training.engine.devices import BadResources, Resources
from training.engine.needs import NotWhatIsNeeded, require_data, require_inputs, require_one_task
from training.engine.registry import BadConfig, Method, MethodCard, MethodConfig, UnknownMethod, method
from training.labelled import edition_add, labelled_set_create
from training.models import Edition, Run, RunInput
from training.signals import run_ended

if TYPE_CHECKING:
    from jobs.context import JobContext

__all__ = [
    "edition_add",
    "labelled_set_create",
    "run_announce",
    "run_create",
    "run_execute",
    "run_retry",
]
logger = structlog.get_logger(__name__)
KIND = "training.run"
Inputs = Mapping[str, Version | Sequence[Version]]


def run_create(
    *,
    method: str,
    by: User,
    name: str = "",
    preset: str = "",
    config: Mapping[str, Any] | None = None,
    inputs: Inputs | None = None,
    edition: Edition | None = None,
    seed: int = 0,
    device: str = "auto",
    resources: Mapping[str, Any] | None = None,
    enqueue: bool = True,
) -> Run:
    """Start a run of a method: job ``training.run`` on the queue ``train``.

    Asked for the same twice by the same person while the first is under way, it gives the first run: a second click
    starts nothing.

    Args:
        method: a name of the registry.
        preset: "" for the method's default one. config: values that differ from it.
        inputs: versions by role.
        edition: the labels, where the method needs some.
        resources: fields of ``training.engine.devices.Resources`` beside the device.
        enqueue: False where the caller runs it with ``run_execute``, inside a job of its own.

    Raises:
        Denied: for people who are no researchers, or may not see a version or the labelled set.
        DomainError: for an unknown method, a value that its config refuses, inputs or data that are missing or of the
            wrong task, a version that cannot be trained, or a device that nobody has.
    """
    require_researcher(by, action="train models")
    chosen, configured = _configured(method, preset, config or {})
    used = _resources({**(resources or {}), "device": device})
    versions = {
        role: [given] if isinstance(given, Version) else list(given) for role, given in (inputs or {}).items() if given
    }
    _require_versions(versions, by)
    _require_needs(chosen.card, versions, edition, by)
    values = configured.model_dump(mode="json")
    key = _key(method, values, versions, edition, seed, used)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=by.pk)  # two clicks of one person come one after the other
        under_way = _under_way(by, key) if enqueue else None
        if under_way is not None:
            return under_way
        run: Run = Run.objects.create(
            name=_name(name, chosen.card, versions, edition),
            method=method,
            preset=preset or next(iter(chosen.card.presets), ""),
            config=values,
            edition=edition,
            seed=seed,
            device=device,
            resources={name: value for name, value in used.changed().items() if name != "device"},
            request_key=key,
            created_by=by,
        )
        RunInput.objects.bulk_create(
            RunInput(run=run, role=role, number=number, version=version)
            for role, chosen_versions in versions.items()
            for number, version in enumerate(chosen_versions)
        )
        if enqueue:
            _enqueue(run, by)
    logger.info("run_created", run=run.pk, method=method, by=by.pk)
    return run


def run_retry(*, run: Run, by: User) -> Run:
    """Go on with a run that failed or was cancelled, from its checkpoint, in a new job; nothing while one is live.

    Raises:
        Denied: for people who may not edit the run.
        Conflict: when it has succeeded.
    """
    require_edit(by, run, action="retry")
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run.pk)
        if run.finished_at is not None:
            raise Conflict(f'"{run}" has succeeded already: start a new run to train again.')
        if run.job is None or run.job.is_ended:
            _enqueue(run, by)
            logger.info("run_retried", run=run.pk, by=by.pk)
    return run


def run_execute(*, run: Run, context: "JobContext") -> Run:
    """Train, and register what came out; for jobs and commands, also inside another job.

    Goes on from the newest checkpoint. May be called again at any time: what was registered stays as it is.

    Returns:
        The run, finished, with its outputs verified.

    Raises:
        DomainError: an input, the data or an output is not what it should be.
        ValueError: what ``training.engine.local.run_method`` raises.
        JobInterrupt: the job was cancelled, lost or released; the checkpoint was written unless it was lost.
    """
    from training.running import outputs_register, run_train

    Run.objects.filter(pk=run.pk).exclude(job=context.job_id).update(job=context.job_id)
    if run.finished_at is None:
        started = time.monotonic()
        try:
            result = run_train(run=run, context=context)
        except Exception:
            run_report_keep(run=run)
            raise
        finally:
            Run.objects.filter(pk=run.pk).update(seconds=F("seconds") + time.monotonic() - started)
        context.report(message="Checking what came out")
        outputs_register(run=run, result=result, context=context)
        Run.objects.filter(pk=run.pk).update(report=result.report, finished_at=timezone.now())
        run.refresh_from_db()
        logger.info("run_finished", run=run.pk, method=run.method, outputs=len(result.outputs), seconds=run.seconds)
    run_announce(run)
    return run


def run_report_keep(*, run: Run) -> None:
    """Show what a run had reported when it failed, such as the numbers that refute it."""
    from training.engine.local import failed_report

    report = failed_report(run.directory)
    if report:
        Run.objects.filter(pk=run.pk).update(report=report)


def run_announce(run: Run) -> None:
    """Tell upper rooms that a run is over."""
    for receiver, answer in run_ended.send_robust(sender=Run, run=run):
        if isinstance(answer, Exception):
            logger.error("run_ended_receiver_failed", run=run.pk, receiver=str(receiver), error=str(answer))


def _configured(name: str, preset: str, values: Mapping[str, Any]) -> tuple[Method, MethodConfig]:
    try:
        chosen = method(name)
        return chosen, chosen.configure(preset, **values)
    except UnknownMethod as error:
        raise DomainError(_sentence(error), field="method") from error
    except BadConfig as error:
        raise DomainError(_sentence(error), field=error.field) from error


def _resources(values: Mapping[str, Any]) -> Resources:
    try:
        return Resources.from_dict(dict(values))
    except BadResources as error:
        raise DomainError(str(error), field=error.field) from error


def _require_versions(versions: Mapping[str, Sequence[Version]], by: User) -> None:
    for role, given in versions.items():
        for version in given:
            require_view(by, version.model)
            if version.kind != VersionKind.TORCH:
                raise DomainError(
                    f'"{version}" is of the kind "{version.get_kind_display()}": a run needs a registered architecture '
                    "with a weights file, whose gradients can be computed.",
                    field=role,
                )
            if version.state != VersionState.VERIFIED:
                why = version.refusal or "its check has not ended yet"
                raise DomainError(
                    f'"{version}" cannot be trained: it is {version.get_state_display().lower()} ({why}).', field=role
                )


def _require_needs(
    card: MethodCard, versions: Mapping[str, Sequence[Version]], edition: Edition | None, by: User
) -> None:
    if edition is not None:
        require_view(by, edition.labelled_set)
    tasks = {role: [(str(version), version.model.task) for version in given] for role, given in versions.items()}
    data = None if edition is None else (str(edition), edition.labelled_set.task, edition.n_rows)
    try:
        require_inputs(card, tasks)
        require_data(card, data)
        if data is not None:
            require_one_task(card, tasks, data)
    except NotWhatIsNeeded as error:
        raise DomainError(str(error), field=error.field) from error
    _require_one_label_space(versions, edition)


def _require_one_label_space(versions: Mapping[str, Sequence[Version]], edition: Edition | None) -> None:
    """Class labels mean what the classifiers predict."""
    if edition is None or edition.labelled_set.task != Task.CLASSIFICATION:
        return
    for role, given in versions.items():
        for version in given:
            if (
                version.model.task == Task.CLASSIFICATION
                and version.model.taxonomy_id != edition.labelled_set.taxonomy_id
            ):
                raise DomainError(
                    f'"{version}" predicts in the label space "{version.model.taxonomy}", but "{edition}" is labelled '
                    f'in "{edition.labelled_set.taxonomy}": choose a labelled set of the same label space.',
                    field=role,
                )


def _key(
    name: str,
    config: dict[str, Any],
    versions: Mapping[str, Sequence[Version]],
    edition: Edition | None,
    seed: int,
    resources: Resources,
) -> str:
    """A digest of all that a run was asked to do."""
    numbers = {role: [version.pk for version in given] for role, given in sorted(versions.items())}
    parts = [name, config, numbers, edition and edition.pk, seed, resources.changed()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _under_way(by: User, key: str) -> Run | None:
    """The same run, where this person started it and it is not over."""
    same = Run.objects.filter(created_by=by, request_key=key, finished_at=None)
    found: Run | None = same.filter(job__in=Job.objects.live()).first()
    return found


def _name(name: str, card: MethodCard, versions: Mapping[str, Sequence[Version]], edition: Edition | None) -> str:
    first = next((version for given in versions.values() for version in given), None)
    about = str(first or edition or "")
    return (" ".join(name.split()) or (f"{card.title} of {about}" if about else card.title))[:160]


def _enqueue(run: Run, by: User) -> None:
    """The run's live job, a new one where there is none."""
    run.job = job_enqueue(
        kind=KIND, title=f"Train: {run.name}", payload={"run": run.pk}, by=by, subject=run, unique=True
    )
    run.save(update_fields=["job"])


def _sentence(error: ValueError) -> str:
    words = str(error)
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")
