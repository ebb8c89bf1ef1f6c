"""Settings of the tests: the product's own, on a folder that is made for this run and removed after it.

Read by pytest-django before any conftest, so what the environment must hold is set here.
"""

import atexit
import os
import shutil
import tempfile

_FOLDER = "FALSIFY_TEST_FOLDER"
_owner = os.getpid()


def _remove(folder: str) -> None:
    if os.getpid() == _owner:
        shutil.rmtree(folder, ignore_errors=True)


if _FOLDER not in os.environ:  # workers of pytest-xdist inherit the folder of the process that starts them
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="falsify-test-")
    atexit.register(_remove, os.environ[_FOLDER])
os.environ["VAR_DIR"] = os.environ[_FOLDER]
for _name in ("PORT", "HOST", "EVENTS_PORT", "EVENTS_URL", "REDIS_URL", "STORAGE_URL", "SECURE", "DEBUG"):
    os.environ.pop(_name, None)  # a developer's shell does not change what tests see
os.environ.setdefault("OMP_NUM_THREADS", "1")

from config.settings import *  # noqa: E402, F403

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
JOBS_SEND_MESSAGES = JOBS_EVENTS = False  # tests run jobs inline, without a broker
