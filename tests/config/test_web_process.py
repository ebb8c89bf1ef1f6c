"""What a web process loads."""

import os
import subprocess
import sys

from config.env import BASE_DIR

HEAVY = ("torch", "torchvision", "timm", "onnxruntime", "onnx", "numba", "sklearn")
CODE = f"""
import sys
import config.wsgi
from django.urls import get_resolver
get_resolver().url_patterns
from django.test import Client
Client().get("/healthz")
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_web_process_never_loads_the_heavy_libraries() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE], cwd=BASE_DIR, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip().splitlines()[-1:] == ["[]"], ended.stdout + ended.stderr


def test_events_process_loads_neither_django_models_nor_the_heavy_libraries() -> None:
    code = f"import sys, config.asgi; print([n for n in (*{HEAVY!r}, 'django.db.models') if n in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=BASE_DIR, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "[]", ended.stdout + ended.stderr
