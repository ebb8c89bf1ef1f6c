"""Celery's entry point. The message carries the job's id and nothing else."""

from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down

from jobs.worker import job_run, worker_stop


@shared_task(name="jobs.run", ignore_result=True)
def run_job(job_id: str) -> None:
    job_run(job_id)


@worker_shutting_down.connect
def give_jobs_back(**_: Any) -> None:
    worker_stop()
