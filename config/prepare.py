"""Everything a start needs before the servers run, in one process: ``python -m config.prepare [--admin] [--demo]``."""

import argparse
import os
import sys

import django
from django.core.management import CommandError, call_command

from config.env import environment


def prepare(*, admin: bool, demo: bool, fresh_broker: bool) -> None:
    """Migrate, then on request make the first admin account and enqueue the demos, each once.

    Args:
        fresh_broker: the broker has just been started empty, so no queued job has a message.
    """
    from jobs.models import Job, JobState

    call_command("migrate", interactive=False, verbosity=0)
    if fresh_broker:
        Job.objects.filter(state=JobState.QUEUED).update(message_sent_at=None)
    if admin:
        call_command("admin_ensure")
    marker = environment().VAR_DIR / "demo_seeded"
    if demo and not marker.exists():
        for name in ("digits", "photographs"):
            call_command("demo", name, "--enqueue")
        marker.touch()


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--admin", "--demo", "--fresh-broker"):
        parser.add_argument(name, action="store_true")
    options = parser.parse_args()
    django.setup()
    try:
        prepare(admin=options.admin, demo=options.demo, fresh_broker=options.fresh_broker)
    except CommandError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
