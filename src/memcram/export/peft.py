"""Export archives as prompt-tuning adapters of PEFT, and read prompts that PEFT trained.

Neither needs the `peft` package: an adapter is a JSON file and a safetensors file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from memcram.archive.format import UNREADABLE, Archive
from memcram.errors import UsageError, first_line
from memcram.export.base import check_plain_decoding
from memcram.export.readme import Readme, load_arguments
from memcram.models.frozen_lm import FrozenLM

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
TENSOR = "prompt_embeddings"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_FILES = """\
Each folder `chunk-*` is a prompt-tuning adapter of PEFT for one chunk, in {dtype}. The code needs
`pip install peft`; it decodes one chunk after the other.
"""
_DECODE = """\
    # Without ids, `generate` would put the model's default BOS after the vectors.
    start = torch.tensor({start}, dtype=torch.long)
    adapted = PeftModel.from_pretrained(model, folder / chunk)
    new = adapted.generate(input_ids=start, max_new_tokens=n_tokens)[:, start.shape[1] :]
"""


@dataclass(frozen=True)
class PeftExporter:
    """One prompt-tuning adapter per chunk, and a README with the code that decodes them."""

    name: str = "peft"

    def check(self, archive: Archive, target: FrozenLM) -> None:
        """See `check_plain_decoding`; PEFT also needs a model folder and a KV cache.

        Raises:
            UsageError: the model is a GGUF file, has no KV cache, or computes in float64.
        """
        model = target.identity.id
        _, options = load_arguments(target)
        if "gguf_file" in options:
            raise UsageError(
                f"the adapters would be for {model!r}, and PEFT does not load GGUF files; compress "
                "with the original model",
                argument="archive",
            )
        if target.is_recurrent:
            raise UsageError(
                f"{model} is recurrent, and PEFT supports prompts only for models with a KV cache",
                argument="archive",
            )
        check_plain_decoding(archive, target)
        if target.dtype == torch.float64:
            raise UsageError("made in float64, which PEFT rounds to float32", argument="archive")

    def write(self, archive: Archive, target: FrozenLM, folder: Path) -> None:
        """Write `chunk-*/` with an adapter each, `export.json` and `README.md`."""
        chunks = [f"chunk-{number:05}" for number in range(len(archive.mems))]
        for name, mem in zip(chunks, archive.mems, strict=True):
            adapter = folder / name
            adapter.mkdir()
            config = json.dumps(_adapter_config(len(mem), target), indent=2)
            (adapter / CONFIG).write_text(config + "\n", encoding="utf-8")
            # `clone`: a chunk's vectors share the memory of all.
            safetensors.torch.save_file({TENSOR: mem.clone()}, adapter / WEIGHTS)
        start = [target.bos_id] if target.layout == "mem+bos" else []
        decode = _DECODE.format(start=f"[{start}]")
        readme = Readme(_FILES, "from peft import PeftModel", decode)
        readme.write(archive, target, folder, chunks)


def read_peft(folder: str | Path) -> Tensor:
    """Read a prompt that PEFT trained: the vectors of a prompt-tuning adapter of a causal LM.

    Args:
        folder: has `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        (K, width) in the stored dtype, as `FrozenLM.generate` takes it.

    Raises:
        UsageError: not a prompt-tuning adapter of a causal LM, damaged, or pickled.

    Source:
        Lester et al. (2021), The Power of Scale for Parameter-Efficient Prompt Tuning, arXiv
        2104.08691.
    """
    path = Path(folder)
    config = _read_config(path)
    kinds = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM"}
    for name, kind in kinds.items():
        if config.get(name) != kind:
            raise _refused(path, f"is an adapter with {name} {config.get(name)!r}", allowed=kind)
    mem = _read_weights(path)
    found, stated = tuple(mem.shape), (config.get("num_virtual_tokens"), config.get("token_dim"))
    if found != stated:
        raise _refused(path, f"has {TENSOR} of shape {found}, but its {CONFIG} says {stated}")
    if not mem.numel() or mem.dtype not in _DTYPES or not mem.isfinite().all():
        raise _refused(path, f"has {TENSOR} that are not finite numbers ({found}, {mem.dtype})")
    return mem


def _adapter_config(vectors: int, target: FrozenLM) -> dict[str, Any]:
    name, options = load_arguments(target)
    return {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "base_model_name_or_path": name,
        "revision": options.get("revision"),
        "num_virtual_tokens": vectors,
        "token_dim": target.input_width,
        "num_transformer_submodules": 1,
        "num_layers": target.layers,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise _refused(folder, f"has no {CONFIG}; name the folder of a PEFT adapter")
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(folder, f"has a damaged {CONFIG} ({first_line(error)})") from error
    if not isinstance(config, dict):
        raise _refused(folder, f"has a damaged {CONFIG} (not a JSON object)")
    return config


def _read_weights(folder: Path) -> Tensor:
    file = folder / WEIGHTS
    if not file.is_file() and (folder / PICKLED_WEIGHTS).is_file():
        raise _refused(
            folder,
            f"has only pickled weights ({PICKLED_WEIGHTS}), which memcram never opens; save a copy "
            "you trust as safetensors",
        )
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(file.read_bytes())
    except (OSError, *UNREADABLE) as error:
        raise _refused(folder, f"has no readable {WEIGHTS} ({first_line(error)})") from error
    if set(tensors) != {TENSOR}:
        names = ", ".join(sorted(tensors)[:3]) or "none"
        raise _refused(folder, f"holds other tensors than {TENSOR} ({names})")
    return tensors[TENSOR]


def _refused(folder: Path, problem: str, allowed: str | None = None) -> UsageError:
    return UsageError(f"{str(folder)!r} {problem}", argument="folder", allowed=allowed)
