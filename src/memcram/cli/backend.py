"""Options that say where texts are crammed: in this process, or on several workers."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memcram.cli import options
from memcram.errors import UsageError

if TYPE_CHECKING:
    from memcram.compression.chunks import ChunkCrammer
    from memcram.distributed.pool import Cluster

_RAY = ("address", "gpus", "workers", "cpus_per_worker")


@dataclass(frozen=True)
class Backend:
    """What the options say.

    Attributes:
        name: `local` or `ray`.
        ray: the values of the options that only Ray has; None where they are not given.
    """

    name: str
    ray: dict[str, Any]

    def check(self) -> None:
        """Refuse options of Ray without it.

        Raises:
            UsageError: one is given.
        """
        for name, value in self.ray.items():
            if self.name != "ray" and value is not None:
                raise UsageError("allowed only with --backend ray", argument=name)

    def connect(self) -> "contextlib.AbstractContextManager[Cluster | None]":
        """Context manager with a connection to Ray; None for the local backend."""
        self.check()
        if self.name != "ray":
            return contextlib.nullcontext()

        from memcram.distributed.pool import Cluster, RayBackend

        given = {name: value for name, value in self.ray.items() if value is not None}
        return Cluster(RayBackend(**given))


def with_backend(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options and pass `backend` instead of them."""

    @wraps(command)
    def decorated(backend: str, **rest: Any) -> None:
        ray = {name: rest.pop(name) for name in _RAY}
        command(backend=Backend(backend, ray), **rest)

    return options.stacked(
        click.option(
            "--backend",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Cram in this process, or on the workers of a Ray cluster.",
        ),
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Ray: address of a cluster, or auto.  [default: start one on this machine]",
        ),
        options.number("--gpus", help="Ray: number of workers, each with a GPU.  [default: all]"),
        options.number("--workers", help="Ray: number of workers without a GPU."),
        options.number("--cpus-per-worker", help="Ray: CPU cores of each worker.  [default: 1]"),
    )(decorated)


def crammer_of(cluster: "Cluster | None", load: options.Loader) -> "ChunkCrammer | None":
    """Who crams the chunks: the workers of a cluster, or None for this process."""
    if cluster is None:
        return None

    from memcram.distributed.chunks import RayChunks

    path = Path(load.model)
    return RayChunks(cluster, str(path.absolute()) if path.exists() else load.model, load.how)
