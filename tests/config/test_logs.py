"""What is logged, and what is not."""

import json
import logging

import pytest
import structlog
from django.http import HttpResponse
from django.test import RequestFactory

from config.logs import QUIET, RequestLog, logging_settings, structlog_configure


@pytest.fixture(autouse=True)
def _configuration_put_back():
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize(
    ("path", "is_quiet"),
    [
        ("/label/3/answer/", True),
        ("/label/3/next/", True),
        ("/label/slots/17/0/picture", True),
        ("/healthz", True),
        ("/label/3/", False),
        ("/competitions/3/", False),
    ],
)
def test_only_what_annotators_pages_ask_in_the_background_is_quiet(path, is_quiet):
    assert bool(QUIET.search(path)) is is_quiet


@pytest.mark.django_db
@pytest.mark.parametrize(("level", "lines"), [("INFO", 0), ("DEBUG", 1)])
def test_an_answer_leaves_a_line_at_debug_alone(settings, level, lines):
    settings.LOG_LEVEL = level
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with structlog.testing.capture_logs() as logged:
        RequestLog(lambda request: HttpResponse("x"))(RequestFactory().post("/label/3/answer/"))
    assert len([line for line in logged if line["event"] == "request_finished"]) == lines


def test_json_lines_hold_event_level_and_time(capsys):
    structlog_configure("INFO", "json")
    structlog.get_logger("x").info("version_added", version=3)
    structlog.get_logger("x").debug("unheard")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["version"], entry["level"]) == ("version_added", 3, "info")
    assert entry["timestamp"].startswith("20")


def test_libraries_lines_look_alike():
    formatter = logging_settings("INFO", "json")["formatters"]["line"]
    built = formatter.pop("()")(**formatter)
    record = logging.LogRecord("celery", logging.INFO, __file__, 1, "ready in %d s", (3,), None)
    entry = json.loads(built.format(record))
    assert (entry["event"], entry["logger"], entry["level"]) == ("ready in 3 s", "celery", "info")


@pytest.mark.parametrize("form", ["plain", "json"])
def test_tracebacks_show_no_local_variables(form, capsys):
    structlog_configure("INFO", form)
    password = "".join(["hun", "ter2"])
    try:
        raise RuntimeError("it broke" if password else "")
    except RuntimeError:
        structlog.get_logger("x").exception("step_failed")
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "it broke" in said
    assert password not in said
