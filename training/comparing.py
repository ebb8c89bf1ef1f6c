"""What runs of several methods measured, side by side on one labelled set.

Line: a version with what its run measured of it (``facts["measured"]`` of ``training.engine.robustness.measured``), or
the mean of such versions that differ in nothing but the seed.
"""

import csv
import io
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from django.db.models import QuerySet

from training.models import Edition, Run, RunOutput, VersionPoint
from training.reading import method_of

if TYPE_CHECKING:
    from accounts.models import User
    from models_zoo.models import Version

MEASURED = "measured"
Kind = Literal["share", "count", "bytes", "milliseconds", "seconds"]


@dataclass(frozen=True)
class Measure:
    """A column of the comparison. is_more_better: which way is good; None where neither is."""

    name: str
    title: str
    kind: Kind
    is_more_better: bool | None
    meaning: str


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("sa", "Standard accuracy", "share", True, "on clean test images"),
        Measure("ra", "Robust accuracy", "share", True, "under the attack of the method itself"),
        Measure("ra_strong", "Robust, strong", "share", True, "under more steps and restarts of the same attack"),
        Measure("ra_independent", "Robust, independent", "share", True, "under another library's attack, same images"),
        Measure("macs", "MACs", "count", False, "multiply-accumulates of one image"),
        Measure("latency_ms", "Latency", "milliseconds", False, "of one image, one thread, median"),
        Measure("bytes", "Size", "bytes", False, "of the weights file on disk"),
        Measure("params", "Parameters", "count", None, "of the network"),
        Measure("seconds", "Training", "seconds", None, "time of its training"),
    )
}
AXES = ("bytes", "ra")


@dataclass(frozen=True)
class Value:
    """low, high: 95 % interval of one network, or the least and the greatest over the seeds; None where unknown."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """version: None for a mean over seeds. n_seeds: how many it is of. eps: radius of the attacks, in pixel values from
    0 to 1; robust accuracies under different radii cannot be compared. confirmed: whether the independent attack found
    no more than the method's own; None where none ran."""

    name: str
    role: str
    run: Run
    method: str
    version: "Version | None"
    values: Mapping[str, Value]
    attack: str
    eps: float | None
    images: int | None
    confirmed: bool | None
    seeds: tuple[int, ...]
    group: str = ""

    @property
    def words_eps(self) -> str:
        return "" if self.eps is None else radius(self.eps)

    @property
    def n_seeds(self) -> int:
        return len(self.seeds)

    def plain(self) -> dict[str, Any]:
        """JSON."""
        return {
            "name": self.name,
            "role": self.role,
            "run": self.run.pk,
            "method": self.run.method,
            "preset": self.run.preset,
            "seeds": list(self.seeds),
            "edition": self.run.edition_id,
            "version": None if self.version is None else self.version.pk,
            "attack": self.attack,
            "eps": self.eps,
            "images": self.images,
            "confirmed": self.confirmed,
            "measured": {name: vars(value) for name, value in self.values.items()},
        }


def runs_measured(user: "User") -> QuerySet[Run]:
    """Runs that the person may see and that measured what they made."""
    outputs = RunOutput.objects.filter(**{f"facts__{MEASURED}__isnull": False})
    found: QuerySet[Run] = Run.objects.visible_to(user).filter(pk__in=outputs.values("run"))
    return found


def editions_measured(user: "User") -> QuerySet[Edition]:
    """The editions that those runs learnt from, the one of the newest run first."""
    used = runs_measured(user).filter(edition__isnull=False)
    return Edition.objects.filter(pk__in=used.values("edition")).select_related("labelled_set").order_by("-pk")


def lines_of(runs: QuerySet[Run]) -> list[Line]:
    """A line for each measured output of these runs, and for each point that was made a version; newest run first."""
    chosen = runs.order_by("-id").values("pk")
    outputs = (
        RunOutput.objects.filter(run__in=chosen, **{f"facts__{MEASURED}__isnull": False})
        .select_related("run__edition__labelled_set", "version__model")
        .prefetch_related("run__inputs")
        .order_by("-run_id", "role", "number")
    )
    points = VersionPoint.objects.filter(
        version__run_output__run__in=chosen, made__isnull=False, **{f"facts__{MEASURED}__isnull": False}
    ).select_related("version__run_output__run__edition__labelled_set", "made__model")
    points = points.prefetch_related("version__run_output__run__inputs")
    lines = [_line(entry.run, entry.version, entry.role, entry.facts[MEASURED], entry.number) for entry in outputs]
    for point in points:
        output, made = point.version.run_output, point.made
        assert made is not None
        lines.append(_line(output.run, made, f"{output.role}, {point.words}", point.facts[MEASURED], 0))
    return [line for line in lines if line is not None]


def over_seeds(lines: Sequence[Line]) -> list[Line]:
    """Lines that differ in nothing but the seed as one: means, with the least and the greatest."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    return [_mean(group) for group in groups.values()]


def _line(run: Run, version: "Version", role: str, said: Any, number: int) -> Line | None:
    if not isinstance(said, Mapping):
        return None
    of = method_of(run)
    inputs = sorted((entry.role, entry.number, entry.version_id) for entry in run.inputs.all())
    group = [run.method, run.config, run.edition_id, inputs, role, number]
    return Line(
        name=str(version),
        role=role.replace("_", " "),
        run=run,
        method=of.card.title if of else run.method,
        version=version,
        values={name: value for name in MEASURES if (value := _value(said.get(name))) is not None},
        attack=str(said.get("attack") or ""),
        eps=_number(said.get("eps")),
        images=said.get("images") if isinstance(said.get("images"), int) else None,
        confirmed=said.get("confirmed") if isinstance(said.get("confirmed"), bool) else None,
        seeds=(run.seed,),
        group=json.dumps(group, sort_keys=True, default=str),
    )


def _value(said: Any) -> Value | None:
    """A number, or one with its interval."""
    if isinstance(said, Mapping):
        value, low, high = (_number(said.get(name)) for name in ("value", "low", "high"))
    else:
        value, low, high = _number(said), None, None
    return None if value is None else Value(value, low, high)


def _number(said: Any) -> float | None:
    return float(said) if isinstance(said, int | float) and not isinstance(said, bool) else None


def _mean(lines: Sequence[Line]) -> Line:
    first = lines[0]
    if len(lines) == 1:
        return first
    values = {}
    for name in MEASURES:
        known = [line.values[name].value for line in lines if name in line.values]
        if known:
            values[name] = Value(statistics.fmean(known), min(known), max(known))
    confirmed = [line.confirmed for line in lines if line.confirmed is not None]
    return replace(
        first,
        name=f"{_label_alone(first)}, mean of {len(lines)} seeds",
        version=None,
        values=values,
        confirmed=all(confirmed) if confirmed else None,
        seeds=tuple(sorted(line.run.seed for line in lines)),
    )


def _label_alone(line: Line) -> str:
    """What the recipe called the network, without the run's number that tells the labels of runs apart."""
    label = re.sub(r"(^|, )run \d+.*$", "", line.version.label if line.version else "")
    return label or line.role


# Words


def written(measure: Measure, value: float) -> str:
    """A value as a person reads it: "62.3 %", "1.17 M", "345 kB", "0.81 ms"."""
    if measure.kind == "share":
        return f"{100 * value:.1f} %"
    if measure.kind == "milliseconds":
        return f"{value:.3g} ms"
    if measure.kind == "seconds":
        return f"{value:,.0f} s"
    return _scaled(value, "B" if measure.kind == "bytes" else "")


def around(measure: Measure, value: Value) -> str:
    """The ends beside a value, "60.1 to 64.4"; empty where there are none."""
    if value.low is None or value.high is None:
        return ""
    low, high = written(measure, value.low), written(measure, value.high)
    if low == high:
        return ""
    return f"{low.removesuffix(' %')} to {high.removesuffix(' %')}"


def radius(eps: float) -> str:
    """A radius of attacks in words: 0.0314 is "8/255"."""
    return f"{255 * eps:.3g}/255"


def _scaled(value: float, unit: str) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


# Files

HEAD = (
    "version_id", "name", "role", "run_id", "run", "method", "preset", "seeds", "labelled_set", "edition", "attack",
    "eps", "images", "confirmed",
)  # fmt: skip


def csv_of(lines: Iterable[Line]) -> str:
    """The comparison as CSV; docs/formats.md describes the columns."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    ends = ("", "_low", "_high")
    writer.writerow([*HEAD, *(f"{name}{end}" for name in MEASURES for end in ends)])
    for line in lines:
        run, edition = line.run, line.run.edition
        about = [
            line.version.pk if line.version else "", line.name, line.role, run.pk, run.name, run.method, run.preset,
            " ".join(map(str, line.seeds)), edition.labelled_set.name if edition else "",
            edition.number if edition else "", line.attack, line.eps, line.images,
            line.confirmed,
        ]  # fmt: skip
        values = [line.values.get(name) for name in MEASURES]
        numbers = [part for value in values for part in ((value.value, value.low, value.high) if value else ("",) * 3)]
        writer.writerow(["" if part is None else part for part in [*about, *numbers]])
    return buffer.getvalue()
