"""The frozen LM as memcram sees it: ids → embeddings → hidden states → logits, and its facts."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from memcram.errors import ModelError, UsageError
from memcram.models.accounting import input_length, room
from memcram.models.decoding import greedy
from memcram.models.families import take_apart
from memcram.models.modes import DTYPE_NAMES, Layout


@dataclass(frozen=True)
class ModelIdentity:
    """Which model this is: `id` as the user named it, the hub `revision`, and a `fingerprint`.

    The fingerprint is a SHA-256 over what decides logits and tokens (`models/fingerprint.py`).
    Where only the first of its layers were kept, `layers` says how many, and the fingerprint is
    another one.
    """

    id: str
    revision: str | None
    fingerprint: str
    layers: int | None = None


class FrozenLM:
    """A causal LM in eval mode with frozen weights.

    Everything the rest of the package may know about a model is an attribute here; nobody else
    reads the config.

    Attributes:
        identity: id, revision, fingerprint.
        input_width: width of an input vector (where it differs from the hidden size, this one).
        vocab_size: rows of the output head.
        max_positions: longest input the model was built for, None if it has no limit (Mamba).
        bos_id: id of the BOS token, or None.
        layout: what stands between `[mem]` and t₁: `mem` (nothing) or `mem+bos`.
        dtype, device: of weights, vectors and (without `autocast`) computation.
        autocast: dtype that matrix products are cast to, or None.
        embedding_std: standard deviation over the input vectors of the whole vocabulary.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        identity: ModelIdentity,
        layout: Layout = "mem",
        autocast: torch.dtype | None = None,
    ) -> None:
        self.module: Any = module.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.identity = identity
        self._parts = take_apart(self.module)
        self._embedding = self.module.get_input_embeddings()
        config = self.module.config.get_text_config()
        self.input_width: int = self._embedding.weight.shape[1]
        self.vocab_size: int = self.module.get_output_embeddings().weight.shape[0]
        self.max_positions: int | None = getattr(config, "max_position_embeddings", None)
        bos = tokenizer.bos_token_id
        self.bos_id: int | None = bos if bos is not None else config.bos_token_id
        self.parameters: int = sum(p.numel() for p in self.module.parameters())
        self.layers: int = config.num_hidden_layers
        self.dtype: torch.dtype = self._embedding.weight.dtype
        self.device: torch.device = self._embedding.weight.device
        self.autocast = autocast
        if layout == "mem+bos" and self.bos_id is None:
            raise UsageError(f"layout: 'mem+bos' needs a BOS token, and {identity.id} has none")
        self.layout: Layout = layout
        prefix = [self.bos_id] if layout == "mem+bos" else []
        self.prefix: Tensor = self.embed(torch.tensor(prefix, dtype=torch.long))
        # Gemma's embedding scales what it looks up.
        scale = float(getattr(self._embedding, "embed_scale", 1.0))
        self.embedding_std: float = scale * self._embedding.weight.float().std().item()
        self._check_parts()

    # -- text and tokens ------------------------------------------------------------------------

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS or any other special token added."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """Text of `ids`: nothing skipped, nothing cleaned up."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    @cached_property
    def adds_bos(self) -> bool:
        """Whether the tokenizer by itself puts a BOS in front of a text."""
        ids = self.tokenizer("a", verbose=False)["input_ids"]
        return self.bos_id is not None and ids[0] == self.bos_id

    @property
    def dtype_name(self) -> str:
        """Dtype of weights and vectors, with that of autocast after a plus sign."""
        name: str = DTYPE_NAMES[self.dtype]
        return name if self.autocast is None else f"{name}+{DTYPE_NAMES[self.autocast]}"

    def input_length(self, vectors: int, n_tokens: int) -> int:
        """Positions of a text of `n_tokens` after K `vectors` under teacher forcing."""
        return input_length(vectors, len(self.prefix), n_tokens)

    def room(self, vectors: int) -> int | None:
        """Largest number of tokens that fit after K `vectors`; None without a limit.

        Raises:
            UsageError: K is less than 1, or leaves no room for a token.
        """
        if vectors < 1:
            raise UsageError(argument="vectors", got=vectors, allowed="1 or more")
        tokens = room(self.max_positions, vectors, len(self.prefix))
        if tokens is not None and tokens < 1:
            raise UsageError(
                argument="vectors",
                got=vectors,
                allowed=f"at most {vectors + tokens - 1} "
                f"({self.identity.id} has {self.max_positions} positions)",
            )
        return tokens

    # -- vectors and logits ---------------------------------------------------------------------

    def embed(self, ids: Tensor) -> Tensor:
        """Input vectors (..., input_width) of `ids` (...), as the model itself would embed them."""
        with torch.no_grad():
            vectors: Tensor = self._embedding(ids.to(self.device))
        return vectors.to(self.dtype)

    def hidden(self, embeds: Tensor) -> Tensor:
        """Final hidden states (batch, position, d) of `embeds` (batch, position, input_width).

        Right-padding needs no mask under causal attention, so none is passed.
        """
        with self._modes():
            output = self._parts.trunk(inputs_embeds=embeds, use_cache=False)
        states: Tensor = output.last_hidden_state
        return states

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocab_size) of hidden states (..., d)."""
        with self._modes():
            return self._parts.head(hidden)

    def advance(self, embeds: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Feed `embeds` (batch, position, input_width) after what `cache` holds (None: nothing).

        Returns:
            logits (batch, vocab_size) after the last position, and the new cache.
        """
        argument = self._parts.cache_argument
        with torch.no_grad(), self._modes():
            output = self._parts.trunk(inputs_embeds=embeds, use_cache=True, **{argument: cache})
            logits = self.head(output.last_hidden_state[:, -1])
        return logits, getattr(output, argument)

    def generate(self, mem: Tensor, n_tokens: int) -> Tensor:
        """Greedy free-running decoding from `[mem]` alone.

        Args:
            mem: (K, input_width), or (batch, K, input_width) for many at once.
            n_tokens: how many tokens to decode.

        Returns:
            ids (n_tokens,), or (batch, n_tokens).

        Example:
            >>> import torch, memcram
            >>> lm = memcram.load_lm("pocket")
            >>> lm.generate(torch.zeros(1, lm.input_width), n_tokens=3).shape
            torch.Size([3])
        """
        batch = mem if mem.dim() == 3 else mem.unsqueeze(0)
        decoded = greedy(self, list(batch), [n_tokens] * len(batch))
        ids = torch.stack([one.ids for one in decoded])
        return ids if mem.dim() == 3 else ids[0]

    # -- inside ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        # torch's fused attention for CPUs rounds a row by the length of its batch; the plain path
        # does not, and is as fast (benchmarks/attention.py).
        with contextlib.ExitStack() as stack:
            if self.device.type == "cpu":
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if self.autocast is not None:
                stack.enter_context(torch.autocast(self.device.type, self.autocast))
            yield

    def _check_parts(self) -> None:
        probe = self.embed(torch.zeros(1, 2, dtype=torch.long))
        with torch.no_grad(), self._modes():
            whole = self.module(inputs_embeds=probe, use_cache=False).logits.float()
        parts = self.head(self.hidden(probe)).float()
        if parts.shape != whole.shape or not torch.allclose(parts, whole, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"{self.identity.id}: {type(self.module).__name__} changes its logits in a way "
                "memcram does not know; please report the architecture"
            )
