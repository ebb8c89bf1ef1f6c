"""WSGI entry point: pages and API."""

import os

from config.guard import die_with_parent

die_with_parent()  # first of all: loading Django takes a while

from django.core.wsgi import get_wsgi_application  # noqa: E402

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
