"""Export an archive as prompt embeddings for vLLM."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import safetensors.torch
import torch

from memcram.archive.corrections import GUARD_MARGINS
from memcram.archive.format import Archive
from memcram.errors import UsageError
from memcram.export.base import check_plain_decoding
from memcram.export.readme import load_arguments, write_record
from memcram.export.transformers import prompt_embeds
from memcram.models import decoding
from memcram.models.frozen_lm import FrozenLM
from memcram.models.modes import DTYPE_NAMES

CLIENT = "client.py"
_DTYPES: dict[str, torch.dtype] = {
    DTYPE_NAMES[one]: one for one in (torch.float32, torch.bfloat16, torch.float16)
}

_README = """\
# {tokens} tokens as prompt embeddings of {model} for vLLM

Each `chunk-*.safetensors` has one tensor, `prompt_embeds` (vectors, width), in {dtype}. Greedy
decoding returns the chunk's tokens; the chunks in order are the text. `export.json` has the number
of tokens per chunk and the checksum of the text.

    python {client}

decodes all chunks with vLLM's offline API, compares the checksum and prints the text.

    vllm serve {load}{revision} --dtype {dtype} --enable-prompt-embeds --generation-config vllm
    python {client} http://localhost:8000

does the same with a server, which is meant for clients you trust. Before this folder was written,
all tokens were decoded with transformers in {dtype}, each with a margin of at least {guard} logits,
the smallest being {margin:.3g}. vLLM's kernels round differently.
"""


@dataclass(frozen=True)
class VllmExporter:
    """One safetensors file per chunk, and a client for the offline API and the server.

    Attributes:
        dtype: the one that vLLM loads the model in; None for the archive's.
    """

    name: str = "vllm"
    dtype: str | None = None

    def check(self, archive: Archive, target: FrozenLM) -> None:
        """See `check_plain_decoding`; the same at vLLM's dtype, with the dtype's guard margin.

        Raises:
            UsageError: the dtype is unknown, the text changes in it, the model is a GGUF file, or
                its input vectors are not as wide as its hidden states.
        """
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise UsageError(argument="dtype", got=self.dtype, allowed=", ".join(_DTYPES))
        check_plain_decoding(archive, target)
        model = target.identity.id
        if "gguf_file" in load_arguments(target)[1]:
            raise UsageError(
                f"made with the GGUF file {model!r}; compress with the original model, or export "
                "to llama-cpp",
                argument="archive",
            )
        if target.input_width != target.hidden_size:
            raise UsageError(
                f"the input vectors of {model} have width {target.input_width}, but vLLM expects "
                f"the hidden size, {target.hidden_size}",
                argument="archive",
            )
        if target.dtype not in _DTYPES.values() and self.dtype is None:
            raise UsageError(argument="dtype", got=target.dtype_name, allowed=", ".join(_DTYPES))
        self._check_margins(archive, target)

    def write(self, archive: Archive, target: FrozenLM, folder: Path) -> None:
        """Write `chunk-*.safetensors`, `client.py`, `export.json` and `README.md`."""
        dtype = self._dtype(target)
        chunks = [f"chunk-{number:05}.safetensors" for number in range(len(archive.mems))]
        for file, mem in zip(chunks, archive.mems, strict=True):
            embeds = prompt_embeds(mem, target).to(dtype)
            safetensors.torch.save_file({"prompt_embeds": embeds}, folder / file)
        name, options = load_arguments(target)
        served = DTYPE_NAMES[dtype]
        write_record(archive, target, folder, chunks, load=name, server_dtype=served)
        script = files("memcram").joinpath("data/vllm_client.py.txt").read_bytes()
        (folder / CLIENT).write_bytes(script)
        revision = options.get("revision")
        readme = _README.format(
            tokens=archive.manifest.text.tokens,
            model=target.identity.id,
            load=name,
            revision="" if revision is None else f" --revision {revision}",
            client=CLIENT,
            dtype=served,
            guard=GUARD_MARGINS[dtype],
            margin=self._check_margins(archive, target),
        )
        (folder / "README.md").write_text(readme, encoding="utf-8")

    def _dtype(self, target: FrozenLM) -> torch.dtype:
        return target.dtype if self.dtype is None else _DTYPES[self.dtype]

    def _check_margins(self, archive: Archive, target: FrozenLM) -> float:
        """Decode at vLLM's dtype; return the smallest margin.

        Raises:
            UsageError: a token differs, or has less than the guard margin.
        """
        served = target.in_dtype(self._dtype(target))
        true = [one.ids for one in decoding.greedy(target, archive.mems, archive.chunk_tokens)]
        decoded = decoding.greedy(served, archive.mems, archive.chunk_tokens, true)
        name, guard = DTYPE_NAMES[served.dtype], GUARD_MARGINS[served.dtype]
        wrong = sum(int((one.predicted != one.ids).sum()) for one in decoded)
        if wrong:
            raise UsageError(
                f"{wrong} tokens change in {name}, so the export would decode to another text; "
                "compress with a larger margin, or export for the archive's dtype",
                argument="dtype",
            )
        margin = min(one.margins.min().item() for one in decoded)
        if margin < guard:
            raise UsageError(
                f"the smallest margin in {name} is {margin:.3g} logits, and vLLM's own rounding "
                f"may change a token below {guard}; compress with a larger margin",
                argument="dtype",
            )
        return margin
