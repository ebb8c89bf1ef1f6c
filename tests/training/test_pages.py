"""The pages of training: what they show, to whom it is offered, and at how many queries."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from corpora.models import Corpus
from jobs.models import Job, JobState
from models_zoo.models import Version
from tests.training.builders import blur_corpus
from tests.training.page_builders import make_run, write_metrics
from training.engine.registry import Method
from training.labelled import labelled_set_create
from training.models import Edition, LabelledSet, Run, RunInput


@pytest.fixture
def page(client: Client, admin: User) -> Client:
    client.force_login(admin)
    return client


def text(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, address
    return response.content.decode()


def queries(client: Client, address: str) -> int:
    client.get(address)  # warms what is cached for every page
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200, address
    return len(captured)


def test_queries_do_not_grow_with_what_is_shown(page: Client, admin: User, finished: Run, edition: Edition) -> None:
    addresses = [
        "/", "/training/", "/training/methods/sketch/", "/training/methods/sketch/start/", "/training/runs/",
        finished.get_absolute_url(), f"{finished.get_absolute_url()}metrics/", "/training/sets/", "/training/sets/new/",
        edition.labelled_set.get_absolute_url(), f"{edition.labelled_set.get_absolute_url()}editions/new/",
        f"/models/versions/{finished.outputs.get().version_id}/",
    ]  # fmt: skip
    before = {address: queries(page, address) for address in addresses}
    for number in range(5):
        run = make_run(admin, edition, name=f"run {number}", state=JobState.SUCCEEDED)
        RunInput.objects.create(run=run, role="start", version=finished.outputs.get().version)
        labelled_set_create(name=f"set {number}", task="quality", by=admin)
        Edition.objects.create(
            labelled_set=edition.labelled_set, number=number + 2, sources=edition.sources, file=edition.file,
            digest=edition.digest, n_rows=edition.n_rows, counts=edition.counts, created_by=admin,
        )  # fmt: skip
    after = {address: queries(page, address) for address in addresses}
    assert after == before
    assert max(before.values()) <= 24, before


def test_a_method_page_says_what_its_config_says(page: Client, sketch: Method) -> None:
    listed = text(page, "/training/")
    assert "Sketch of a network" in listed
    assert "/training/methods/sketch/start/" in listed
    said = text(page, "/training/methods/sketch/")
    for words in (
        "arXiv:0000.00000", "The warm-up is linear.", "at least 1 and at most 100000", "64, 128, 256",
        "Of Adam, before the warm-up", "several versions of a quality model, optional", "with opinion scores",
    ):  # fmt: skip
        assert words in said
    assert page.get("/training/methods/nothing/").status_code == 404


def test_the_list_of_runs_filters(page: Client, admin: User, finished: Run) -> None:
    running = make_run(admin, name="still running")
    assert [run.pk for run in page.get("/training/runs/").context["page"]] == [running.pk, finished.pk]
    assert [run.pk for run in page.get("/training/runs/?state=live").context["page"]] == [running.pk]
    assert [run.pk for run in page.get("/training/runs/?state=succeeded").context["page"]] == [finished.pk]
    assert [run.pk for run in page.get("/training/runs/?q=still&method=sketch").context["page"]] == [running.pk]
    assert "No run fits" in text(page, "/training/runs/?q=nothing")


def test_a_run_shows_what_it_made_and_how(page: Client, finished: Run, edition: Edition, network: Version) -> None:
    said = text(page, finished.get_absolute_url())
    for words in (
        "0.8530", "0.8230 to 0.8830", "8.1 to 9.1", "Succeeded", "3 min", str(edition), str(network), "Sparsity",
        "worst of the batch",
    ):  # fmt: skip
        assert words in said
    rate = next(line for line in page.get(finished.get_absolute_url()).context["config"] if line["name"] == "rate")
    assert (rate["value"], rate["preset"], rate["differs"]) == ("0.002", "0.0001", True)
    about = text(page, network.get_absolute_url())
    assert finished.get_absolute_url() in about
    assert "came out, as target" in about
    assert "went in, as start" in about


def test_metrics_are_read_on_from_where_a_reader_stopped(page: Client, admin: User, sketch: Method) -> None:
    run = make_run(admin)
    address = f"{run.get_absolute_url()}metrics/"
    assert page.get(address).json() == {"position": 0, "restarted": False, "series": []}
    write_metrics(run.directory, 40)
    first = page.get(address).json()
    assert {(each["stage"], each["name"]): each["n_points"] for each in first["series"]} == {
        ("head", "loss"): 40, ("head", "lr"): 40, ("head", "val_loss"): 2, ("head", "val_srcc"): 2,
    }  # fmt: skip
    write_metrics(run.directory, 20, first=40)
    more = page.get(address, {"after": first["position"]}).json()
    assert [point[0] for point in more["series"][0]["points"]] == list(range(41, 61))
    stream = run.directory / "metrics.jsonl"
    stream.write_bytes(b"".join(stream.read_bytes().splitlines(keepends=True)[:30]))
    again = page.get(address, {"after": more["position"]}).json()
    assert (again["restarted"], again["series"][0]["n_points"]) == (True, 30)
    lines = b"".join(page.get(f"{run.get_absolute_url()}metrics.jsonl").streaming_content).splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 31))


def test_long_streams_are_thinned_and_keep_their_spikes(page: Client, admin: User, sketch: Method) -> None:
    run = make_run(admin)
    write_metrics(run.directory, 12_000)
    (loss, *_) = page.get(f"{run.get_absolute_url()}metrics/").json()["series"]
    assert (loss["name"], loss["n_points"]) == ("loss", 12_000)
    assert len(loss["points"]) <= 1_500
    steps = [step for step, _ in loss["points"]]
    assert (steps[0], steps[-1], steps == sorted(steps)) == (1, 12_000, True)
    assert max(loss["points"], key=lambda point: point[1])[0] == 57


def test_samples_are_served_and_nothing_else_is(page: Client, finished: Run) -> None:
    folder = f"{finished.get_absolute_url()}samples/"
    groups = page.get(finished.get_absolute_url()).context["samples"]
    assert [group["step"] for group in groups] == [200, 100]
    picture = page.get(folder + groups[0]["entries"][0]["files"][0])
    assert (picture.status_code, picture["Content-Type"]) == (200, "image/png")
    assert b"".join(picture.streaming_content)[:4] == b"\x89PNG"
    for name in ("nothing.png", "..%2Fmetrics.jsonl", "%2E%2E%2F%2E%2E%2Fdb.png"):
        assert page.get(folder + name).status_code == 404, name


def test_a_failed_run_says_why_and_can_go_on(page: Client, admin: User, sketch: Method) -> None:
    run = make_run(admin, state=JobState.FAILED)
    Job.objects.filter(pk=run.job_id).update(error="loss is NaN at step 12: lower the learning rate.")
    said = text(page, run.get_absolute_url())
    assert "lower the learning rate" in said
    assert "Go on" in said
    assert page.post(f"{run.get_absolute_url()}retry/").status_code == 302
    before = run.job_id
    run.refresh_from_db()
    assert (run.job_id != before, run.job.state) == (True, JobState.QUEUED)
    page.post(f"{run.get_absolute_url()}cancel/")
    run.job.refresh_from_db()
    assert run.job.state == JobState.CANCELLED


def test_a_labelled_set_from_nothing_to_files(page: Client, blurred: Corpus) -> None:
    made = page.post("/training/sets/new/", {"name": "mine", "task": "quality"})
    mine = LabelledSet.objects.get(name="mine")
    assert made.url == f"/training/sets/{mine.pk}/editions/new/"
    assert "No edition yet" in text(page, mine.get_absolute_url())
    form: dict[str, Any] = {
        "corpora": [blurred.pk], "origin": "base", "split": "by_group", "fractions": "0.5, 0.25, 0.25", "seed": "2",
    }  # fmt: skip
    refused = page.post(made.url, form | {"corpora": []})
    assert "needs a source" in refused.content.decode()
    wrong = page.post(made.url, form | {"fractions": "0.5, 0.25"})
    assert "three shares that add up to 1" in wrong.content.decode()
    assert page.post(made.url, form).url == mine.get_absolute_url()
    said = page.get(mine.get_absolute_url())
    summary = said.context["summary"]
    assert "Nothing leaks: each of its 12 contents" in said.content.decode()
    assert sum(split["groups"] for split in summary["splits"]) == 12
    edition = mine.editions.get()
    assert sum(sum(counts) for counts in summary["histogram"].values()) == edition.n_rows
    whole = pq.read_table(edition.path)
    parquet = b"".join(page.get(f"/training/editions/{edition.pk}/labels.parquet").streaming_content)
    assert pq.read_table(io.BytesIO(parquet)).equals(whole)
    lines = b"".join(page.get(f"/training/editions/{edition.pk}/labels.csv").streaming_content).decode()
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert [row["path"] for row in rows] == whole["path"].to_pylist()
    assert [float(row["mos"]) for row in rows] == whole["mos"].to_pylist()
    assert page.get(f"/training/editions/{edition.pk}/labels.xml").status_code == 400


def test_the_next_edition_keeps_sources_and_splits(page: Client, admin: User, edition: Edition, tmp_path: Path) -> None:
    more = blur_corpus(admin, tmp_path, name="more", contents=range(20, 26))
    address = f"{edition.labelled_set.get_absolute_url()}editions/new/"
    form = page.get(address).context["form"]
    assert form.initial["kept"] == [0]
    assert "blurred" in dict(form.fields["kept"].choices)[0]
    page.post(
        address,
        {
            "kept": ["0"],
            "corpora": [more.pk],
            "origin": "found",
            "split": "train",
            "fractions": "0.6,0.2,0.2",
            "seed": 0,
        },
    )
    newest = edition.labelled_set.editions.first()
    assert newest.number == 2
    assert newest.sources[0] == edition.sources[0]
    assert newest.sources[1] == {"kind": "corpus", "corpus": more.pk, "origin": "found", "split": "train"}
    assert newest.counts["cells"]["found"] == {"train": 24, "val": 0, "test": 0}
    assert newest.counts["cells"]["base"] == edition.counts["cells"]["base"]
    said = text(page, edition.labelled_set.get_absolute_url())
    assert "whose splits it keeps" in said
    assert "edition 1" in text(page, f"{edition.labelled_set.get_absolute_url()}?edition=1")
    assert page.get(f"{edition.labelled_set.get_absolute_url()}?edition=9").status_code == 404


def test_an_edition_whose_file_is_gone_says_so(page: Client, edition: Edition) -> None:
    edition.path.unlink()
    assert "cannot be read" in text(page, edition.labelled_set.get_absolute_url())
    gone = page.get(f"/training/editions/{edition.pk}/labels.csv")
    assert (gone.status_code, "make the edition again" in gone.content.decode()) == (400, True)


def test_empty_pages_say_what_to_do(page: Client) -> None:
    assert "Make the first one" in text(page, "/training/sets/")
    assert "Choose a method" in text(page, "/training/runs/")
