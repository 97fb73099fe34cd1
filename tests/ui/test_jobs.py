"""Work in threads: watched, stopped, left, and counted."""

import threading

import pytest

from memcram.ui import jobs
from memcram.ui.jobs import Cancelled, Job, Jobs


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(jobs, "INTERVAL", 0.01)


def until_stopped(job):
    """Work that reports until it is told to end."""
    count = 0
    while not job.is_stopped():
        count += 1
        job.report(count)
    job.check()
    return count


def started(work):
    job = Job(work)
    job.start()
    return job


def test_states_and_result():
    job = started(until_stopped)
    watched = job.watch()
    first, second = next(watched), next(watched)
    assert second > first
    job.stop()
    assert list(watched)[-1:] <= [job.result()]


def test_error_of_the_work_is_raised():
    job = started(lambda job: 1 / 0)
    assert list(job.watch()) == []
    with pytest.raises(ZeroDivisionError):
        job.result()


def test_page_that_leaves_cancels_its_work():
    job = started(until_stopped)
    watched = job.watch()
    next(watched)
    watched.close()
    with pytest.raises(Cancelled):
        job.result()


def test_work_that_nobody_watches_ends(monkeypatch):
    monkeypatch.setattr(jobs, "_ABANDONED", 0.02)
    with pytest.raises(Cancelled):
        started(until_stopped).result()


def test_a_page_has_one_job():
    every = Jobs()
    first, second, other = Job(until_stopped), Job(until_stopped), Job(until_stopped)
    every.begin("a", first)
    every.begin("b", other)
    every.begin("a", second)
    with pytest.raises(Cancelled):
        first.result()
    every.stop("a")
    assert second.result() > 0
    assert not other.is_stopped()
    every.stop("nobody")
    every.cancel_all()
    with pytest.raises(Cancelled):
        other.result()
    assert every.running() == 0


def test_running_jobs_are_counted():
    every, go = Jobs(), threading.Event()
    job = Job(lambda job: go.wait())
    every.begin("a", job)
    every.cancel("a")  # its thread is still at work
    assert every.running() == 1
    go.set()
    job.result()
    assert every.running() == 0
