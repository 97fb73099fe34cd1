"""Push archives and studies to the Hugging Face Hub, and pull them from it.

Everything on the wire is done by `huggingface_hub`, which also finds the token (`hf auth login` or
HF_TOKEN); none is taken, shown or stored here. What is pulled is checked as hostile input.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memcram.archive.format import Archive
from memcram.errors import MemcramError, UsageError, first_line
from memcram.export.hub_archive import archives_in, write_archive_repository
from memcram.export.hub_study import FILES, RECORD, read_study_repository, write_study_repository
from memcram.files import (
    ARCHIVE_SUFFIX,
    check_writable,
    contents,
    holds_files,
    new_folder,
    write_atomically,
)
from memcram.study.store import Store

RepoType = Literal["model", "dataset"]

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_DATASETS = "datasets/"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True)
class Pushed:
    """A repository after a push.

    Attributes:
        repo: `OWNER/NAME`.
        repo_type: `model` for an archive, `dataset` for a study.
        url: of its page.
        revision: the new commit.
        files, bytes: that were pushed.
    """

    repo: str
    repo_type: RepoType
    url: str
    revision: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Attributes:
        output: the archive's file, or the store's folder.
        repo_type: `model` for an archive, `dataset` for a study.
        revision: the commit it is from.
        rows: of a study; None for an archive.
    """

    output: Path
    repo_type: RepoType
    revision: str
    rows: int | None


def write_repository(
    source: str | Path, repo: str, folder: str | Path, *, license_id: str | None = None
) -> RepoType:
    """Write what `push` would upload to a new folder.

    Args:
        source: an archive's file, or a store's folder (`NAME.study`).
        repo: `OWNER/NAME`, named in the card.
        folder: what to create; an existing one must be empty.
        license_id: identifier for the card, such as `cc-by-4.0`; None states none.

    Returns:
        The type of the repository.

    Raises:
        ArchiveError: the archive is damaged.
        UsageError: an argument is wrong, the store is damaged or has no rows, or the folder can't
            be written.
    """
    _check_repo(repo)
    if license_id is not None and not _LICENSE.fullmatch(license_id):
        raise UsageError(argument="license_id", got=license_id, allowed="an identifier such as mit")
    target = Path(folder)
    if holds_files(target):
        raise UsageError(f"{str(target)!r} is not empty; name a new folder", argument="output")
    with new_folder(target) as temporary:
        return _write(Path(source), repo, temporary, license_id)


def push(
    source: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license_id: str | None = None,
    endpoint: str | None = None,
) -> Pushed:
    """Upload an archive or a study with a card, in one commit; the repository is created if needed.

    Args:
        source: an archive's file, or a store's folder (`NAME.study`).
        repo: `OWNER/NAME`.
        private: create a private repository, and refuse an existing public one.
        revision: branch to commit to, created if needed; None: main.
        license_id: identifier for the card, such as `cc-by-4.0`; None states none.
        endpoint: address of the Hub; None: HF_ENDPOINT, or huggingface.co.

    Raises:
        ArchiveError: the archive is damaged.
        UsageError: an argument is wrong, the store is damaged or has no rows, or the Hub refuses
            or can't be reached.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "repository"
        kind = write_repository(source, repo, folder, license_id=license_id)
        files, size = contents(folder)
        with _asking(repo, revision):
            api = _api(endpoint)
            api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
            if private and not api.repo_info(repo, repo_type=kind).private:
                raise UsageError(f"{repo} exists and is public", argument="private")
            if revision is not None:
                api.create_branch(repo, branch=revision, repo_type=kind, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                repo_type=kind,
                revision=revision,
                commit_message="Upload with memcram",
            )
            url = f"{api.endpoint}/{_DATASETS if kind == 'dataset' else ''}{repo}"
        return Pushed(repo, kind, url, str(commit.oid), files, size)


def pull(
    repo: str,
    output: str | Path | None = None,
    *,
    file: str | None = None,
    revision: str | None = None,
    force: bool = False,
    endpoint: str | None = None,
) -> Pulled:
    """Download an archive or a study, check it, and write it completely or not at all.

    Args:
        repo: `OWNER/NAME`; `datasets/OWNER/NAME` where a model has the same name.
        output: the archive's file, or the store's folder; None: the archive's own name, or
            `NAME.study`, in the current folder.
        file: which archive, where the repository has several.
        revision: branch, tag or commit; None: main.
        force: replace an existing file or store.
        endpoint: address of the Hub; None: HF_ENDPOINT, or huggingface.co.

    Raises:
        ArchiveError: the archive is damaged.
        UsageError: an argument is wrong, the repository has neither an archive nor a study, the
            study is damaged, the output is in use, or the Hub refuses or can't be reached.
    """
    name = repo.removeprefix(_DATASETS)
    _check_repo(name)
    kind, commit, files = _look_up(repo, revision, endpoint)
    if kind == "dataset":
        target = Path(output or f"{name.rpartition('/')[2]}.study")
        rows = _pull_study(name, commit, files, target, force=force, endpoint=endpoint)
        return Pulled(target, kind, commit, rows)
    chosen = _choose(name, archives_in(files), file)
    target = Path(output or chosen)
    check_writable(target, force=force)
    with tempfile.TemporaryDirectory() as place, _asking(name, revision):
        content = _download(name, kind, commit, chosen, place, endpoint).read_bytes()
    found = Archive.from_bytes(content, f"{name}/{chosen}")
    write_atomically(target, found.to_bytes())
    return Pulled(target, kind, commit, None)


def _write(source: Path, repo: str, folder: Path, license_id: str | None) -> RepoType:
    if source.is_dir():
        store = Store(source)
        write_study_repository(store, folder, repo, license_id)
        store.close()
        return "dataset"
    if not source.exists():
        raise UsageError(f"{str(source)!r} does not exist", argument="source")
    name = source.name if source.name.endswith(ARCHIVE_SUFFIX) else source.name + ARCHIVE_SUFFIX
    write_archive_repository(Archive.read(source), name, folder, repo, license_id)
    return "model"


def _check_repo(repo: str) -> None:
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or len(repo) > 96:
        raise UsageError(argument="repo", got=repo, allowed="OWNER/NAME")


def _api(endpoint: str | None) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT"))


def _look_up(
    repo: str, revision: str | None, endpoint: str | None
) -> tuple[RepoType, str, list[str]]:
    """Type, commit and files of a repository: a model, or else a data set."""
    from huggingface_hub.errors import RepositoryNotFoundError

    name, api = repo.removeprefix(_DATASETS), _api(endpoint)
    kind: RepoType = "model" if name == repo else "dataset"
    with _asking(name, revision):
        try:
            info = api.repo_info(name, repo_type=kind, revision=revision)
        except RepositoryNotFoundError:
            kind = "dataset"
            info = api.repo_info(name, repo_type=kind, revision=revision)
    return kind, str(info.sha), [one.rfilename for one in info.siblings or []]


def _choose(repo: str, archives: list[str], file: str | None) -> str:
    """The name of the archive to pull."""
    if not archives:
        problem = f"{repo} has neither an archive ({ARCHIVE_SUFFIX}) nor a study"
        raise UsageError(problem, argument="repo")
    if file is None and len(archives) == 1:
        return archives[0]
    if file not in archives:
        shown = ", ".join(archives[:10])
        got = "got nothing" if file is None else f"got {file!r}"
        raise UsageError(got, argument="file", allowed=f"one of the archives of {repo}: {shown}")
    return file


def _pull_study(
    repo: str,
    commit: str,
    files: list[str],
    target: Path,
    *,
    force: bool,
    endpoint: str | None,
) -> int:
    if RECORD not in files:
        raise UsageError(f"{repo} is a data set without a study of memcram", argument="repo")
    in_use = holds_files(target)
    if in_use and not force:
        raise UsageError(f"{str(target)!r} exists", argument="output", force_to="replace it")
    if in_use:  # replaces nothing but a store, and none that a run writes to
        existing = Store(target)
        with contextlib.closing(existing), existing.lock():
            pass
    with tempfile.TemporaryDirectory() as place:
        with _asking(repo, commit):
            for name in FILES:
                _download(repo, "dataset", commit, name, place, endpoint)
        with new_folder(target, replace=force) as temporary:
            return read_study_repository(Path(place), temporary, target.parent.absolute())


def _download(
    repo: str, kind: RepoType, commit: str, name: str, place: str, endpoint: str | None
) -> Path:
    """Path of a downloaded file in the folder `place`."""
    api = _api(endpoint)
    return Path(api.hf_hub_download(repo, name, repo_type=kind, revision=commit, local_dir=place))


@contextlib.contextmanager
def _asking(repo: str, revision: str | None) -> Iterator[None]:
    """Context manager around requests to the Hub.

    Raises:
        UsageError: the Hub refuses or can't be reached; one line, without a token.
    """
    from huggingface_hub import errors as hub

    try:
        yield
    except MemcramError:
        raise
    except hub.RevisionNotFoundError as error:
        raise UsageError(
            f"{repo} has no such revision", argument="revision", got=revision
        ) from error
    except hub.RepositoryNotFoundError as error:
        problem = (
            f"{repo} is not on the Hub, or private: check the spelling; for a private repository "
            "`hf auth login` or set HF_TOKEN"
        )
        raise UsageError(problem, argument="repo") from error
    except hub.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        advice = "; `hf auth login` or set HF_TOKEN" if status in (401, 403) else ""
        problem = f"the Hub refuses ({first_line(error)}){advice}"
        raise UsageError(problem, argument="repo") from error
    except Exception as error:  # of the HTTP library, which differs between versions
        problem = f"the Hub can't be reached ({type(error).__name__}: {first_line(error)})"
        raise UsageError(problem, argument="repo") from error
