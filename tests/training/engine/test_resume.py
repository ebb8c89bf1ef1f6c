"""Interrupted and gone on with, a run gives what an undisturbed one gives, bit for bit (on a CPU)."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from config.env import BASE_DIR
from training.engine.checkpoints import CheckpointStore, unpacked
from training.engine.context import Progress
from training.engine.devices import Resources
from training.engine.local import RunResult, run_method
from training.engine.metrics import read_metrics
from training.engine.samples import read_samples

CONFIG = {"steps": 5}
N_LOOKS = 12  # how often a run of two stages of five steps looks whether to stop
OFTEN, SELDOM = Resources(device="cpu", checkpoint_seconds=0), Resources(device="cpu", checkpoint_seconds=1e6)


class Stopped(BaseException):
    """Somebody stops the run."""


def stopping_at(look: int) -> Callable[[Progress], None]:
    """Stops the run the ``look``-th time that it says where it is."""
    seen: list[Progress] = []

    def progress(where: Progress) -> None:
        seen.append(where)
        if len(seen) == look:
            raise Stopped

    return progress


@pytest.fixture(autouse=True)
def checkpoints_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that optimisers and generators can be compared after the end."""
    monkeypatch.setattr(CheckpointStore, "clear", lambda self: None)


@pytest.fixture
def run(wobble: str, tmp_path: Path) -> Callable[..., RunResult]:
    def run(folder: str, resources: Resources = SELDOM, **values: Any) -> RunResult:
        config = {**CONFIG, **values.pop("config", {})}
        return run_method(wobble, config=config, directory=tmp_path / folder, seed=7, resources=resources, **values)

    return run


@pytest.fixture
def failures(wobble: str) -> Iterator[list[int]]:
    """Steps of the second stage at which the recipe fails in mid step."""
    from training.methods.wobble import recipe  # the package exists while the test runs

    yield recipe.FAILURES
    recipe.FAILURES.clear()


def everything(result: RunResult) -> dict[str, Any]:
    """What a run left behind, without its times."""
    folder = result.directory
    untimed = lambda lines: [{key: value for key, value in line.items() if key != "t"} for line in lines]  # noqa: E731
    finals = sorted((folder / "checkpoints").glob("*-final-*.pt"))
    contents = [unpacked(torch.load(file, weights_only=True)) for file in finals]
    return {
        "metrics": untimed(read_metrics(folder).lines),
        "samples": untimed(read_samples(folder).lines),
        "pictures": {file.name: digest(file) for file in (folder / "samples").iterdir()},
        "outputs": [output.to_dict() for output in result.outputs],
        "files": {file.name: digest(file) for file in (folder / "outputs").iterdir()},
        "report": result.report,
        "states": [frozen(content["state"]) for content in contents],
        "generators": [frozen(content["rng"]) for content in contents],
    }


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def frozen(value: Any) -> Any:
    """Comparable with ==, tensors and arrays by their bytes."""
    if isinstance(value, dict):
        return {key: frozen(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [frozen(entry) for entry in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    return (str(value.dtype), value.shape, value.tobytes()) if hasattr(value, "tobytes") else value


@pytest.mark.parametrize("resources", [SELDOM, OFTEN], ids=["checkpoint when stopped", "checkpoint at every step"])
def test_stopped_at_any_step_and_resumed_equals_undisturbed(run: Callable[..., RunResult], resources: Resources):
    whole = everything(run("whole"))
    assert len(whole["metrics"]) == 11
    for look in range(1, N_LOOKS + 1):
        try:
            run(f"stopped {look}", resources, progress=stopping_at(look))
        except Stopped:
            pass
        else:
            pytest.fail(f"look {look} came after the end")
        assert everything(run(f"stopped {look}", resources)) == whole, f"stopped at look {look}"


def test_stopped_again_and_again_equals_undisturbed(run: Callable[..., RunResult]):
    whole = everything(run("whole"))
    for _ in range(2 * N_LOOKS):
        try:
            result = run("pieces", progress=stopping_at(3))
            break
        except Stopped:
            continue
    assert everything(result) == whole


@pytest.mark.parametrize("resources", [SELDOM, OFTEN], ids=["from the stage before", "from the step before"])
def test_a_failure_in_mid_step_loses_nothing_but_time(
    run: Callable[..., RunResult], failures: list[int], resources: Resources, tmp_path: Path
):
    whole = everything(run("whole"))
    failures.append(3)
    with pytest.raises(RuntimeError, match="failed at step 3"):
        run("failed", resources)
    assert len(read_metrics(tmp_path / "failed").lines) == 5 + 1 + 4
    failures.clear()
    assert everything(run("failed", resources)) == whole


def test_a_stage_that_ended_early_is_not_begun_again(run: Callable[..., RunResult]):
    whole = everything(run("whole", config={"stop_at": 2}))
    assert [line["step"] for line in whole["metrics"]] == [0, 1, 2, 5, 0, 1, 2, 3, 4]
    with pytest.raises(Stopped):
        run("stopped", config={"stop_at": 2}, progress=stopping_at(7))
    assert everything(run("stopped", config={"stop_at": 2})) == whole


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(run: Callable[..., RunResult], tmp_path: Path):
    whole = everything(run("whole"))
    for name, damage in {"short": lambda content: content[:-100], "empty": lambda _: b"", "flipped": flipped}.items():
        with pytest.raises(Stopped):
            run(name, OFTEN, progress=stopping_at(11))
        newest = max((tmp_path / name / "checkpoints").glob("*.pt"))
        assert "-step-slim-" in newest.name
        newest.write_bytes(damage(newest.read_bytes()))
        assert everything(run(name)) == whole, name


def test_a_damaged_end_of_the_first_stage_begins_it_again(run: Callable[..., RunResult], tmp_path: Path):
    whole = everything(run("whole"))
    with pytest.raises(Stopped):
        run("damaged", OFTEN, progress=stopping_at(11))
    (end,) = (tmp_path / "damaged" / "checkpoints").glob("*-final-wide-*.pt")
    end.write_bytes(flipped(end.read_bytes()))
    assert everything(run("damaged")) == whole


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_only_the_last_two_checkpoints_and_the_ends_of_stages_are_kept(run: Callable[..., RunResult], tmp_path: Path):
    with pytest.raises(Stopped):
        run("some", OFTEN, progress=stopping_at(11))
    names = sorted(file.name[:17] for file in (tmp_path / "some" / "checkpoints").iterdir())
    assert names == ["000005-final-wide", "000008-step-slim-", "000009-step-slim-"]


KILLED = """
import sys
from pathlib import Path
from tests.training.throwing import THROWN, add_methods
from training.engine.devices import Resources
from training.engine.local import run_method
add_methods(THROWN)
config, often = {"steps": 60, "pause": 0.01}, Resources("cpu", checkpoint_seconds=0.1)
run_method("wobble", config=config, directory=Path(sys.argv[1]), seed=7, resources=often)
"""


@pytest.mark.slow
def test_killed_in_mid_training_and_resumed_equals_undisturbed(run: Callable[..., RunResult], tmp_path: Path):
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], cwd=BASE_DIR, env=os.environ)
    deadline = time.monotonic() + 200
    while len(read_metrics(folder).lines) < 75 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "result.json").exists()
    assert list((folder / "checkpoints").glob("*-step-slim-*.pt"))
    config = {"steps": 60, "pause": 0.01}
    resumed = everything(run("killed", config=config))
    whole = everything(run("whole", config=config))
    assert resumed == whole


def test_a_finished_run_is_not_done_again(run: Callable[..., RunResult], tmp_path: Path):
    first = run("once")
    before = json.loads((tmp_path / "once" / "result.json").read_text())
    second = run("once", progress=stopping_at(1))
    assert (second.report, second.outputs) == (first.report, first.outputs)
    assert json.loads((tmp_path / "once" / "result.json").read_text()) == before


TOGETHER = """
import sys
from pathlib import Path
from tests.training.throwing import THROWN, add_methods
from training.engine.devices import Resources
from training.engine.guards import LimitReached
from training.engine.local import run_method
add_methods(THROWN)
def run(name, limit=None):
    resources = Resources("cpu", time_limit_seconds=limit)
    config = {"steps": 9, "pause": 0.05}
    return run_method("wobble", config=config, directory=Path(sys.argv[1]) / name, resources=resources)
whole = run("whole")
try:
    run("stopped", 0.3)
    sys.exit("the limit was not reached")
except LimitReached as error:
    print(error)
resumed = run("stopped")
if resumed.outputs != whole.outputs or not whole.outputs[0].sha256:
    sys.exit(f"{resumed.outputs} is not {whole.outputs}")
"""


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_exactly(tmp_path: Path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = os.environ | {"PYTHONPATH": str(BASE_DIR)}
    ended = subprocess.run([*command, str(tmp_path)], cwd=BASE_DIR, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "time limit of 0.3 s at step" in ended.stdout
    assert json.loads((tmp_path / "whole" / "result.json").read_text())["begun"]["processes"] == 2
    whole, stopped = (
        [{**line, "t": 0} for line in read_metrics(tmp_path / name).lines] for name in ("whole", "stopped")
    )
    assert stopped == whole
