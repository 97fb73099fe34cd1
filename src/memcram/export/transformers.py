"""Export an archive for `generate(inputs_embeds=...)` of transformers."""

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from memcram.archive.format import Archive
from memcram.export.base import check_plain_decoding
from memcram.export.readme import Readme
from memcram.models.frozen_lm import FrozenLM

_README = Readme(
    files="""\
Each `chunk-*.safetensors` has one tensor, `prompt_embeds` (vectors, width), in {dtype}.
""",
    imports="from safetensors.torch import load_file",
    decode="""\
    embeds = load_file(folder / chunk)["prompt_embeds"][None]  # (1, vectors, width)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    new = model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=n_tokens)
""",
)


@dataclass(frozen=True)
class TransformersExporter:
    """One safetensors file per chunk, and a README with the code that decodes them."""

    name: str = "transformers"

    def check(self, archive: Archive, target: FrozenLM) -> None:
        """See `check_plain_decoding`."""
        check_plain_decoding(archive, target)

    def write(self, archive: Archive, target: FrozenLM, folder: Path) -> None:
        """Write `chunk-*.safetensors`, `export.json` and `README.md`."""
        chunks = [f"chunk-{number:05}.safetensors" for number in range(len(archive.mems))]
        for file, mem in zip(chunks, archive.mems, strict=True):
            embeds = prompt_embeds(mem, target)
            safetensors.torch.save_file({"prompt_embeds": embeds}, folder / file)
        _README.write(archive, target, folder, chunks)


def prompt_embeds(mem: Tensor, target: FrozenLM) -> Tensor:
    """Input vectors (vectors + layout, width): `mem` followed by the layout's BOS, if it has one.

    Args:
        mem: (K, width) vectors of a chunk.
        target: the model whose layout is used.
    """
    return torch.cat([mem, target.prefix.to(mem)]).contiguous()
