"""A pool of workers, with actors in this process instead of Ray's."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from memcram.distributed import pool as pools
from memcram.distributed.actor import Actor
from memcram.distributed.pool import Pool, RayBackend
from memcram.distributed.schedule import Item
from memcram.errors import ModelError, UsageError


class LostError(Exception):
    """In place of Ray's error."""


class Reference:
    """The result of a remote call."""

    def __init__(self, process, method, arguments):
        self.process, self.call = process, (method, arguments)
        self.result = None
        if method != "events":  # waits; so it is called when its turn comes
            self.result = (self.get(),)

    def get(self):
        if self.process.dead:
            raise LostError
        if self.result is None:
            method, arguments = self.call
            self.result = (getattr(self.process.actor, method)(*arguments),)
        return self.result[0]


class Process:
    """An actor that can be killed; `methods.remote(...)` as in Ray."""

    def __init__(self, job):
        self.actor, self.dead = Actor(job, 1), False

    def __getattr__(self, method):
        def remote(*arguments):
            try:
                return Reference(self, method, arguments)
            except LostError:
                return SimpleNamespace(get=self.fail)

        return SimpleNamespace(remote=remote)

    @staticmethod
    def fail():
        raise LostError


class Cluster:
    """Two workers."""

    count = 2

    def __init__(self):
        self.processes = []
        self.ray = SimpleNamespace(
            wait=lambda refs, num_returns=1, timeout=0: (list(refs), []),
            get=lambda ref: ref.get(),
            exceptions=SimpleNamespace(RayError=LostError),
        )

    def actor(self, job):
        self.processes.append(Process(job))
        return self.processes[-1]


class Squares:
    """Squares numbers; the text that `slow` names waits until it is told to stop."""

    def __init__(self, **hooks):
        self.hooks, self.loads = hooks, 0

    def load(self, argument):
        self.loads += 1
        hook = self.hooks.get("load")
        return hook(argument) if hook else argument

    def work(self, batch, emit):
        for number in batch:
            if number in self.hooks:
                self.hooks[number](emit)
            emit([number], number**2)
        if "end" in self.hooks:
            self.hooks["end"](emit)


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(pools, "_POLL_SECONDS", 0.01)
    return Cluster()


def numbers(count):
    return [Item(i, 1) for i in range(count)]


def keys(items):
    return [item.key for item in items]


def test_all_messages_arrive_with_the_number_of_their_worker(cluster):
    pool = Pool(cluster, Squares())
    assert pool.load("ready") == "ready"
    found = list(pool.run(numbers(100), keys))
    assert sorted(message for _, message in found) == [i**2 for i in range(100)]
    assert {worker for worker, _ in found} == {0, 1}
    assert all(member.events is None for member in pool._members)
    assert len(list(pool.run(numbers(3), keys))) == 3  # a second time
    assert len(cluster.processes) == 2


def test_what_is_reported_after_the_last_item_arrives_before_the_next_work(cluster):
    def end(emit):
        time.sleep(0.05)
        emit([], "end")

    pool = Pool(cluster, Squares(end=end))
    pool.load("ready")
    for _ in range(2):
        messages = [message for _, message in pool.run(numbers(1), keys)]
        assert messages == [0, "end"]


def test_a_lost_worker_is_replaced_and_its_work_done_by_others(cluster):
    def kill(_):
        victim = next(one for one in cluster.processes if not one.dead)
        victim.dead = True

    job = Squares()
    job.hooks[5] = lambda _: job.hooks.pop(5) and kill(_)
    pool = Pool(cluster, job)
    pool.load("ready")
    found = list(pool.run(numbers(60), keys))
    assert None in [message for _, message in found]
    assert {message for _, message in found} == {i**2 for i in range(60)} | {None}
    assert len(cluster.processes) == 3
    assert job.loads == 3


def test_work_that_kills_every_worker_is_given_up(cluster):
    def kill(_):
        for process in cluster.processes:
            process.dead = True

    pool = Pool(cluster, Squares())
    pool._job.hooks[0] = kill
    pool.load("ready")
    with pytest.raises(ModelError, match="3 workers were lost with the same work"):
        list(pool.run(numbers(1), keys))


def test_workers_lost_while_they_load_are_given_up(cluster):
    def kill(_):
        cluster.processes[-1].dead = True
        for process in cluster.processes:
            process.dead = True
        raise LostError

    pool = Pool(cluster, Squares(load=kill))
    with pytest.raises(ModelError, match="3 workers were lost while they loaded"):
        pool.load("ready")


def test_workers_that_never_start_are_given_up(cluster, monkeypatch):
    monkeypatch.setattr(pools, "_START_SECONDS", 0.0)
    cluster.ray.wait = lambda refs, num_returns=1, timeout=0: ([], list(refs))
    with pytest.raises(ModelError, match="no worker has started for 0 minutes"):
        Pool(cluster, Squares()).load("ready")


def test_errors_of_a_job_reach_the_driver(cluster):
    def refuse(_):
        raise UsageError(argument="steps", got=0, allowed="1 or more")

    def fail(_):
        raise ZeroDivisionError("division\nby zero")

    with pytest.raises(UsageError, match="steps: got 0, allowed: 1 or more"):
        Pool(cluster, Squares(load=refuse)).load(1)
    for hook, message in (
        (refuse, "steps: got 0"),
        (fail, r"failed \(ZeroDivisionError: division\)"),
    ):
        job = Squares()
        job.hooks[2] = hook
        pool = Pool(cluster, job)
        pool.load("ready")
        with pytest.raises((UsageError, ModelError), match=message):
            list(pool.run(numbers(4), keys))


def test_workers_with_other_files_are_refused(cluster):
    replies = iter([["a"], ["b"]])
    pool = Pool(cluster, Squares(load=lambda _: next(replies)))
    with pytest.raises(ModelError, match="two workers have different"):
        pool.load("ready")


def test_stop_returns_what_is_still_to_come(cluster):
    begun = []

    def wait(emit):
        begun.append(1)
        try:
            for _ in range(500):
                emit([], "waiting")
                time.sleep(0.01)
        except KeyboardInterrupt:
            emit([3], "kept")
            raise

    job = Squares()
    job.hooks[3] = wait
    pool = Pool(cluster, job)
    pool.load("ready")
    running = pool.run(numbers(4), keys)
    while next(running)[1] != "waiting":
        pass
    running.close()  # as after Ctrl-C
    left = [message for _, message in pool.stop()]
    assert left[-1] == "kept"
    assert begun == [1]
    assert all(member.events is None for member in pool._members)


def test_folder_of_a_ray_that_did_not_start_is_removed_at_the_end():
    """Its processes are still writing when the cluster is closed."""
    code = """
from pathlib import Path
from memcram.distributed.pool import _folder
folder = _folder()
folder.cleanup()
Path(folder.name, "late").mkdir(parents=True)
print(folder.name)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stderr == ""
    assert not Path(out.stdout.strip()).exists()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"workers": 0}, "workers: got 0, allowed: 1 or more"),
        ({"gpus": -1}, "gpus: got -1"),
        ({"cpus_per_worker": 0}, "cpus_per_worker: got 0"),
        ({"gpus": 1, "workers": 1}, "workers: each worker has a GPU or none"),
    ],
)
def test_backend_is_checked(numbers, message):
    with pytest.raises(UsageError, match=message):
        RayBackend(**numbers)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", ":6379", "127.0.0.1:99999", "a:b"])
def test_an_address_without_a_port_is_refused(address):
    with pytest.raises(UsageError, match=r"address: got .*, allowed: a host and a port, such as"):
        pools.Cluster(RayBackend(address=address))


def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UsageError, match=f"address: no Ray cluster at '127.0.0.1:{port}'"):
        pools.Cluster(RayBackend(address=f"127.0.0.1:{port}"))
