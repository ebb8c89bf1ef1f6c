"""The form of a run: made from the method's card and config, filled by presets, and refusing in words."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from models_zoo.models import Purpose, Version
from tests.training.page_builders import make_run
from training.engine.registry import Method, methods
from training.forms import RunForm
from training.models import Edition, Run, RunInput
from training.reading import config_lines
from training.reports import report_blocks

ADDRESS = "/training/methods/sketch/start/"


@pytest.fixture
def page(client: Client, admin: User) -> Client:
    client.force_login(admin)
    return client


def filled(of: Edition, /, **values: Any) -> dict[str, Any]:
    config = {"steps": 400, "rate": "0.0001", "widths": "16, 32", "loss": "fidelity", "flip": "on", "cap": ""}
    said: dict[str, Any] = {f"config_{name}": value for name, value in config.items()}
    return said | {"preset": "small", "edition": of.pk, "seed": 0, "device": "cpu", "name": ""} | values


def test_a_run_is_started_from_the_form(page: Client, edition: Edition, network: Version, sketch: Method) -> None:
    given = filled(edition, config_rate="0.002", config_cap="4", input_start=network.pk, seed=7, device="cuda:1")
    given |= {"precision": "bf16", "time_limit_seconds": "3600"}
    response = page.post(ADDRESS, given)
    run = Run.objects.get()
    assert response.url == run.get_absolute_url()
    assert run.config == {
        "steps": 400, "rate": 0.002, "widths": [16, 32], "loss": "fidelity", "flip": True, "cap": 4,
    }  # fmt: skip
    assert (run.preset, run.seed, run.device, run.edition) == ("small", 7, "cuda:1", edition)
    assert run.resources == {"precision": "bf16", "time_limit_seconds": 3600.0}
    assert run.inputs.get().version == network
    assert run.job.state == "queued"
    assert page.post(ADDRESS, given).url == run.get_absolute_url()  # a second click starts nothing
    assert Run.objects.count() == 1


def test_presets_fill_the_form_in(page: Client, edition: Edition, sketch: Method) -> None:
    def values(address: str) -> dict[str, Any]:
        form = page.get(address).context["form"]
        return {name: form[f"config_{name}"].value() for name in ("steps", "rate", "flip")}

    assert values(ADDRESS) == {"steps": 400, "rate": 1e-4, "flip": True}
    assert values(f"{ADDRESS}?preset=paper") == {"steps": 30_000, "rate": 1e-5, "flip": False}
    assert 'data-preset="64, 128, 256"' in page.get(f"{ADDRESS}?preset=paper").content.decode()
    assert page.get(f"{ADDRESS}?preset=none").status_code == 404
    page.post(ADDRESS, filled(edition, preset="paper", config_steps=10))
    assert (Run.objects.get().preset, Run.objects.get().config["steps"]) == ("paper", 10)


def test_a_form_like_an_earlier_run(
    page: Client, admin: User, edition: Edition, network: Version, sketch: Method
) -> None:
    run = make_run(admin, edition, config={"rate": 0.3, "widths": (8,)}, seed=11, device="cpu")
    RunInput.objects.create(run=run, role="start", version=network)
    form = page.get(f"{ADDRESS}?like={run.pk}").context["form"]
    wanted = {
        "config_rate": 0.3, "config_widths": "8", "input_start": network.pk, "edition": edition.pk, "seed": 11,
        "device": "cpu",
    }  # fmt: skip
    assert {name: form[name].value() for name in wanted} == wanted
    assert page.get(f"{ADDRESS}?like=999").status_code == 404


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"config_rate": "1"}, "config_rate", "Learning rate is 1: it must be more than 0 and less than 1."),
        ({"config_steps": "0"}, "config_steps", "at least 1 and at most 100000"),
        ({"config_widths": "a, b"}, "config_widths", '"a" is no number'),
        ({"edition": ""}, "edition", "This field is required."),
        ({"device": "gpu"}, "device", "choose auto, cpu, cuda"),
        ({"seed": "-1"}, "seed", "greater than or equal to 0"),
        ({"input_start": "999"}, "input_start", "Select a valid choice"),
    ],
)
def test_mistakes_are_said_at_the_field(
    page: Client, edition: Edition, sketch: Method, values: dict[str, Any], field: str, words: str
) -> None:
    form = page.post(ADDRESS, filled(edition, **values)).context["form"]
    assert list(form.errors) == [field]
    assert words in form.errors[field][0]
    assert not Run.objects.exists()


def test_only_versions_and_labels_that_fit_are_offered(
    page: Client, admin: User, edition: Edition, network: Version, sketch: Method
) -> None:
    variant = Version.objects.create(
        model=network.model, label="pruned", kind="torch", state="verified", purpose=Purpose.VARIANT, created_by=admin
    )
    Version.objects.create(model=network.model, label="unchecked", kind="torch", created_by=admin)
    Version.objects.create(model=network.model, label="file", kind="onnx", state="verified", created_by=admin)
    form = page.get(ADDRESS).context["form"]
    assert list(form.fields["input_start"].queryset) == [network]
    assert list(form.fields["input_variant"].queryset) == [network, variant]
    assert list(form.fields["edition"].queryset) == [edition]


@pytest.mark.django_db
def test_every_method_of_the_product_has_a_form_and_a_page(admin: User) -> None:
    for method in methods().values():
        assert config_lines(method)
        for preset in method.card.presets:
            form = RunForm(method=method, user=admin, preset=preset)
            assert form.as_p()
            typed = {
                name: ("on" if value else "") if isinstance(value, bool) else form[name].field.prepare_value(value)
                for name, value in ((name, form[name].initial) for name in form.fields)
                if value is not None and value is not False
            }
            checked = RunForm({**typed, "seed": 0}, method=method, user=admin, preset=preset)
            checked.is_valid()
            assert not [name for name in checked.errors if name.startswith("config_")], checked.errors
            assert method.configure(preset, **checked.config_values()) == method.configure(preset)


def test_reports_of_any_shape_are_readable() -> None:
    blocks = report_blocks(
        {
            "best_step": 1200, "stopped_early": False, "note": None,
            "srcc": {"value": 0.5, "low": 0.25, "high": 0.75},
            "before": {"target": {"val": {"srcc": 0.5, "n": 3}}, "variant 1": {"val": {"srcc": 0.25, "n": 3}}},
            "rows": [{"name": "a", "loss": 0.5}, {"name": "b", "loss": 0.25}],
        }
    )  # fmt: skip
    assert [(block.kind, block.title) for block in blocks] == [("facts", ""), ("table", "Before"), ("table", "Rows")]
    facts, before, rows = blocks
    assert [(name, cell.text) for name, cell in facts.rows] == [
        ("Best step", "1,200"), ("Stopped early", "no"), ("Note", "—"), ("SRCC", "0.5000"),
    ]  # fmt: skip
    assert facts.rows[-1][1].interval == "0.2500 to 0.7500"
    assert before.columns == [("SRCC", True), ("N", True)]
    assert [(names, [cell.text for cell in cells]) for names, cells in before.rows] == [
        (["target"], ["0.5000", "3"]), (["variant 1"], ["0.2500", "3"]),
    ]  # fmt: skip
    assert [(names, [cell.text for cell in cells]) for names, cells in rows.rows] == [
        (["a"], ["0.5000"]), (["b"], ["0.2500"]),
    ]  # fmt: skip


def test_the_report_of_a_fine_tuning_is_one_table_of_measures() -> None:
    def measured(value: float) -> dict[str, Any]:
        return {
            "srcc": {"value": value, "low": value - 0.1, "high": value + 0.1},
            "n": 40,
            "notes": ["one scale was too small"],
        }

    networks = [
        {"name": f"net v{at}", "role": role, "cells": {"test base": {"before": measured(0.5), "after": measured(0.75)}}}
        for at, role in enumerate(("target", "variant"))
    ]
    networks[0]["cells"]["test base"]["n"] = 40  # said by the rows below as well
    blocks = report_blocks({"networks": networks, "digest": "ab" * 32})
    assert [(block.kind, block.title, block.is_folded) for block in blocks] == [
        ("facts", "", False),
        ("facts", "Networks: net v0", False), ("table", "", False),
        ("facts", "Networks: net v1", False), ("table", "In detail", True),
    ]  # fmt: skip
    assert (blocks[0].rows[0][1].text, blocks[0].rows[0][1].full) == ("abababababab…", "ab" * 32)
    table = blocks[2]
    assert [names for names, _ in table.rows] == [["before"], ["after"]]
    assert table.columns == [("SRCC", True), ("N", True)]
    assert table.notes == ["one scale was too small"]
    assert table.rows[1][1][0].interval == "0.6500 to 0.8500"


def listed() -> list[Any]:
    return [
        pytest.param(each, preset, id=f"{name}, {preset or 'default'}")
        for name, each in methods().items()
        for preset in each.card.presets or [""]
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "preset"), listed())
def test_every_form_gives_back_the_preset_that_filled_it_in(method: Method, preset: str, admin: User) -> None:
    """As a browser sends it: lists with commas, numbers in full, nothing for what is empty."""
    empty = RunForm(method=method, user=admin, preset=preset)
    sent = {f"config_{name}": empty[f"config_{name}"].value() for name in method.config.model_fields}
    fields = {name: empty.fields[name].prepare_value(value) for name, value in sent.items()}
    typed = {name: "" if value is None else str(value) for name, value in fields.items() if value is not False}
    form = RunForm(typed | {"seed": "0", "device": "auto"}, method=method, user=admin, preset=preset)
    form.is_valid()
    assert not {name: errors for name, errors in form.errors.items() if name.startswith("config_")}
    assert method.configure(preset, **form.config_values()) == method.configure(preset)


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_has_its_pages(page: Client, name: str) -> None:
    assert page.get(f"/training/methods/{name}/").status_code == 200
    if methods()[name].card.is_listed:
        assert page.get(f"/training/methods/{name}/start/").status_code == 200
