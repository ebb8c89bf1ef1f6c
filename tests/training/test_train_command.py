"""`manage.py train`."""

import io
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import User
from config.env import BASE_DIR
from jobs.models import Job, JobState
from models_zoo.models import Version, VersionState
from training.engine.metrics import read_metrics
from training.engine.registry import Method
from training.management.commands.train import _setting
from training.models import Edition, LabelledSet, Run

SETS = ("scores", "scores@home")


def train(*words: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("train", *words, stdout=out, verbosity=0, **options)
    return out.getvalue()


def test_the_list_names_methods_with_presets_and_inputs(wobble: str):
    said = train("--list")
    assert re.search(r"^wobble +Wobble: Fits a random plane twice \(these tests\)$", said, re.MULTILINE)
    assert re.search(r"^ +presets: small, long; inputs: start\?; labels: none$", said, re.MULTILINE)


def test_the_config_is_a_table_of_the_presets_values(wobble: str):
    lines = train("wobble", "--help-config", "--preset", "long").splitlines()
    assert re.fullmatch(r"name +long +takes +meaning", lines[0])
    assert re.fullmatch(r"steps +400 +whole number; at least 1 and at most 10000 +Of each stage", lines[1])
    assert re.fullmatch(r"stop_at +none +whole number, or nothing +Step after which the first stage ends", lines[4])
    assert lines[-1].split() == ["same_label", "no", "yes", "or", "no"]


def test_one_value_is_a_list_of_one_where_the_config_takes_several(sketch: Method):
    assert _setting(sketch, "widths", "16") == [16]
    assert _setting(sketch, "widths", "16, 32") == _setting(sketch, "widths", "[16, 32]") == [16, 32]
    assert _setting(sketch, "widths", "") == []
    assert _setting(sketch, "steps", "16") == 16
    assert _setting(sketch, "loss", "square") == "square"


@pytest.mark.django_db
def test_it_trains_here_and_says_what_came_out(admin: User, wobble: str, start: Version):
    said = train("wobble", "--set", "steps=3", "--set", "rate=0.5", "--input", f"start={start}", "--seed", "4")
    run = Run.objects.get()
    assert (run.config["steps"], run.config["rate"], run.seed, run.created_by) == (3, 0.5, 4, admin)
    assert run.inputs.get().version == start
    version = run.outputs.get().version
    assert version.state == VersionState.VERIFIED
    assert f'slim: "{version}" (version {version.pk})' in said
    assert json.loads(said[said.index("{") :]) == run.report
    assert Job.objects.get(pk=run.job_id).message_sent_at is None


@pytest.mark.django_db
def test_enqueued_it_waits_for_a_worker_and_resumed_it_ends(admin: User, wobble: str, start: Version):
    said = train("wobble", "--input", f"start={start}", "--set", "n_outputs=2", "--enqueue", "--name", "Later")
    run = Run.objects.get()
    assert said.strip() == f'Run {run.pk}, "Later", waits for a worker.'
    assert run.job.state == JobState.QUEUED
    assert "is over" in train("--resume", str(run.pk))
    assert run.outputs.count() == 2
    with pytest.raises(CommandError, match="has succeeded already"):
        train("--resume", str(run.pk))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["wibble"], r'There is no training method "wibble": choose from .*wobble'),
        ([], r"Say which method: .*wobble"),
        (["wobble", "--set", "steps"], '"steps" is no pair: write key=value'),
        (["wobble", "--set", "steps=many"], r"Steps: Input should be a valid integer.*'many'"),
        (["wobble", "--input", "start=nothing"], 'no version "nothing"'),
        (["wobble", "--data", "labels"], 'no labelled set "labels". There are: "scores", "scores@home"'),
        (["wobble", "--data", "scores@7"], 'labelled set "scores" has no edition 7. Editions: 2, 1'),
        (["wobble", "--data", "scores@1"], "learns without labels"),
        (["wobble", "--data", "scores@home"], 'set "scores@home" has no edition'),
        (["wobble", "--device", "cuda:77"], 'no device "cuda:77"'),
        (["--resume", "77"], "There is no run 77"),
    ],
)
def test_mistakes_are_named(admin: User, wobble: str, words: list[str], said: str):
    made = [
        LabelledSet.objects.create(name=name, task="quality", created_by=admin) for name in ("scores", "scores@home")
    ]
    for number in (1, 2):
        Edition.objects.create(labelled_set=made[0], number=number, sources=[], n_rows=3, created_by=admin)
    with pytest.raises(CommandError, match=said):
        train(*words)


LAUNCHED = """
import sys
import django
from django.conf import settings
django.setup()
settings.DATABASES["default"]["NAME"] = {name!r}
settings.JOBS_EVENTS = False
from django.core.management import call_command
from tests.training.throwing import THROWN, add_methods
add_methods(THROWN)
call_command("train", *sys.argv[1:], device="cpu", verbosity=0)
"""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_two_processes_make_one_run(admin: User, wobble: str, start: Version, settings: Any, tmp_path: Any):
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED.format(name=str(connection.settings_dict["NAME"])))
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "VAR_DIR": str(settings.VAR_DIR),
        "PYTHONPATH": str(BASE_DIR),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]

    words = ["wobble", "--input", f"start={start}", "--set", "n_outputs=2", "--set", "steps=9"]
    ended = subprocess.run([*command, *words], cwd=BASE_DIR, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count("is over after") == 1
    run = Run.objects.get()
    assert run.outputs.count() == 2
    assert json.loads((run.directory / "result.json").read_text())["begun"]["processes"] == 2
    assert [line["step"] for line in read_metrics(run.directory).lines] == [*range(9), 9, *range(9)]
