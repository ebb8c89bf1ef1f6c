"""What pages and API show of methods and runs. Nothing here depends on the number of images or steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db.models import QuerySet
from django.urls import reverse

from accounts.option_fields import bounds_words, shown_value, title_of, type_words
from models_zoo.lineage import Deed
from training.engine.registry import Method, UnknownMethod, method
from training.engine.samples import read_samples
from training.explorers import has_explorer
from training.models import Edition, LabelledSet, Run, RunInput, RunOutput, VersionPoint

if TYPE_CHECKING:
    from accounts.models import User
    from models_zoo.models import Version

SAMPLES_SHOWN = 40


def editions_visible(user: "User") -> QuerySet[Edition]:
    """Editions of the labelled sets that the person may see."""
    visible = LabelledSet.objects.visible_to(user)
    return Edition.objects.filter(labelled_set__in=visible).select_related("labelled_set")


def method_of(run: Run) -> Method | None:
    """The method of a run; None where this server has it no more."""
    try:
        return method(run.method)
    except UnknownMethod:
        return None


def preset_values(of: Method, preset: str) -> dict[str, Any]:
    """All values of the config of a preset; "" for the default one."""
    return of.configure(preset).model_dump()


def default_preset(of: Method) -> str:
    return next(iter(of.card.presets), "")


def config_lines(of: Method) -> list[dict[str, Any]]:
    """The fields of a method's config as its page shows them: what they take, and what each preset says."""
    presets = [preset_values(of, name) for name in of.card.presets]
    lines = []
    for name, info in of.config.model_fields.items():
        values = [shown_value(info, values[name]) for values in presets]
        lines.append(
            {
                "name": name,
                "title": title_of(name, info),
                "type": type_words(info),
                "bounds": bounds_words(info),
                "default": "" if info.is_required() else shown_value(info, info.get_default(call_default_factory=True)),
                "presets": [{"value": value, "differs": value != values[0]} for value in values],
                "description": info.description or "",
            }
        )
    return lines


def run_config(run: Run, of: Method | None) -> list[dict[str, Any]]:
    """The config of a run; what differs from its preset first."""
    if of is None:
        return [{"name": name, "title": name, "value": value} for name, value in run.config.items()]
    preset = preset_values(of, run.preset) if run.preset in {"", *of.card.presets} else {}
    lines = []
    for name, info in of.config.model_fields.items():
        if name not in run.config:
            continue
        value = shown_value(info, run.config[name])
        usual = shown_value(info, preset[name]) if name in preset else ""
        lines.append(
            {
                "name": name,
                "title": title_of(name, info),
                "value": value,
                "preset": usual,
                "differs": bool(usual) and usual != value,
                "description": info.description or "",
            }
        )
    return sorted(lines, key=lambda line: not line["differs"])


def plots(of: Method | None) -> list[dict[str, Any]]:
    """The plots of the run page, as the card wants them; metrics that it does not name get plots of their own."""
    if of is None:
        return []
    return [
        {"title": curve.title, "unit": curve.unit, "metrics": [list(metric) for metric in curve.metrics]}
        for curve in of.card.curves
    ]


def samples(directory: Path) -> list[dict[str, Any]]:
    """The newest samples of a run, newest first: ``stage``, ``step``, ``entries`` (name, caption, files)."""
    steps: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for entry in read_samples(directory).lines[-SAMPLES_SHOWN:]:
        steps.setdefault((entry.get("stage", ""), entry.get("step") or 0), []).append(entry)
    return [{"stage": stage, "step": step, "entries": entries} for (stage, step), entries in steps.items()][::-1]


def deeds(versions: "Sequence[Version]", user: "User") -> list[Deed]:
    """The runs that made these versions or took them, for their pages in the zoo: those that the person may see."""
    visible = Run.objects.visible_to(user)
    made = RunOutput.objects.filter(version__in=versions, run__in=visible).select_related("run__job")
    taken = RunInput.objects.filter(version__in=versions, run__in=visible).select_related("run__job")
    points = VersionPoint.objects.filter(made__in=versions, version__run_output__run__in=visible)
    return [
        *(_deed(entry.run, entry.version_id, entry.role, True) for entry in made),
        *(_deed(entry.run, entry.version_id, entry.role, False) for entry in taken.order_by("-run")),
        *(
            _deed(point.version.run_output.run, point.made_id, f"point {point.words}", True)
            for point in points.select_related("version__run_output__run__job")
            if point.made_id is not None
        ),
    ]


def _deed(run: Run, version_id: int, role: str, is_maker: bool) -> Deed:
    of = method_of(run)
    is_explored = is_maker and has_explorer(run)
    return Deed(
        version_id=version_id,
        title=str(run),
        url=run.get_absolute_url(),
        what=of.card.title if of else run.method,
        role=role,
        is_maker=is_maker,
        at=run.finished_at or run.created_at,
        explore_url=reverse("training:run_explore", args=[run.pk]) if is_explored else "",
    )


def input_origins(versions: "Sequence[Version]", user: "User") -> dict[int, Run]:
    """Of versions that a run made, the run, where the person may see it."""
    found = RunOutput.objects.filter(version__in=versions, run__in=Run.objects.visible_to(user)).select_related("run")
    return {entry.version_id: entry.run for entry in found}
