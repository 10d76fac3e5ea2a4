"""One bounded queue: order, progress, cancellation, errors."""

from __future__ import annotations

import threading
import time

import pytest

from pmg.domain import PmgError
from pmg.studio.app.jobs import JobQueue


def wait(jobs, code, *statuses):
    for _ in range(500):
        if jobs.state(code)["status"] in statuses:
            return jobs.state(code)
        time.sleep(0.01)
    raise AssertionError(jobs.state(code))


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


def test_jobs_run_one_by_one_and_too_many_are_refused(gate):
    jobs, order = JobQueue(2), []

    def work(name):
        def run(job):
            gate.wait(5)
            job.report("working", 0.5)
            order.append(name)
            job.results["name"] = name

        return run

    first = jobs.add(work("a"))
    wait(jobs, first.id, "running")
    others = [jobs.add(work(name)) for name in "bc"]
    assert [jobs.state(job.id)["before"] for job in others] == [1, 2]
    with pytest.raises(PmgError, match="waiting already"):
        jobs.add(work("d"))
    gate.set()
    assert wait(jobs, others[1].id, "done")["results"] == {"name": "c"}
    assert order == ["a", "b", "c"]


def test_cancelled_jobs_leave_their_place(gate):
    jobs = JobQueue(2)
    running = jobs.add(lambda job: gate.wait(5))
    wait(jobs, running.id, "running")
    for _ in range(5):
        jobs.cancel(jobs.add(lambda job: None).id)
    assert not any(job.work for job in jobs.jobs.values())  # nor keep what they would have shown
    last = jobs.add(lambda job: job.results.update(made=True))
    gate.set()
    assert wait(jobs, last.id, "done")["results"] == {"made": True}


def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(gate):
    jobs, reached = JobQueue(), []

    def run(job):
        gate.wait(5)
        job.report("next", 0.5)
        reached.append(job)

    running = jobs.add(run)
    wait(jobs, running.id, "running")
    waiting = jobs.add(run)
    for job in (waiting, running):
        jobs.cancel(job.id)
    assert jobs.state(waiting.id)["status"] == "cancelled"
    gate.set()
    wait(jobs, running.id, "cancelled")
    assert reached == []


def test_errors_are_one_line_and_the_queue_continues():
    jobs = JobQueue()

    def refused(job):
        raise PmgError("no\npicture")

    def broken(job):
        raise ZeroDivisionError("secret path /home")

    assert wait(jobs, jobs.add(refused).id, "failed")["error"] == "no picture"
    text = wait(jobs, jobs.add(broken).id, "failed")["error"]
    assert "ZeroDivisionError" in text
    assert "/home" not in text
    wait(jobs, jobs.add(lambda job: None).id, "done")


def test_the_oldest_finished_jobs_are_forgotten(monkeypatch):
    monkeypatch.setattr("pmg.studio.app.jobs.KEPT", 2)
    jobs = JobQueue()
    made = [wait(jobs, jobs.add(lambda job: None).id, "done")["id"] for _ in range(5)]
    assert list(jobs.jobs) == made[-3:]  # and the last one, which waited when they were counted


def test_another_browsers_job_is_not_found():
    with pytest.raises(PmgError, match="doesn't exist"):
        JobQueue().cancel("0" * 32)
