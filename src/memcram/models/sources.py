"""Find a model's files: in the package, on the local disk, or on the Hugging Face hub."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from memcram.errors import ModelError, first_line
from memcram.files import is_file
from memcram.models.folder import ADAPTER, CONFIG, FOLDER, WEIGHTS, WEIGHTS_INDEX
from memcram.models.formats import ModelFormat
from memcram.models.gguf import GGUF

# File formats of local models; a path belongs to the first that matches.
FORMATS: tuple[ModelFormat, ...] = (GGUF, FOLDER)

_SMALL_FILES = [
    CONFIG,
    ADAPTER,
    "generation_config.json",
    WEIGHTS_INDEX,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
]
_WANTED_FILES = [*_SMALL_FILES, WEIGHTS, "model-*.safetensors"]
_HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")


@dataclass(frozen=True)
class ModelSource:
    """Location of a model's files.

    Attributes:
        id: the model's name as the user gave it.
        path: the folder or file.
        revision: the hub commit; None for packaged and local models.
        format: file format of `path`.
    """

    id: str
    path: Path
    revision: str | None
    format: ModelFormat = FOLDER

    @property
    def folder(self) -> Path:
        """The folder that transformers loads from."""
        return self.format.folder(self.path)

    @property
    def options(self) -> dict[str, Any]:
        """Return additional keyword arguments of every `from_pretrained` call."""
        return self.format.options(self.path)


def packaged_models() -> dict[str, Path]:
    """Return the folders of the models inside the package, by name."""
    root = Path(str(files("memcram.models")))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def local_source(name: str) -> ModelSource | None:
    """The packaged or local model of a name, unchecked; None if only the hub can have it."""
    packaged = packaged_models()
    if name in packaged:
        return ModelSource(name, packaged[name], None)
    path = _expanded(name)
    found = _format_of(path)
    return None if found is None else ModelSource(name, path, None, found)


def is_here(name: str) -> bool:
    """Whether a packaged or local model has the name, so that the hub is not queried."""
    return local_source(name) is not None


def nearest_model(folder: Path, name: str) -> str:
    """Return the name by which to load a model that a file in `folder` mentions.

    A model in that folder takes precedence over one in the working directory and on the hub.
    """
    near = folder / name
    return str(near) if name not in packaged_models() and _format_of(near) else name


def find_model(
    name: str,
    revision: str | None = None,
    *,
    config: str | Path | None = None,
    config_only: bool = False,
) -> ModelSource:
    """Find a packaged model, a local model or a hub id, which is downloaded if necessary.

    Args:
        name: of the model.
        revision: hub branch, tag or commit.
        config: folder of the original config.json of a GGUF model.
        config_only: the weights are not needed.

    Raises:
        UsageError: `config` is not usable, or the model is not GGUF.
        ModelError: nothing has that name, or its files are not available; says what to do.
    """
    packaged = packaged_models()
    path = _expanded(name)
    local = None if name in packaged else _format_of(path)
    if config is not None:
        local = (local or FOLDER).with_config(path, _expanded(str(config)))
    if name in packaged:
        _refuse_revision(name, revision, "a packaged model")
        return ModelSource(name, packaged[name], None)
    if local is not None:
        _refuse_revision(name, revision, "a local model")
        try:
            local.check(path, name, config_only=config_only)
        except OSError as error:
            raise ModelError(
                f"{name}: can't be read ({error.strerror})", argument="model"
            ) from error
        return ModelSource(name, path, None, local)
    if is_file(path):
        raise ModelError(f"{name!r} is neither a folder nor a GGUF file", argument="model")
    if path.suffix.lower() == ".gguf":
        raise ModelError(f"{name!r} does not exist", argument="model")
    if not _HUB_ID.fullmatch(name) or ".." in name or "--" in name:
        raise ModelError(
            f"{name!r} is not a packaged model ({', '.join(packaged)}), not a folder, and not a "
            "hub id such as EleutherAI/pythia-160m",
            argument="model",
        )
    return _download(name, revision, config_only=config_only)


def _format_of(path: Path) -> ModelFormat | None:
    return next((one for one in FORMATS if one.matches(path)), None)


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # `~someone` without a home
        return Path(name)


def _refuse_revision(name: str, revision: str | None, what: str) -> None:
    if revision is not None:
        raise ModelError(f"got {revision!r}, but {name!r} is {what}", argument="revision")


def _download(name: str, revision: str | None, *, config_only: bool) -> ModelSource:
    folder = _snapshot(name, revision, _SMALL_FILES if config_only else _WANTED_FILES)
    if not config_only and not any(folder.glob("model*.safetensors")):
        folder = _snapshot(name, _conversion(name, revision), _WANTED_FILES)
    FOLDER.check(folder, name, config_only=config_only)
    return ModelSource(name, folder, folder.name)  # a snapshot's folder is named by its commit


def _snapshot(name: str, revision: str | None, wanted: list[str]) -> Path:
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    at = f" at revision {revision!r}" if revision else ""
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except hub.GatedRepoError as error:
        raise ModelError(
            f"{name}: the model is gated; accept its terms on its hub page, then `hf auth login` "
            "or set HF_TOKEN"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelError(f"{name}: the hub has no revision {revision!r}") from error
    except hub.RepositoryNotFoundError as error:
        raise ModelError(
            f"{name}: not on the hub, or private: check the spelling; for a private model "
            "`hf auth login` or set HF_TOKEN"
        ) from error
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled) as error:
        raise ModelError(
            f"{name!r} is not a local folder, not in the local cache of the hub{at}, and the hub "
            "cannot be reached; connect and run again, or pass a local folder "
            f"(packaged: {', '.join(packaged_models())})",
            argument="model",
        ) from error
    except (hub.HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"{name}: the download failed ({first_line(error)})") from error


def _conversion(name: str, revision: str | None) -> str:
    """Find the hub's own safetensors conversion of a repository that has only `.bin` files."""
    from huggingface_hub import HfApi
    from transformers.safetensors_conversion import get_conversion_pr_reference

    at = f", revision='{revision}'" if revision else ""
    command = (
        'python -c "from transformers import AutoModelForCausalLM as M; '
        f"M.from_pretrained('{name}'{at}).save_pretrained('{name.split('/')[-1]}')\""
    )
    reason = (
        f"{name}: the hub holds only pickled weights (.bin), which memcram never opens, and offers "
        "no safetensors conversion{}; download it, convert a copy you trust and pass its folder: "
        + command
    )
    if revision not in (None, "main"):
        raise ModelError(reason.format(f" of revision {revision!r}"))  # it converts `main` alone
    try:
        reference: str = get_conversion_pr_reference(HfApi(), name)
    except Exception as error:
        raise ModelError(reason.format("")) from error
    return reference
