"""Results of several methods side by side: page, plot, CSV, API; only what a person may see."""

import csv
import io
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import membership_set
from jobs.models import JobState
from models_zoo.models import Model, Version
from tests.models_zoo.quality_builders import quality_model
from tests.training.explorers import wide
from tests.training.page_builders import make_run
from training import charts
from training.comparing import MEASURES, Line, Measure, lines_of, over_seeds, written
from training.engine.registry import Method
from training.models import Edition, Run, RunOutput, VersionPoint

pytestmark = pytest.mark.django_db


def measured(sa: float = 0.6, ra: float = 0.3, **changes: Any) -> dict[str, Any]:
    return {
        "images": 500, "sa": wide(sa), "ra": wide(ra), "ra_strong": wide(ra - 0.01), "ra_independent": wide(ra - 0.02),
        "attack": "PGD, 5 steps", "eps": 8 / 255, "macs": 1_171_400, "params": 85_000, "latency_ms": 0.81,
        "bytes": 345_000, "seconds": 61.0, "confirmed": True,
    } | changes  # fmt: skip


def measured_run(
    by: User, edition: Edition | None, *, outputs: int = 2, said: dict[str, Any] | None = None, **values: Any
) -> Run:
    """A run with so many measured outputs, and one that was not measured."""
    run = make_run(by, edition, state=JobState.SUCCEEDED, **values)
    model = Model.objects.filter(name="robust").first() or quality_model(by, "robust")
    for number in range(outputs + 1):
        version = Version.objects.create(
            model=model, label=f"lambda {number}, run {run.pk}", kind="torch", outputs="score", created_by=by
        )
        facts = {"measured": (said or measured()) | {"bytes": 1000 * 10**number}} if number < outputs else {}
        RunOutput.objects.create(run=run, role="dedicated", number=number, version=version, facts=facts)
    return run


@pytest.fixture
def page(client: Client, admin: User) -> Client:
    client.force_login(admin)
    return client


def test_measured_outputs_stand_side_by_side(page: Client, admin: User, edition: Edition, sketch: Method) -> None:
    run = measured_run(admin, edition)
    make_run(admin, edition, name="without numbers")
    shown = page.get("/training/compare/")
    said = shown.content.decode()
    assert [line.version.label for _, line, _ in shown.context["lines"]] == [
        f"lambda 0, run {run.pk}", f"lambda 1, run {run.pk}",
    ]  # fmt: skip
    for words in ("60.0 %", "58.0 to 62.0", "28.0 %", "1.17 M", "0.81 ms", "1 kB", "10 kB", "61 s", "PGD, 5 steps"):
        assert words in said, words
    assert "?edition=" in page.get(run.get_absolute_url()).content.decode()


def test_means_over_seeds_take_what_differs_in_nothing_else(
    page: Client, admin: User, edition: Edition, sketch: Method
) -> None:
    for seed, ra in enumerate((0.30, 0.34, 0.32)):
        measured_run(admin, edition, seed=seed, said=measured(ra=ra, confirmed=seed != 1))
    measured_run(admin, edition, seed=0, config={"steps": 7}, said=measured(ra=0.9))
    lines = [line for _, line, _ in page.get("/training/compare/?seeds=on").context["lines"]]
    assert [(line.n_seeds, round(line.values["ra"].value, 3)) for line in lines] == [
        (1, 0.9), (1, 0.9), (3, 0.32), (3, 0.32),
    ]  # fmt: skip
    mean = lines[2]
    assert (mean.values["ra"].low, mean.values["ra"].high, mean.confirmed) == (0.3, 0.34, False)
    assert (mean.name, mean.seeds, mean.version) == ("lambda 0, mean of 3 seeds", (0, 1, 2), None)


def test_the_form_narrows_what_is_shown(page: Client, admin: User, edition: Edition, sketch: Method) -> None:
    first, second = measured_run(admin, edition), measured_run(admin, None)

    def runs(query: str) -> set[int]:
        return {line.run.pk for _, line, _ in page.get(f"/training/compare/?{query}").context["lines"]}

    assert runs("") == {first.pk}
    assert runs("edition=") == {first.pk, second.pk}
    assert runs(f"run={second.pk}") == {second.pk}
    assert runs("edition=&method=sketch") == {first.pk, second.pk}
    assert runs("edition=999") == set()
    wrong = page.get("/training/compare/?x=colour")
    assert (wrong.status_code, "not one of the available choices" in wrong.content.decode()) == (200, True)
    other = page.get("/training/compare/?x=macs&y=sa")
    assert "Standard accuracy against macs" in other.content.decode()


def test_different_radii_are_not_compared_in_silence(
    page: Client, admin: User, edition: Edition, sketch: Method
) -> None:
    measured_run(admin, edition, outputs=1)
    assert "different radii" not in page.get("/training/compare/").content.decode()
    measured_run(admin, edition, outputs=1, said=measured(eps=4 / 255))
    text = page.get("/training/compare/").content.decode()
    assert "different radii (4/255, 8/255)" in text
    assert text.count("ε 4/255") == text.count("ε 8/255") == 1


def test_versions_of_points_are_compared_too(page: Client, admin: User, edition: Edition, sketch: Method) -> None:
    run = measured_run(admin, edition, outputs=1)
    adjustable = run.outputs.get(number=0).version
    made = Version.objects.create(
        model=adjustable.model, label="point", kind="torch", outputs="score", created_by=admin
    )
    VersionPoint.objects.create(
        version=adjustable, point={"lam": 0.3}, key="k", made=made, facts={"measured": measured()}, created_by=admin
    )
    lines = [line for _, line, _ in page.get("/training/compare/").context["lines"]]
    assert [(line.version, line.role) for line in lines] == [
        (adjustable, "dedicated"), (made, "dedicated, lam 0.3"),
    ]  # fmt: skip


def test_the_file_has_every_number(page: Client, admin: User, edition: Edition, sketch: Method) -> None:
    run = measured_run(admin, edition, outputs=1)
    answer = page.get(f"/training/compare.csv?edition={edition.pk}")
    assert "attachment" in answer["Content-Disposition"]
    (row,) = csv.DictReader(io.StringIO(answer.content.decode()))
    assert (row["run_id"], row["method"], row["seeds"], row["confirmed"]) == (str(run.pk), "sketch", "0", "True")
    assert (float(row["sa"]), float(row["sa_low"]), float(row["bytes"])) == (0.6, 0.58, 1000)
    assert (row["macs_low"], row["labelled_set"], row["edition"]) == ("", edition.labelled_set.name, "1")


def test_programs_read_the_comparison(admin: User, annotator: User, edition: Edition, sketch: Method) -> None:
    run = measured_run(admin, edition, outputs=1)
    api = APIClient()
    api.force_authenticate(admin)
    (line,) = api.get(f"/api/v1/comparison/?edition={edition.pk}").json()
    assert (line["run"], line["version"]) == (run.pk, run.outputs.get(number=0).version_id)
    assert line["measured"]["sa"] == {"value": 0.6, "low": 0.58, "high": 0.62}
    assert api.get("/api/v1/comparison/?edition=999").status_code == 400
    assert "/api/v1/comparison/" in api.get("/api/v1/schema/").content.decode()
    api.force_authenticate(annotator)
    assert api.get("/api/v1/comparison/").status_code == 403


def test_others_see_what_was_shared_with_them(
    client: Client, admin: User, researcher: User, annotator: User, edition: Edition, sketch: Method
) -> None:
    run = measured_run(admin, edition)
    for address in ("/training/compare/", "/training/compare.csv"):
        client.force_login(annotator)
        assert client.get(address).status_code == 403
    client.force_login(researcher)
    assert "Nothing to compare yet" in client.get("/training/compare/").content.decode()
    assert client.get("/training/compare.csv").content.decode().count("\n") == 1
    membership_set(target=run, username=researcher.username, role="viewer", by=admin)
    assert len(client.get("/training/compare/?edition=").context["lines"]) == 2


def test_queries_do_not_grow(page: Client, admin: User, edition: Edition, sketch: Method) -> None:
    measured_run(admin, edition)

    def count() -> int:
        page.get("/training/compare/")
        with CaptureQueriesContext(connection) as captured:
            page.get("/training/compare/")
        return len(captured)

    before = count()
    for seed in range(4):
        measured_run(admin, edition, seed=seed + 1)
    assert count() == before <= 20


@pytest.mark.parametrize(
    "broken", [{"measured": "soon"}, {"measured": {"sa": {"value": None}, "ra": True, "images": "many"}}]
)
def test_odd_facts_break_nothing(
    page: Client, admin: User, edition: Edition, sketch: Method, broken: dict[str, Any]
) -> None:
    run = measured_run(admin, edition)
    run.outputs.filter(number=0).update(facts=broken)
    assert page.get("/training/compare/").status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sa", 0.6234, "62.3 %"), ("macs", 1_171_400_000, "1.17 G"), ("bytes", 345_678, "346 kB"),
        ("bytes", 12, "12 B"), ("latency_ms", 0.8123, "0.812 ms"), ("seconds", 4567.8, "4,568 s"),
        ("params", 999, "999"),
    ],
)  # fmt: skip
def test_values_are_written_as_people_read_them(name: str, value: float, said: str) -> None:
    assert written(MEASURES[name], value) == said


def plotted(admin: User, x: Measure, y: Measure) -> tuple[list[Line], dict[str, Any]]:
    lines = lines_of(Run.objects.all())
    plot = charts.scatter(lines, x, y)
    assert plot is not None
    return lines, plot


def test_sizes_far_apart_are_drawn_on_a_logarithmic_scale(admin: User, edition: Edition, sketch: Method) -> None:
    measured_run(admin, edition, outputs=3)  # 1, 10 and 100 kB
    _, plot = plotted(admin, MEASURES["bytes"], MEASURES["ra"])
    xs = [mark["x"] for mark in plot["marks"]]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.05)
    assert {"1 kB", "10 kB", "100 kB"} <= {tick.label for tick in plot["x"].ticks}
    assert all(mark["y_high"] < mark["y"] < mark["y_low"] for mark in plot["marks"])
    _, linear = plotted(admin, MEASURES["macs"], MEASURES["sa"])
    assert len({mark["x"] for mark in linear["marks"]}) == 1
    assert charts.scatter([], MEASURES["bytes"], MEASURES["ra"]) is None


def test_a_mean_of_one_is_itself(admin: User, edition: Edition, sketch: Method) -> None:
    measured_run(admin, edition)
    lines = lines_of(Run.objects.all())
    assert over_seeds(lines) == lines
