"""Decode crammed texts greedily with llama.cpp; needs llama-cpp-python, numpy and safetensors.

    python decode.py [MODEL.gguf]

`memcram export llama-cpp` copies this file, as decode.py, next to the vectors that it decodes. It
does not need memcram.
"""

import ctypes
import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

try:
    import llama_cpp
except ImportError:  # `Runtime` says what to install
    llama_cpp = None


class Runtime:
    """A GGUF model in llama.cpp.

    Args:
        gguf: path of the model.
        positions: maximum positions of a chunk: its vectors and tokens.

    Raises:
        OSError: llama-cpp-python is not installed, or llama.cpp can't load the model.
    """

    def __init__(self, gguf: str | Path, positions: int) -> None:
        if llama_cpp is None:
            raise OSError("llama-cpp-python is not installed")
        self.version: str = llama_cpp.__version__
        logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), settings)
        if not self._model:
            raise OSError(f"llama.cpp can't load {str(gguf)!r}")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.vocab_size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.width: int = llama_cpp.llama_model_n_embd(self._model)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = positions
        settings.n_threads = settings.n_threads_batch = max(1, (os.cpu_count() or 1) // 2)
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise OSError(f"llama.cpp can't run {str(gguf)!r} with {positions} positions")

    def close(self) -> None:
        """Free the model's memory."""
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def logits(self, tokens_or_vectors: Any, positions: Any) -> np.ndarray:
        """Feed ids (n,) or vectors (n, width); return the logits (vocabulary,) after the last.

        No BOS is added. Position 0 begins a new text.
        """
        if positions[0] == 0:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        rows = np.asarray(tokens_or_vectors)
        n = len(rows)
        batch = llama_cpp.llama_batch_init(n, self.width if rows.ndim == 2 else 0, 1)
        try:
            if rows.ndim == 2:
                rows = np.ascontiguousarray(rows, dtype=np.float32)
                ctypes.memmove(batch.embd, rows.ctypes.data, rows.nbytes)
            else:
                for i, token in enumerate(rows):
                    batch.token[i] = int(token)
            for i in range(n):
                batch.pos[i] = int(positions[i])
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = i == n - 1
            batch.n_tokens = n
            code = llama_cpp.llama_decode(self._context, batch)
        finally:
            llama_cpp.llama_batch_free(batch)
        if code:
            raise OSError(f"llama_decode failed with code {code}")
        values = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(values, shape=(self.vocab_size,)).copy()

    def decode(self, embd: np.ndarray, pos: np.ndarray, n_tokens: int) -> list[int]:
        """Return the ids of `n_tokens` tokens, each the argmax, after vectors (n, width).

        Args:
            embd: (n, width) vectors.
            pos: (n,) their positions.
            n_tokens: how many tokens to decode.
        """
        ids: list[int] = []
        logits = self.logits(embd, pos)
        while True:
            ids.append(int(logits.argmax()))
            if len(ids) == n_tokens:
                return ids
            logits = self.logits(ids[-1:], [int(pos[-1]) + len(ids)])

    def text(self, ids: list[int]) -> bytes:
        """Return the bytes of ids, special tokens included."""
        return b"".join(self._piece(token) for token in ids)

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        piece = llama_cpp.llama_token_to_piece
        size = piece(self._vocab, token, buffer, len(buffer), 0, True)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = piece(self._vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[:size]


def main() -> None:
    """Decode all chunks next to this file, compare the text's SHA-256, and print the text."""
    folder = Path(__file__).parent
    export = json.loads((folder / "export.json").read_text("utf-8"))
    gguf = sys.argv[1] if len(sys.argv) > 1 else export["gguf"]
    runtime = Runtime(gguf, export["positions"])
    ids: list[int] = []
    for chunk, n_tokens in export["chunks"].items():
        ids += runtime.decode(**load_file(folder / chunk), n_tokens=n_tokens)
    text = runtime.text(ids)
    if hashlib.sha256(text).hexdigest() != export["sha256"]:
        sys.exit("the decoded text differs from the one that was exported")
    sys.stdout.buffer.write(text)


if __name__ == "__main__":
    main()
