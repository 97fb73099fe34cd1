"""Export an archive for `generate(inputs_embeds=...)` of transformers."""

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from memcram.archive.format import Archive
from memcram.export.base import check_plain_decoding
from memcram.models.frozen_lm import FrozenLM
from memcram.models.sources import packaged_models

_README = """\
# {tokens} tokens as input vectors of {model}

Each `chunk-*.safetensors` has one tensor, `prompt_embeds` (vectors, width), in {dtype}. Greedy
decoding from a chunk's vectors alone returns its tokens; the chunks in order are the text.
`export.json` has the number of tokens per chunk and the checksum of the text.

```python
{snippet}```

Decoding must be plain: no end-of-text token, penalty or sampling. The snippet therefore replaces
the model's generation settings. All tokens were decoded and compared before this folder was
written. On another machine, or in another dtype than {dtype}, small margins can change a token:
the smallest is {margin} logits, and {guarded} of the tokens have one that memcram's own archive
does not rely on.
"""

_SNIPPET = """\
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = Path(".")  # the folder of this file
name, revision = {name}, {revision}
model = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=torch.{dtype}).eval()
tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
model.generation_config = GenerationConfig(do_sample=False)

export = json.loads((folder / "export.json").read_text())
ids = []
for file, n_tokens in export["chunks"].items():
    embeds = load_file(folder / file)["prompt_embeds"][None]  # (1, vectors, width)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    new = model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=n_tokens)
    ids += new[0].tolist()

text = ""
for n_tokens in export["pieces"]:  # tokens that are decoded to text together
    piece, ids = ids[:n_tokens], ids[n_tokens:]
    text += tokenizer.decode(piece, clean_up_tokenization_spaces=False)
assert hashlib.sha256(text.encode()).hexdigest() == export["sha256"]
print(text)
"""


@dataclass(frozen=True)
class TransformersExporter:
    """One safetensors file per chunk, and a README with the code that decodes them."""

    name: str = "transformers"

    def check(self, archive: Archive, target: FrozenLM) -> None:
        """See `check_plain_decoding`."""
        check_plain_decoding(archive, target)

    def write(self, archive: Archive, target: FrozenLM, folder: Path) -> None:
        """Write `chunk-*.safetensors`, `export.json` and `README.md`."""
        chunks: dict[str, int] = {}
        for number, (mem, n_tokens) in enumerate(
            zip(archive.mems, archive.chunk_tokens, strict=True)
        ):
            file = f"chunk-{number:05}.safetensors"
            embeds = prompt_embeds(mem, target)
            safetensors.torch.save_file({"prompt_embeds": embeds}, folder / file)
            chunks[file] = n_tokens
        made = archive.manifest
        export = {
            "model": target.identity.id,
            "revision": target.identity.revision,
            "fingerprint": made.model.fingerprint,
            "dtype": made.dtype,
            "layout": made.layout,
            "sha256": made.text.sha256,
            "pieces": archive.tensors.piece_tokens.tolist(),
            "chunks": chunks,
        }
        (folder / "export.json").write_text(json.dumps(export, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_readme(archive, target), encoding="utf-8")


def prompt_embeds(mem: Tensor, target: FrozenLM) -> Tensor:
    """Input vectors (vectors + layout, width): `mem` followed by the layout's BOS, if it has one.

    Args:
        mem: (K, width) vectors of a chunk.
        target: the model whose layout is used.
    """
    return torch.cat([mem, target.prefix.to(mem)]).contiguous()


def _readme(archive: Archive, target: FrozenLM) -> str:
    model = target.identity.id
    summary = archive.summary()
    snippet = _SNIPPET.format(
        name=repr(str(packaged_models().get(model, model))),
        revision=repr(target.identity.revision),
        dtype=archive.manifest.dtype,
    )
    margin = summary["min_margin"]
    return _README.format(
        tokens=summary["tokens"],
        model=model,
        dtype=archive.manifest.dtype,
        snippet=snippet,
        margin="unknown" if margin is None else f"{margin:.3g}",
        guarded=summary["tokens_guarded"],
    )
