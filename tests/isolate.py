"""Loaded before settings are read (``-p tests.isolate``): tests get a ``VAR_DIR`` of their own, so that they never touch
the developer's ``var/`` and two runs never share a database."""

import atexit
import os
import shutil
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:
    _var = tempfile.mkdtemp(prefix="falsify-test-")
    _owner = os.getpid()
    os.environ["VAR_DIR"] = _var
    atexit.register(lambda: os.getpid() == _owner and shutil.rmtree(_var, ignore_errors=True))
for _name in ("PORT", "HOST", "EVENTS_PORT", "EVENTS_URL", "REDIS_URL", "STORAGE_URL", "SECURE", "DEBUG"):
    os.environ.pop(_name, None)  # a developer's shell does not change what tests see
os.environ.setdefault("OMP_NUM_THREADS", "1")
