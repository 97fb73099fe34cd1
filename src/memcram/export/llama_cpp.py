"""Export archives of GGUF models to llama.cpp, which decodes them before they are accepted.

llama.cpp computes with the quantised weights and kernels of its own, so its logits differ from
those of the dequantised model. The exported files are therefore decoded with llama.cpp itself.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from memcram.archive.format import Archive
from memcram.errors import UsageError, require
from memcram.export import llama_cpp_decode
from memcram.export.base import check_plain_decoding, check_same_model
from memcram.export.llama_cpp_decode import Runtime
from memcram.export.readme import load_arguments, write_record
from memcram.export.transformers import prompt_embeds
from memcram.models import decoding
from memcram.models.frozen_lm import FrozenLM

SCRIPT = "decode.py"
_PROBED_TOKENS = 4

_README = """\
# {tokens} tokens as input vectors of {model} in llama.cpp

Each `chunk-*.safetensors` has `embd` (vectors, n_embd) in float32 and `pos` (vectors,), the fields
of `llama_batch`. Greedy decoding without BOS returns the chunk's tokens; the chunks in order are
the text. `export.json` has the number of tokens per chunk and the checksum of the text.

    pip install llama-cpp-python safetensors
    python {script} [MODEL.gguf]

`{script}` decodes all chunks, compares the checksum and prints the text. It was run on the machine
that wrote this folder, with llama-cpp-python {version} on the CPU. Another build, a GPU, another
number of threads or another type of KV cache rounds differently, and small margins can change a
token.
"""


@dataclass(frozen=True)
class LlamaCppExporter:
    """One safetensors file per chunk, and a script that decodes them with llama-cpp-python."""

    name: str = "llama-cpp"

    def check(self, archive: Archive, target: FrozenLM) -> None:
        """See `check_plain_decoding`; llama.cpp also needs a GGUF file.

        Raises:
            UsageError: llama-cpp-python is not installed, or the model is not a GGUF file.
        """
        check_same_model(archive, target)
        gguf_path(target)
        require("exports to llama.cpp", "llama_cpp", extra="llama-cpp", argument="runtime")
        check_plain_decoding(archive, target)

    def write(self, archive: Archive, target: FrozenLM, folder: Path) -> None:
        """Write `chunk-*.safetensors`, `decode.py`, `export.json` and `README.md`, and decode.

        Raises:
            UsageError: llama.cpp decodes the written files to another text.
        """
        gguf = gguf_path(target)
        chunks = [f"chunk-{number:05}.safetensors" for number in range(len(archive.mems))]
        positions = max(
            target.input_length(len(mem), n) + 1
            for mem, n in zip(archive.mems, archive.chunk_tokens, strict=True)
        )
        runtime = open_runtime(gguf, positions)
        try:
            scale = find_scale(target, runtime)
            for file, mem in zip(chunks, archive.mems, strict=True):
                safetensors.numpy.save_file(as_batch(mem, target, scale), folder / file)
            _check_decoding(archive, target, runtime, [folder / file for file in chunks])
        finally:
            runtime.close()
        write_record(
            archive, target, folder, chunks, gguf=str(gguf), positions=positions, scale=scale
        )
        shutil.copyfile(llama_cpp_decode.__file__, folder / SCRIPT)
        readme = _README.format(
            tokens=archive.manifest.text.tokens,
            model=gguf.name,
            script=SCRIPT,
            version=runtime.version,
        )
        (folder / "README.md").write_text(readme, encoding="utf-8")


def gguf_path(target: FrozenLM) -> Path:
    """Return the path of a model's GGUF file.

    Raises:
        UsageError: the model was not loaded from one.
    """
    name, options = load_arguments(target)
    if "gguf_file" not in options:
        raise UsageError(
            f"made with {target.identity.id}, and llama.cpp runs GGUF files; compress with one",
            argument="archive",
        )
    return Path(name) / options["gguf_file"]


def open_runtime(gguf: Path, positions: int) -> Runtime:
    """Load a GGUF file into llama.cpp.

    Raises:
        UsageError: llama.cpp does not load it.
    """
    try:
        return Runtime(gguf, positions)
    except OSError as error:
        raise UsageError(str(error), argument="archive") from error


def find_scale(target: FrozenLM, runtime: Runtime) -> float:
    """Measure the factor by which vectors of `target` must be multiplied for llama.cpp.

    Gemma's embeddings are multiplied by √width: in transformers inside the embedding module, so
    that `mem` is not scaled again; in llama.cpp after it, and for some versions of Gemma vectors
    are multiplied as well. A few tokens are fed as ids and, scaled in both ways, as vectors.

    Returns:
        1, or the inverse of the model's embedding scale.
    """
    ids = torch.arange(_PROBED_TOKENS) + target.embedding_rows // 2
    embedded = target.embed(ids)
    rows = target.module.get_input_embeddings().weight[ids.to(target.device)].to(embedded.dtype)
    own = float(embedded.norm() / rows.norm())
    if abs(own - 1) < 1e-3:
        return 1.0
    positions = list(range(len(ids)))
    wanted = runtime.logits(ids.numpy(), positions)
    vectors = embedded.float().cpu().numpy()

    def difference(scale: float) -> float:
        return float(np.abs(runtime.logits(vectors * scale, positions) - wanted).max())

    return min((1.0, 1 / own), key=difference)


def as_batch(mem: Tensor, target: FrozenLM, scale: float) -> dict[str, np.ndarray]:
    """Return a chunk's fields of `llama_batch`: `embd` (n, width) float32 and `pos` (n,) int32.

    Args:
        mem: (K, width) vectors of the chunk.
        target: their model; the BOS of its layout follows the vectors.
        scale: see `find_scale`.
    """
    embd = prompt_embeds(mem, target).float().cpu().numpy() * np.float32(scale)
    return {"embd": embd, "pos": np.arange(len(embd), dtype=np.int32)}


def _check_decoding(
    archive: Archive, target: FrozenLM, runtime: Runtime, files: list[Path]
) -> None:
    """Decode the written files with llama.cpp.

    Raises:
        UsageError: a token or the text differs.
    """
    decoded = decoding.greedy(target, archive.mems, archive.chunk_tokens)
    wrong, ids = 0, []
    for file, one in zip(files, decoded, strict=True):
        found = runtime.decode(**safetensors.numpy.load_file(file), n_tokens=len(one.ids))
        wrong += found != one.ids.tolist()
        ids += found
    if wrong:
        raise UsageError(
            f"llama.cpp decodes {wrong} of {len(files)} chunks to other tokens, because its "
            "kernels round differently; compress with a larger margin, such as 1",
            argument="archive",
        )
    if hashlib.sha256(runtime.text(ids)).hexdigest() != archive.manifest.text.sha256:
        raise UsageError(
            "llama.cpp decodes the same tokens, but its tokenizer gives another text",
            argument="archive",
        )
