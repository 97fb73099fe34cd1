"""A pool of Ray actors that share work; one that is lost is replaced."""

import atexit
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memcram.distributed.actor import Actor, Job
from memcram.distributed.schedule import Item, Schedule
from memcram.errors import MemcramError, ModelError, UsageError, first_line, require

# Waits for reports of the workers, for an address, and for all workers to stop after Ctrl-C.
_POLL_SECONDS = 1.0
_CONNECT_SECONDS = 10.0
_STOP_SECONDS = 60.0
# How long no worker may be available before the run is given up.
_START_SECONDS = 600.0
# Workers lost while they load, in a row.
_MAX_LOAD_LOSSES = 3
_OBJECT_STORE_BYTES = 256 * 2**20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TOKEN = secrets.token_hex(32)


@dataclass(frozen=True)
class RayBackend:
    """Where the workers run: a cluster, or processes on this machine.

    Args:
        address: `HOST:PORT` of a cluster, or `auto`; None starts one on this machine, which only
            this machine can reach.
        gpus: workers with a GPU each.
        workers: workers without a GPU. With neither, there is one per GPU of the cluster.
        cpus_per_worker: CPU cores of each worker, and threads of torch.

    Raises:
        UsageError: a number is not positive, or both are given.
    """

    address: str | None = None
    gpus: int | None = None
    workers: int | None = None
    cpus_per_worker: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("gpus", "workers", "cpus_per_worker"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(argument=name, got=value, allowed="1 or more")
        if self.gpus is not None and self.workers is not None:
            raise UsageError(
                "each worker has a GPU or none", argument="workers", allowed="only without gpus"
            )


class Cluster:
    """A connection to Ray, as a context manager.

    Args:
        backend: where.

    Raises:
        UsageError: Ray is not installed, the cluster can't be reached, or it has too little.
    """

    def __init__(self, backend: RayBackend) -> None:
        self.backend = backend
        host = _checked_host(backend.address)
        self.ray = _import_ray(own=backend.address is None, loopback=host in _LOOPBACK)
        self._folder = None if backend.address else _folder()
        try:
            self._connect()
            self.count = self._count()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        self.ray.shutdown()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def uses_gpus(self) -> bool:
        """Whether each worker has a GPU."""
        return self.backend.workers is None

    def actor(self, job: Job) -> Any:
        """Start a worker."""
        cpus = self.backend.cpus_per_worker
        wanted = {"num_cpus": cpus, "num_gpus": int(self.uses_gpus), "max_restarts": 0}
        return self.ray.remote(**wanted)(Actor).remote(job, cpus)

    def _connect(self) -> None:
        usual = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        if self.backend.address is None:
            assert self._folder is not None
            wanted = (self.backend.workers or self.backend.gpus or 0) * self.backend.cpus_per_worker
            usual |= {
                "address": "local",
                "num_cpus": max(wanted, os.cpu_count() or 1),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_temp_dir": self._folder.name,
                "_system_config": {"worker_niceness": 0},  # as without Ray
            }
        else:
            usual |= {"address": self.backend.address}
        try:
            self.ray.init(**usual)
        except Exception as error:  # Ray raises it bare where it starts too slowly
            if self.backend.address is None:
                raise UsageError(f"Ray does not start here ({first_line(error)})") from error
            raise UsageError(
                f"no Ray cluster at {self.backend.address!r} ({first_line(error)})",
                argument="address",
            ) from error
        here = self.ray.util.get_node_ip_address()
        if self.backend.address is None and not here.startswith("127."):
            raise UsageError(f"Ray was imported before, and would listen on {here}, not 127.0.0.1")

    def _count(self) -> int:
        """Count the workers, after checking that the cluster has enough for them."""
        has = self.ray.cluster_resources()
        cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        wanted = self.backend
        if wanted.workers is None and wanted.gpus is None and not gpus:
            raise UsageError(
                "there is no GPU", argument="workers", allowed=f"1 to {cpus} that share the CPUs"
            )
        if wanted.gpus is not None and wanted.gpus > gpus:
            raise UsageError(argument="gpus", got=wanted.gpus, allowed=f"at most {gpus}")
        count = wanted.workers or wanted.gpus or gpus
        if count * wanted.cpus_per_worker > cpus:
            name = "workers" if wanted.workers else "cpus_per_worker"
            raise UsageError(
                f"{count} workers need {count * wanted.cpus_per_worker} CPU cores",
                argument=name,
                allowed=f"as many as the {cpus} of the cluster suffice for",
            )
        return count


@dataclass
class _Member:
    """One worker, as the driver sees it.

    Attributes:
        number: stays the same when it is replaced.
        actor: the process.
        started: result of `ping`, which comes once there was room for the process.
        loading: result of `load`, while it is awaited.
        events: result of `events`, while a batch is running.
    """

    number: int
    actor: Any = None
    started: Any = None
    loading: Any = None
    events: Any = None


class Pool:
    """Workers with a model each.

    Args:
        cluster: where they run.
        job: what they do.
    """

    def __init__(self, cluster: Cluster, job: Job) -> None:
        self._ray = cluster.ray
        self._cluster = cluster
        self._job = job
        self._members: list[_Member] = []
        self._argument: Any = None
        self._reply: Any = None
        self._load_losses = 0
        self._unseen: list[tuple[int, Any]] = []

    def load(self, argument: Any) -> Any:
        """Let all workers prepare, wait for the first, and return its reply.

        Args:
            argument: of `Job.load`.

        Raises:
            ModelError: the workers are lost, or do not start.
            MemcramError: what the job raised.
        """
        self._argument, self._reply = argument, None
        if not self._members:
            self._members = [_Member(i) for i in range(self._cluster.count)]
        for member in self._members:
            self._begin(member)
        began = time.monotonic()
        while self._reply is None:
            for member in self._ready(began):
                self._loaded(member)
        return self._reply

    def run(
        self, items: Sequence[Item], batch_of: Callable[[Sequence[Item]], Any]
    ) -> Iterator[tuple[int, Any]]:
        """Yield the number of a worker and each of its messages, until all items are finished.

        A worker that is lost gives None as a message, and its work to the others.

        Args:
            items: what to do.
            batch_of: makes the argument of `Job.work` when the turn of its items comes.

        Raises:
            ModelError: work is lost too often, or no worker starts.
            MemcramError: what the job raised.
        """
        schedule = Schedule(items, self._cluster.count)
        idle_since = time.monotonic()
        while not schedule.is_finished or any(m.events is not None for m in self._members):
            for member in self._members:
                if member.loading is None and member.events is None:
                    self._start(member, schedule.take(member.number), batch_of)
            if any(member.events is not None for member in self._members):
                idle_since = time.monotonic()
            for member in self._ready(idle_since):
                if member.loading is not None:
                    self._loaded(member)
                    continue
                found = self._events(member)
                if found is None:
                    self._begin(member, replace=True)
                    schedule.give_back(member.number)
                    yield member.number, None
                    continue
                events, is_running = found
                member.events = member.actor.events.remote(_POLL_SECONDS) if is_running else None
                self._unseen = [(member.number, message) for _, message in events]
                for finished, message in events:
                    if isinstance(message, MemcramError):
                        raise message
                    yield member.number, message
                    self._unseen.pop(0)
                    schedule.finish(member.number, finished)
                if not is_running:
                    schedule.give_back(member.number)  # normally nothing is left

    def stop(self) -> Iterator[tuple[int, Any]]:
        """End all batches as at Ctrl-C, and yield the messages that are still to come."""
        yield from self._unseen
        deadline = time.monotonic() + _STOP_SECONDS
        busy = [member for member in self._members if member.events is not None]
        for member in busy:
            member.actor.stop.remote()
        while busy and time.monotonic() < deadline:
            ready, _ = self._ray.wait([member.events for member in busy], timeout=_POLL_SECONDS)
            for member in [one for one in busy if one.events in ready]:
                events, is_running = self._events(member) or ([], False)
                for _, message in events:
                    if not isinstance(message, MemcramError):
                        yield member.number, message
                member.events = member.actor.events.remote(_POLL_SECONDS) if is_running else None
            busy = [member for member in busy if member.events is not None]

    def _start(
        self, member: _Member, items: Sequence[Item], batch_of: Callable[[Sequence[Item]], Any]
    ) -> None:
        if items:
            member.actor.start.remote(batch_of(items))
            member.events = member.actor.events.remote(_POLL_SECONDS)

    def _ready(self, waiting_since: float) -> list[_Member]:
        """Wait for workers that have something to say."""
        pending = [m for m in self._members if m.loading is not None or m.events is not None]
        refs = [member.loading or member.events for member in pending]
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=_POLL_SECONDS)
        late = not ready and time.monotonic() - waiting_since > _START_SECONDS
        if late and not self._ray.wait([one.started for one in self._members], timeout=0)[0]:
            raise ModelError(f"no worker has started for {_START_SECONDS / 60:.0f} minutes")
        return [one for one, ref in zip(pending, refs, strict=True) if ref in ready]

    def _loaded(self, member: _Member) -> None:
        """Take a worker's reply; the first counts, and the others must be equal."""
        try:
            reply = self._ray.get(member.loading)
        except self._ray.exceptions.RayError as error:
            self._load_losses += 1
            if self._load_losses >= _MAX_LOAD_LOSSES:
                raise ModelError(
                    f"{self._load_losses} workers were lost while they loaded the model "
                    f"({first_line(error)})"
                ) from error
            self._begin(member, replace=True)
            return
        member.loading = None
        if isinstance(reply, MemcramError):
            raise reply
        self._load_losses = 0
        if self._reply is None:
            self._reply = reply
        elif reply != self._reply:
            raise ModelError(
                "two workers have different texts, models or versions of memcram; they need the "
                "same files"
            )

    def _events(self, member: _Member) -> Any:
        """Return what `Actor.events` gave; None if the worker is lost."""
        try:
            return self._ray.get(member.events)
        except self._ray.exceptions.RayError:
            return None

    def _begin(self, member: _Member, *, replace: bool = False) -> None:
        """Let a worker load; start it first if there is none, or it is lost."""
        if member.actor is None or replace:
            member.actor, member.events = self._cluster.actor(self._job), None
            member.started = member.actor.ping.remote()
        member.loading = member.actor.load.remote(self._argument)


def _checked_host(address: str | None) -> str | None:
    """Return the host of an address, if it has one.

    Raises:
        UsageError: nothing listens there; Ray would try for minutes.
    """
    if address in (None, "auto"):
        return None
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(
            argument="address",
            got=address,
            allowed="a host and a port, such as 10.0.0.1:6379, or auto",
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        problem = f"no Ray cluster at {address!r} ({reason})"
        raise UsageError(problem, argument="address") from error
    return host


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Create a folder for Ray's logs and sockets, whose paths must be short."""
    place = "/tmp" if Path("/tmp").is_dir() else None
    folder = tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True)
    # Where Ray fails to start, the processes that it did start write here until it ends them, in a
    # hook that it registers after this one and that therefore runs before it.
    atexit.register(folder.cleanup)
    return folder


def _import_ray(*, own: bool, loopback: bool) -> Any:
    """Import Ray without its usage statistics; they and these settings are read at its import.

    Args:
        own: the cluster is started here.
        loopback: it is reached through the loopback device.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if own or loopback:
        # Its name is about other systems. It makes all of Ray's processes listen on the loopback
        # device only, and keeps Ray from replacing a loopback address with one where such a cluster
        # does not listen, and waiting for it without end.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if own:
        # The token keeps other users of this machine out. Ray reads it once per process.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = _TOKEN
    require("studies and texts on several workers", "ray", extra="ray", argument="backend")
    import ray

    # It prints lost workers on stdout, which is the command's own; they are reported as progress.
    ray._private.worker._worker_logs_enabled = False
    return ray
