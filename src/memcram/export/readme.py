"""Write the two files that every export has: `export.json` and `README.md`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memcram.archive.format import Archive
from memcram.models.frozen_lm import FrozenLM
from memcram.models.sources import local_source

_README = """\
# {tokens} tokens as input vectors of {model}

{files}
Greedy decoding from a chunk's vectors alone returns its tokens; the chunks in order are the text.
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
{imports}
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = Path(".")  # the folder of this file
name, options = {name}, {options}
model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.{dtype}, **options).eval()
tokenizer = AutoTokenizer.from_pretrained(name, **options)
model.generation_config = GenerationConfig(do_sample=False)

export = json.loads((folder / "export.json").read_text())
ids = []
for chunk, n_tokens in export["chunks"].items():
{decode}
    ids += new[0].tolist()

text = ""
for n_tokens in export["pieces"]:  # tokens that are decoded to text together
    piece, ids = ids[:n_tokens], ids[n_tokens:]
    text += tokenizer.decode(piece, clean_up_tokenization_spaces=False)
assert hashlib.sha256(text.encode()).hexdigest() == export["sha256"]
print(text)
"""


@dataclass(frozen=True)
class Readme:
    """Parts of the README that differ between programs.

    Attributes:
        files: sentences that describe the files.
        imports: import lines of the code, other than those of torch and transformers.
        decode: indented lines that decode `n_tokens` tokens of the chunk `folder / chunk` with
            `model` and assign their ids (1, n_tokens) to `new`.
    """

    files: str
    imports: str
    decode: str

    def write(self, archive: Archive, target: FrozenLM, folder: Path, chunks: list[str]) -> None:
        """Write `export.json` and `README.md`.

        Args:
            archive: the archive that is exported.
            target: its model.
            folder: where to write.
            chunks: name of each chunk's file or folder in `folder`.
        """
        write_record(archive, target, folder, chunks)
        (folder / "README.md").write_text(self._text(archive, target), encoding="utf-8")

    def _text(self, archive: Archive, target: FrozenLM) -> str:
        summary = archive.summary()
        margin = summary["min_margin"]
        dtype = archive.manifest.dtype
        name, options = load_arguments(target)
        snippet = _SNIPPET.format(
            imports=self.imports,
            name=repr(name),
            options=repr(options),
            dtype=dtype,
            decode=self.decode.rstrip(),
        )
        return _README.format(
            tokens=summary["tokens"],
            model=target.identity.id,
            files=self.files.format(dtype=dtype).rstrip(),
            dtype=dtype,
            snippet=snippet,
            margin="unknown" if margin is None else f"{margin:.3g}",
            guarded=summary["tokens_guarded"],
        )


def write_record(
    archive: Archive, target: FrozenLM, folder: Path, chunks: list[str], **more: Any
) -> None:
    """Write `export.json`: model, dtype, layout, tokens per chunk, SHA-256 of the text.

    Args:
        archive: the archive that is exported.
        target: its model.
        folder: where to write.
        chunks: name of each chunk's file or folder in `folder`.
        more: what only one program needs.
    """
    made = archive.manifest
    record = {
        "model": target.identity.id,
        "revision": target.identity.revision,
        "fingerprint": made.model.fingerprint,
        "dtype": made.dtype,
        "layout": made.layout,
        "sha256": made.text.sha256,
        "pieces": archive.tensors.piece_tokens.tolist(),
        "chunks": dict(zip(chunks, archive.chunk_tokens, strict=True)),
        **more,
    }
    (folder / "export.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_arguments(target: FrozenLM) -> tuple[str, dict[str, str]]:
    """Return the name and options with which transformers loads a model from any directory.

    The name is the absolute path of a packaged or local model, or the hub id.
    """
    local = local_source(target.identity.id)
    if local is not None:
        return str(local.folder.absolute()), local.options
    revision = target.identity.revision
    return target.identity.id, {} if revision is None else {"revision": revision}
