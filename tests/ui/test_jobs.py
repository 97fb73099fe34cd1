"""Work in threads: watched, stopped, left, and counted."""

import threading

import pytest

from memcram.ui import jobs
from memcram.ui.jobs import Cancelled, Job, Jobs, Panel

A, B = Panel("a", "cram"), Panel("b", "cram")


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


def test_watching_does_not_wait_for_cancelled_work():
    go = threading.Event()
    job = started(lambda job: go.wait())
    job.cancel()
    assert list(job.watch()) == []
    assert job.is_running()
    go.set()
    job.result()


def test_a_panel_has_one_job():
    every = Jobs()
    first, second, beneath, other = (Job(until_stopped) for _ in range(4))
    every.begin(A, first)
    every.begin(Panel("a", "open"), beneath)
    every.begin(B, other)
    every.begin(A, second)
    with pytest.raises(Cancelled):
        first.result()
    assert not every.end(A, first)
    every.stop(A)
    assert second.result() > 0
    assert every.end(A, second)
    assert not beneath.is_stopped()
    every.cancel("a")
    with pytest.raises(Cancelled):
        beneath.result()
    assert not other.is_stopped()
    every.stop(Panel("nobody", "cram"))
    every.cancel_all()
    with pytest.raises(Cancelled):
        other.result()
    assert every.running() == 0


def test_running_jobs_are_counted():
    every, go = Jobs(), threading.Event()
    job = Job(lambda job: go.wait())
    every.begin(A, job)
    every.cancel("a")  # its thread is still at work
    assert every.running() == 1
    go.set()
    job.result()
    assert every.running() == 0
