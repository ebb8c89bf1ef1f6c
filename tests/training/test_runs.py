"""Runs: asked for, carried out, registered once, taken over, retried; and who may do it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from accounts.errors import Conflict, Denied, DomainError
from accounts.models import User
from config.env import BASE_DIR
from jobs.inline import run_inline
from jobs.models import Job, JobState, Queue
from jobs.services import job_cancel, job_reap, job_retry
from jobs.worker import job_run
from models_zoo.models import Model, Task, Version, VersionState
from tests.models_zoo.builders import make_taxonomy
from tests.models_zoo.quality_builders import quality_model
from training import running
from training.engine import local
from training.engine.metrics import read_metrics
from training.models import Edition, LabelledSet, Run
from training.services import run_create, run_execute, run_retry
from training.signals import run_ended


@pytest.fixture
def ended() -> Iterator[list[tuple[int, bool]]]:
    """Which runs were announced: (number, whether finished)."""
    heard: list[tuple[int, bool]] = []

    def listen(sender: type[Run], run: Run, **kwargs: Any) -> None:
        heard.append((run.pk, run.finished_at is not None))

    run_ended.connect(listen)
    yield heard
    run_ended.disconnect(listen)


def carried_out(run: Run) -> Run:
    run_inline(run.job)
    run.refresh_from_db()
    return run


@pytest.mark.django_db
def test_a_run_gives_verified_versions_of_its_inputs_model(
    researcher: User, wobble: str, start: Version, ended: list[tuple[int, bool]]
):
    run = run_create(method=wobble, by=researcher, inputs={"start": start}, config={"n_outputs": 3}, seed=5)
    assert (run.name, run.preset, run.config["steps"], run.config["n_outputs"]) == ("Wobble of tiny v1", "small", 6, 3)
    assert (run.job.queue, run.job.state, run.job.subject) == (Queue.TRAIN, JobState.QUEUED, f"training.run:{run.pk}")
    run = carried_out(run)
    assert run.finished_at is not None
    assert run.seconds > 0
    assert set(run.report) == {"wide", "slim"}
    assert (run.job.done, run.job.total) == (6, 6)
    outputs = list(run.outputs.all())
    assert [(output.role, output.number) for output in outputs] == [("slim", 0), ("slim", 1), ("slim", 2)]
    for output in outputs:
        version = output.version
        assert (version.state, version.model, version.created_by) == (VersionState.VERIFIED, start.model, researcher)
        assert list(version.parents.all()) == [start]
    assert [output.version.label for output in outputs] == [f"run {run.pk} slim {n}" for n in (1, 2, 3)]
    assert outputs[0].facts["kept"]
    assert ended == [(run.pk, True)]
    assert run.job.result == {"outputs": [output.version_id for output in outputs]}


@pytest.mark.django_db
def test_an_output_goes_into_the_next_run_with_its_facts(researcher: User, wobble: str, start: Version):
    first = carried_out(run_create(method=wobble, by=researcher, inputs={"start": start}))
    output = first.outputs.get()
    second = run_create(method=wobble, by=researcher, inputs={"start": [output.version]})
    (network,) = running.run_inputs(second)["start"]
    assert network.arrays()["kept"].tolist() == network.facts["kept"] == output.facts["kept"]
    assert carried_out(second).outputs.get().version.parents.get() == output.version


@pytest.mark.django_db
def test_outputs_without_a_model_to_go_to_get_one(
    researcher: User, other_researcher: User, wobble: str, start: Version, tmp_path: Path
):
    """The input's model belongs to somebody else."""
    Model.objects.filter(pk=start.model_id).update(is_public=True)
    runs = [
        carried_out(run_create(method=wobble, by=other_researcher, inputs={"start": start}, name="Mine", seed=seed))
        for seed in (1, 2)
    ]
    models = [run.outputs.get().version.model for run in runs]
    assert [model.name for model in models] == ["Mine", f"Mine (run {runs[1].pk})"]
    assert {(model.created_by, model.taxonomy) for model in models} == {(other_researcher, start.model.taxonomy)}


@pytest.mark.django_db
def test_a_new_quality_model_points_the_way_its_input_does(researcher: User, other_researcher: User, wobble: str):
    run = Run.objects.create(name="Mine", method=wobble, created_by=other_researcher)
    model = quality_model(researcher, "dmos", higher_is_better=False)
    version = Version.objects.create(model=model, label="v1", kind="torch", outputs="score", created_by=researcher)
    run.inputs.create(role="start", version=version)
    assert running._model_of(run, Task.QUALITY).higher_is_better is False


@pytest.mark.django_db
def test_a_classifier_from_nowhere_needs_a_label_space(researcher: User, wobble: str):
    run = run_create(method=wobble, by=researcher)
    with pytest.raises(DomainError, match="nothing says in which label space"):
        run_inline(run.job)


@pytest.mark.django_db
def test_labels_that_are_taken_are_told_apart(researcher: User, wobble: str, start: Version):
    run = run_create(method=wobble, by=researcher, inputs={"start": start}, config={"n_outputs": 2, "same_label": True})
    labels = [output.version.label for output in carried_out(run).outputs.all()]
    assert labels == ["same", f"same, run {run.pk} slim 2"]


@pytest.mark.django_db
def test_two_clicks_start_one_run(researcher: User, other_researcher: User, wobble: str, start: Version):
    asked = {"method": wobble, "by": researcher, "inputs": {"start": start}}
    first = run_create(**asked)
    assert run_create(**asked).pk == first.pk
    assert run_create(**asked, seed=1).pk != first.pk
    job_cancel(job=first.job, by=researcher)
    assert [run_retry(run=first, by=researcher).job_id, run_retry(run=first, by=researcher).job_id] == [
        Job.objects.about(first).live().get().pk
    ] * 2
    assert Job.objects.about(first).count() == 2
    done = carried_out(Run.objects.get(pk=first.pk))
    with pytest.raises(Conflict, match="has succeeded already"):
        run_retry(run=done, by=researcher)
    assert run_create(**asked).pk != first.pk, "the same may be asked for again once it is over"


@pytest.mark.django_db
def test_executing_a_finished_run_again_registers_nothing_twice(
    researcher: User, wobble: str, start: Version, ended: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
):
    """A worker that dies between the result and the last output, and one that dies after the last."""
    run = run_create(method=wobble, by=researcher, inputs={"start": start}, config={"n_outputs": 3})
    register, calls = running._output_register, []

    def dies(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return register(*args)

    monkeypatch.setattr(running, "_output_register", dies)
    with pytest.raises(DomainError, match="ran out of memory"):
        run_inline(run.job)
    assert run.outputs.count() == 2
    assert ended == [(run.pk, False)]
    before = list(run.outputs.values_list("version", flat=True))
    trained = (run.directory / local.RESULT).stat().st_mtime_ns
    run = carried_out(run_retry(run=run, by=researcher))
    assert list(run.outputs.values_list("version", flat=True))[:2] == before
    assert Version.objects.filter(parents=start).count() == run.outputs.count() == 3
    assert (run.directory / local.RESULT).stat().st_mtime_ns == trained, "nothing was trained again"
    job_retried = Job.objects.filter(pk=run.job_id)
    job_retried.update(state=JobState.QUEUED, message_sent_at=None)
    assert carried_out(run).outputs.count() == 3
    assert ended == [(run.pk, False), (run.pk, True), (run.pk, True)]


@pytest.mark.django_db
def test_cancelled_between_steps_and_retried_equals_undisturbed(
    researcher: User,
    wobble: str,
    start: Version,
    settings: LazySettings,
    ended: list[tuple[int, bool]],
):
    settings.JOBS_SYNC_SECONDS = 0
    asked = {"method": wobble, "by": researcher, "inputs": {"start": start}}
    run, undisturbed = run_create(**asked), run_create(**asked, name="undisturbed", enqueue=False)

    def cancel_in_the_second_stage(job: Job) -> None:
        if job.message == "Stage slim" and job.done == 3:
            job_cancel(job=Job.objects.get(pk=job.pk), by=researcher)

    job = job_run(run.job_id, watcher=cancel_in_the_second_stage)
    assert job.state == JobState.CANCELLED
    assert ended == [(run.pk, False)]
    assert list((run.directory / "checkpoints").glob("*-step-slim-*.pt"))
    run = carried_out(run_retry(run=run, by=researcher))
    assert run.job_id != job.pk
    whole = inline(undisturbed)
    assert sha256s(run) == sha256s(whole)
    assert untimed(run) == untimed(whole)


@pytest.mark.django_db
def test_a_run_inside_another_job_needs_no_job_of_its_own(researcher: User, wobble: str, start: Version):
    run = run_create(method=wobble, by=researcher, inputs={"start": start}, enqueue=False)
    assert run.job is None
    assert not Job.objects.about(run).exists()
    done = inline(run)
    assert done.outputs.get().version.state == VersionState.VERIFIED


def inline(run: Run) -> Run:
    """Carry a run out as a job of another kind would."""

    class Context:
        job_id = None

        def report(self, **words: Any) -> None: ...

        def check(self) -> None: ...

    return run_execute(run=run, context=Context())


def sha256s(run: Run) -> list[str]:
    return [output.version.sha256 for output in run.outputs.all()]


def untimed(run: Run) -> list[dict[str, Any]]:
    return [{**line, "t": None} for line in read_metrics(run.directory).lines]


@pytest.mark.django_db
def test_a_job_that_is_retried_goes_on_too(researcher: User, wobble: str, start: Version):
    """From the page of jobs instead of the run's."""
    run = run_create(method=wobble, by=researcher, inputs={"start": start}, config={"fail_at": 2})
    with pytest.raises(DomainError, match="failed at step 2"):
        run_inline(run.job)
    run.refresh_from_db()
    assert "failed at step 2" in run.job.error
    assert list(run.report) == ["wide"], "what was reported before it failed stays visible"
    before = untimed(run)
    with pytest.raises(DomainError, match="failed at step 2"):
        run_inline(job_retry(job=run.job, by=researcher))
    assert untimed(run) == before


@pytest.mark.django_db
def test_a_nan_or_a_limit_is_what_the_job_says(researcher: User, wobble: str, start: Version):
    asked = {"method": wobble, "by": researcher, "inputs": {"start": start}}
    diverged = run_create(**asked, config={"spoil_at": 1})
    with pytest.raises(DomainError, match=r'"loss" is nan at step 1 of stage "wide"'):
        run_inline(diverged.job)
    limited = run_create(**asked, config={"pause": 0.05}, resources={"time_limit_seconds": 0.4})
    assert limited.resources == {"time_limit_seconds": 0.4}
    with pytest.raises(DomainError, match=r"time limit of 0\.4 s at step .* press Retry"):
        run_inline(limited.job)
    for _ in range(20):
        try:
            limited = carried_out(run_retry(run=limited, by=researcher))
            break
        except DomainError:
            limited.refresh_from_db()
    assert limited.finished_at is not None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "said", "field"),
    [
        ({"method": "wibble"}, 'There is no training method "wibble": choose from', "method"),
        ({"preset": "huge"}, 'no preset "huge": choose from small, long', "preset"),
        ({"config": {"steps": 0}}, "Steps: Input should be greater than or equal to 1", "steps"),
        ({"config": {"colour": 1}}, "Colour: Extra inputs are not permitted", "colour"),
        ({"device": "gpu"}, 'There is no device "gpu"', "device"),
        ({"resources": {"precision": "fp8"}}, "precision is 'fp8'", "precision"),
        ({"inputs": {"target": "start"}}, 'has no input "target": start', "target"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_field(
    researcher: User, wobble: str, start: Version, change: dict[str, Any], said: str, field: str
):
    if "inputs" in change:
        change = {"inputs": {"target": start}}
    with pytest.raises(DomainError, match=said) as refused:
        run_create(**{"method": wobble, "by": researcher, **change})
    assert refused.value.field == field
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_who_may_train(researcher: User, other_researcher: User, annotator: User, wobble: str, start: Version):
    with pytest.raises(Denied, match="takes the researcher role"):
        run_create(method=wobble, by=annotator, inputs={"start": start})
    with pytest.raises(Denied, match="You may not see"):
        run_create(method=wobble, by=other_researcher, inputs={"start": start})
    run = run_create(method=wobble, by=researcher, inputs={"start": start})
    with pytest.raises(Denied, match="You may not retry"):
        run_retry(run=run, by=other_researcher)


@pytest.mark.django_db
def test_versions_that_cannot_be_trained_are_named(researcher: User, wobble: str, start: Version):
    Version.objects.filter(pk=start.pk).update(state=VersionState.REFUSED, refusal="it is broken")
    start.refresh_from_db()
    with pytest.raises(DomainError, match=r"cannot be trained: it is refused \(it is broken\)"):
        run_create(method=wobble, by=researcher, inputs={"start": start})
    Version.objects.filter(pk=start.pk).update(state=VersionState.VERIFIED, kind="onnx")
    start.refresh_from_db()
    with pytest.raises(DomainError, match='of the kind "ONNX file": a run needs a registered architecture'):
        run_create(method=wobble, by=researcher, inputs={"start": start})


@pytest.mark.django_db
def test_labels_are_asked_for_where_a_method_needs_them(
    researcher: User, other_researcher: User, methods_folder: Callable[[Path], None], tmp_path: Path, start: Version
):
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "__init__.py").write_text(
        "from training.engine.registry import InputSlot, MethodCard, MethodConfig, register_method\n"
        "slot = InputSlot('target', 'Network to train', task='quality')\n"
        "card = MethodCard('learner', 'Learner', '', '', 'recipe:train', 'quality', inputs=(slot,))\n"
        "@register_method(card)\n"
        "class Config(MethodConfig): ...\n"
    )
    methods_folder(tmp_path)
    target = {"target": start}
    with pytest.raises(DomainError, match=r'needs "target" \(Network to train\): choose a version'):
        run_create(method="learner", by=researcher)
    with pytest.raises(DomainError, match='is for classification, but "target" of method "learner" has to be'):
        run_create(method="learner", by=researcher, inputs=target)
    Model.objects.filter(pk=start.model_id).update(task="quality", taxonomy=None)
    start = Version.objects.get(pk=start.pk)
    target = {"target": start}
    with pytest.raises(DomainError, match="needs labels for image quality: make a labelled set first") as refused:
        run_create(method="learner", by=researcher, inputs=target)
    assert refused.value.field == "edition"
    with pytest.raises(
        DomainError, match='holds labels for classification, but method "learner" needs labels for image'
    ):
        run_create(method="learner", by=researcher, inputs=target, edition=make_edition(researcher, "classes", 3))
    with pytest.raises(DomainError, match="holds no labels: add a source"):
        run_create(method="learner", by=researcher, inputs=target, edition=make_edition(researcher, "empty", 0))
    edition = make_edition(other_researcher, "secret", 3)
    with pytest.raises(Denied, match='You may not see "secret"'):
        run_create(method="learner", by=researcher, inputs=target, edition=edition)


def make_edition(by: User, name: str, n_rows: int) -> Edition:
    """An edition without a file; of classes where it is called so."""
    classes = make_taxonomy(by) if name == "classes" else None
    task = "classification" if classes else "quality"
    made = LabelledSet.objects.create(name=name, task=task, taxonomy=classes, created_by=by)
    return Edition.objects.create(labelled_set=made, number=1, sources=[], n_rows=n_rows, created_by=by)


HEAVY = {"torch", "torchvision", "accelerate", "onnxruntime"}
#: A worker process of its own, on the test's database, whose training takes a while.
WORKER = """
import sys
import django
from django.conf import settings
django.setup()
settings.DATABASES["default"]["NAME"] = {name!r}
settings.JOBS_SEND_MESSAGES = settings.JOBS_EVENTS = False
import training.jobs, training.receivers, training.services
from jobs.worker import job_run
from tests.training.throwing import THROWN, add_methods
from training.engine.registry import methods
add_methods(THROWN)
methods()
if {heavy!r} & sys.modules.keys():
    sys.exit("what a web process may import loaded torch")
job_run({job!r})
"""


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_is_taken_over_and_the_weights_are_the_same(
    researcher: User, wobble: str, start: Version, settings: LazySettings
):
    asked = {"method": wobble, "by": researcher, "inputs": {"start": start}, "config": {"steps": 60, "pause": 0.01}}
    run = run_create(**asked, resources={"checkpoint_seconds": 0.1})
    code = WORKER.format(name=str(connection.settings_dict["NAME"]), job=str(run.job_id), heavy=HEAVY)
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "VAR_DIR": str(settings.VAR_DIR)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=BASE_DIR, env=environment)
    deadline = time.monotonic() + 200
    while len(read_metrics(run.directory).lines) < 80 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not run.outputs.exists()
    Job.objects.filter(pk=run.job_id).update(beat_at=timezone.now() - timedelta(minutes=5))
    assert job_reap()["taken_over"] == 1
    job = job_run(run.job_id)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 2), job.error
    whole = inline(run_create(**asked, name="undisturbed", enqueue=False))
    assert sha256s(run) == sha256s(whole)
    assert untimed(run) == untimed(whole)
