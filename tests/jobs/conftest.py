"""Handlers that tests enqueue."""

from typing import Any

import pytest

from jobs import registry
from jobs.context import JobContext
from jobs.registry import job_handler


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))


@pytest.fixture
def counting() -> list[int]:
    """A handler "test.count" that counts to ``payload["to"]``, keeps checkpoints, and says at which numbers it was."""
    seen: list[int] = []

    @job_handler("test.count")
    def count(context: JobContext) -> dict[str, Any]:
        start = context.checkpoint.get("next", 0)
        with context.progress(range(start, context.payload["to"]), total=context.payload["to"], done=start) as bar:
            for number in bar:
                seen.append(number)
                context.save_checkpoint({"next": number + 1})
        return {"counted": len(seen)}

    return seen
