"""Where a model's files are: in the package, in a local folder, or on the Hugging Face hub."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from memcram.errors import ModelError

_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_WANTED_FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    _WEIGHTS_INDEX,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
]
_SMALL_FILES = [name for name in _WANTED_FILES if "safetensors" not in name]


@dataclass(frozen=True)
class ModelSource:
    """A model's name as the user gave it, the folder with its files, and the hub commit if any."""

    id: str
    folder: Path
    revision: str | None


def packaged_models() -> dict[str, Path]:
    """Folders of the models inside the package, by name."""
    root = Path(str(files("memcram.models")))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def is_here(name: str) -> bool:
    """Whether a packaged model or a local folder has the name, so that no hub is asked."""
    return name in packaged_models() or _expanded(name).is_dir()


def model_beside(folder: Path, name: str) -> str:
    """The name under which a model is loaded that a file in `folder` names.

    A folder beside that file comes before one of the working directory and before the hub.
    """
    beside = folder / name
    return str(beside) if name not in packaged_models() and beside.is_dir() else name


def find_model(name: str, revision: str | None = None, *, config_only: bool = False) -> ModelSource:
    """Resolve a packaged name, a local folder or a hub id (downloaded if need be).

    With `config_only`, no weights are asked for.

    Raises:
        ModelError: nothing has that name, or its files can't be had; says what to do.
    """
    packaged = packaged_models()
    if name in packaged:
        _refuse_revision(name, revision, "a packaged model")
        return ModelSource(name, packaged[name], None)
    folder = _expanded(name)
    if folder.is_dir():
        _refuse_revision(name, revision, "a local folder")
        check_files(folder, name, config_only=config_only)
        return ModelSource(name, folder, None)
    if not re.fullmatch(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", name) or ".." in name or "--" in name:
        raise ModelError(
            f"--model: {name!r} is no packaged model ({', '.join(packaged)}), "
            "no folder, and no hub id such as EleutherAI/pythia-160m"
        )
    return _download(name, revision, config_only=config_only)


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # `~someone` without a home
        return Path(name)


def check_files(folder: Path, name: str, *, config_only: bool = False) -> None:
    """Refuse a folder that holds no safetensors weights, and say how to convert other ones.

    Raises:
        ModelError: no config, no weights, or weights only as `.bin`.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: the folder has no config.json; name a transformers model folder")
    if config_only or (folder / _WEIGHTS).is_file() or (folder / _WEIGHTS_INDEX).is_file():
        return
    if any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"{name}: only pickled weights (.bin), which memcram never opens; convert a copy you "
            'trust: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\""
        )
    raise ModelError(f"{name}: the folder has no weights ({_WEIGHTS} or {_WEIGHTS_INDEX})")


def _refuse_revision(name: str, revision: str | None, what: str) -> None:
    if revision is not None:
        raise ModelError(f"--revision: {revision!r} was given, but {name!r} is {what}")


def _download(name: str, revision: str | None, *, config_only: bool) -> ModelSource:
    folder = _snapshot(name, revision, _SMALL_FILES if config_only else _WANTED_FILES)
    if not config_only and not any(folder.glob("model*.safetensors")):
        folder = _snapshot(name, _conversion(name, revision), _WANTED_FILES)
    check_files(folder, name, config_only=config_only)
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
            f"{name}: not in the local cache{at} and the hub can't be reached; connect and run "
            f"again, or pass a local folder (packaged: {', '.join(packaged_models())})"
        ) from error
    except (hub.HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"{name}: the download failed ({reason[0] if reason else type(error).__name__})"
        ) from error


def _conversion(name: str, revision: str | None) -> str:
    """The hub's own safetensors conversion of a repository that holds only `.bin` files."""
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
