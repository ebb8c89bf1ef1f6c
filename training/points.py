"""Points of adjustable versions as versions of their own: asked for on pages, by programs, by the command line.

The function that a method's card names makes the network; ``point_execute`` is for jobs: torch is imported inside it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction

from accounts.errors import DomainError
from accounts.models import User
from accounts.permissions import require_edit, require_researcher
from jobs.services import job_enqueue
from models_zoo.models import Version, VersionState
from training.engine.registry import Method, UnknownMethod, method
from training.models import RunOutput, VersionPoint

if TYPE_CHECKING:
    from jobs.context import JobContext
    from training.engine.explore import Point

logger = structlog.get_logger(__name__)
KIND = "training.point"
MOST_LETTERS = 2_000  # of a point as JSON: thresholds of many exits, but no data
LABEL_LENGTH = 60


def point_request(*, version: Version, point: Mapping[str, Any], by: User) -> VersionPoint:
    """Have a worker make a version of a point (job ``training.point``). Asked for the same again, it gives what there
    is, and tries once more where the last try failed.

    Raises:
        Denied: for people who are no researchers, or may not add versions to the model.
        DomainError: when the version is not adjustable, or the point is no plain JSON object.
    """
    require_researcher(by, action="make versions")
    require_edit(by, version.model, action="add versions to")
    _maker(version)
    values, key = _canonical(point)
    with transaction.atomic():
        Version.objects.select_for_update().get(pk=version.pk)
        found, is_new = VersionPoint.objects.get_or_create(
            version=version, key=key, defaults={"point": values, "created_by": by}
        )
        if found.made_id is None and (found.job is None or found.job.is_ended):
            found.job = job_enqueue(
                kind=KIND, title=f"Make {found}", payload={"point": found.pk}, by=by, subject=found, unique=True
            )
            found.save(update_fields=["job"])
    if is_new:
        logger.info("point_requested", version=version.pk, point=values, by=by.pk)
    return found


def point_execute(*, point: VersionPoint, context: "JobContext") -> Version:
    """Make the version of a point, and check it; for jobs. What an earlier try made is used.

    Raises:
        DomainError: there is no such point, or its network did not pass the check of versions.
    """
    from models_zoo.running import version_verify

    if point.made is None:
        context.report(message="Making the network")
        made = _network(point)
        context.check()
        point = _register(point, made)
    assert point.made is not None
    context.report(message="Checking it")
    version = version_verify(version=Version.objects.select_related("model__taxonomy").get(pk=point.made.pk))
    if version.state == VersionState.REFUSED:
        raise DomainError(f'"{version}" was refused as a version: {version.refusal}')
    return version


def is_adjustable(version: Version) -> bool:
    """Whether points of it can be made versions."""
    try:
        _maker(version)
    except DomainError:
        return False
    return True


def _maker(version: Version) -> tuple[RunOutput, Method]:
    """The output of a run that the version is, and its method."""
    output: RunOutput | None = RunOutput.objects.filter(version=version).select_related("run").first()
    if output is not None:
        try:
            of = method(output.run.method)
        except UnknownMethod as error:
            raise DomainError(f'"{version}" cannot be adjusted here: {error}.') from error
        if of.card.points:
            return output, of
    adjustable = "a method with adjustable results, such as OAT"
    raise DomainError(f'"{version}" has no points to choose from: choose a version made by {adjustable}.')


def _canonical(point: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The point with numbers as floats, so that 1 and 1.0 are one point; and its digest."""
    try:
        values = {str(name): _floats(value) for name, value in sorted(point.items())}
        text = json.dumps(values, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DomainError(f"The point is no plain JSON object: {error}.", field="point") from error
    if not values or len(text) > MOST_LETTERS:
        raise DomainError('Give a point such as {"lam": 0.3, "width": 1}.', field="point")
    return values, hashlib.sha256(text.encode()).hexdigest()


def _floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_floats(part) for part in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _network(point: VersionPoint) -> "Point":
    from training.running import version_network

    _, of = _maker(point.version)
    versions = Version.objects.select_related("model__taxonomy", "run_output")
    network = version_network(versions.get(pk=point.version_id))
    make = of.points()
    assert make is not None
    try:
        return make(network, point.point)
    except ValueError as error:
        text = str(error)
        raise DomainError(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), field="point") from error


def _register(point: VersionPoint, made: "Point") -> VersionPoint:
    from models_zoo.services import version_add
    from training.engine.metrics import as_json
    from training.engine.networks import weights_of, write_weights

    with TemporaryDirectory() as folder, transaction.atomic():
        file = Path(folder) / "weights.safetensors"
        write_weights(file, weights_of(made.module, made.architecture, dict(made.arch_kwargs)))
        locked: VersionPoint = VersionPoint.objects.select_for_update(of=("self",)).get(pk=point.pk)
        if locked.made_id is not None:
            return locked
        version = point.version
        locked.made = version_add(
            model=version.model,
            label=_label(version, made.label or point.words),
            kind="torch",
            by=point.created_by,
            file=file,
            architecture=made.architecture,
            arch_kwargs=dict(made.arch_kwargs),
            preprocessing=made.preprocessing or version.preprocessing,
            outputs=made.outputs,
            parents=[version],
        )
        locked.facts = as_json(dict(made.facts), "facts")
        locked.save(update_fields=["made", "facts"])
    logger.info("point_made", version=point.version_id, point=point.point, made=locked.made.pk)
    return locked


def _label(version: Version, said: str) -> str:
    """ "v1, lambda 0.3" in so many letters, numbered where it is taken."""
    wanted = f"{version.label}, {said}"[:LABEL_LENGTH]
    taken = set(version.model.versions.values_list("label", flat=True))
    numbered = (f"{wanted[: LABEL_LENGTH - 6]} ({number})" for number in range(2, 10_000))
    return wanted if wanted not in taken else next(label for label in numbered if label not in taken)
