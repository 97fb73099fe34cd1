"""Wrap a frozen LM: ids → embeddings → hidden states → logits, with its properties."""

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import masking_utils

from memcram.errors import TextError, UsageError
from memcram.models.accounting import input_length, room
from memcram.models.caches import takes_padding
from memcram.models.decoding import greedy
from memcram.models.families import decoder_layers, max_positions, split
from memcram.models.linear import freeze_linears
from memcram.models.modes import DTYPE_NAMES, Layout


@dataclass(frozen=True)
class ModelIdentity:
    """Identity of a model.

    Attributes:
        id: the name the user gave.
        revision: the hub commit; None for packaged and local models.
        fingerprint: SHA-256 over what decides logits and tokens (`models/fingerprint.py`).
        layers: how many of the first layers were kept, which changes the fingerprint; None for
            the whole model.
        earlier_fingerprint: the fingerprint that earlier versions computed for these files, where
            it differs; archives made by them are still readable.
    """

    id: str
    revision: str | None
    fingerprint: str
    layers: int | None = None
    earlier_fingerprint: str | None = field(default=None, compare=False)

    def matches(self, fingerprint: str) -> bool:
        """Whether a fingerprint is that of this model, by the current or an earlier rule."""
        return fingerprint in (self.fingerprint, self.earlier_fingerprint)

    def as_before(self) -> "ModelIdentity":
        """The same identity with the fingerprint of earlier versions."""
        earlier = self.earlier_fingerprint or self.fingerprint
        return replace(self, fingerprint=earlier, earlier_fingerprint=None)


class _Shared:
    """Context manager for process-wide flags that several threads may need at once.

    The first thread to enter sets the flags and the last to leave restores them.

    Args:
        make: returns the context that sets and restores the flags.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._users = 0
        self._context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._context = self._make()
                self._context.__enter__()
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._context.__exit__(None, None, None)


# torch's fused attention for CPUs rounds a row differently by the size of its batch; the plain
# implementation does not, and is as fast (docs/decisions/003-batch-independence.md). `sdpa_kernel`
# sets flags of the whole process.
_plain_attention = _Shared(partial(sdpa_kernel, SDPBackend.MATH))


@contextlib.contextmanager
def _one_text_per_row() -> Iterator[None]:
    """Make transformers skip its search for several texts packed in one row.

    In every forward pass it reads the position ids, so the host waits for the device.
    """
    name = "find_packed_sequence_indices"
    before = getattr(masking_utils, name)
    setattr(masking_utils, name, lambda position_ids: None)
    try:
        yield
    finally:
        setattr(masking_utils, name, before)


_unpacked = _Shared(_one_text_per_row)


class FrozenLM:
    """A causal LM in eval mode with frozen weights; load one with `load_lm`.

    Everything the rest of the package needs to know about a model is an attribute here; no other
    module reads the config.

    Attributes:
        identity: id, revision, fingerprint.
        input_width: coordinates of an input vector, which may differ from the hidden size.
        hidden_size: coordinates of the states between layers.
        vocab_size: rows of the output head.
        embedding_rows: rows of the input embedding, usually equal to `vocab_size`.
        max_positions: longest input the model was built for; None without a limit (Mamba).
        bos_id: id of the BOS token, or None.
        layout: what is between `[mem]` and t₁: `mem` (nothing) or `mem+bos`.
        prefix: (0 or 1, input_width) input vectors between `[mem]` and t₁.
        parameters, layers: how many the model has.
        dtype, device: of weights, vectors and (without `autocast`) computation.
        autocast: dtype that matrix products are cast to, or None.
        embedding_std: standard deviation of the input vectors of the whole vocabulary.
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
        freeze_linears(self.module)
        self.tokenizer = tokenizer
        self.identity = identity
        self._parts = split(self.module)
        self._copies: dict[torch.dtype | Literal["compiled"], FrozenLM] = {}
        self._embedding = self.module.get_input_embeddings()
        config = self.module.config.get_text_config()
        self.input_width: int = self._embedding.weight.shape[1]
        self.hidden_size: int = getattr(config, "hidden_size", self.input_width)
        self.embedding_rows: int = self._embedding.weight.shape[0]
        self.vocab_size: int = self.module.get_output_embeddings().weight.shape[0]
        self.max_positions = max_positions(config)
        bos = tokenizer.bos_token_id
        self.bos_id: int | None = bos if bos is not None else config.bos_token_id
        self.parameters: int = sum(p.numel() for p in self.module.parameters())
        self.layers: int = config.num_hidden_layers
        self.dtype: torch.dtype = self._embedding.weight.dtype
        self.device: torch.device = self._embedding.weight.device
        self.autocast = autocast
        if layout == "mem+bos" and self.bos_id is None:
            raise UsageError(
                f"'mem+bos' needs a BOS token, and {identity.id} has none", argument="layout"
            )
        self.layout: Layout = layout
        prefix = [self.bos_id] if layout == "mem+bos" else []
        self.prefix: Tensor = self.embed(torch.tensor(prefix, dtype=torch.long))
        # Gemma's embedding scales what it looks up.
        scale = float(getattr(self._embedding, "embed_scale", 1.0))
        self.embedding_std: float = scale * self._embedding.weight.float().std().item()

    def in_dtype(self, dtype: torch.dtype) -> "FrozenLM":
        """The same model with weights of another dtype; each copy is made once and kept.

        Buffers such as rotary frequencies keep their precision.
        """
        if dtype == self.dtype:
            return self
        if dtype not in self._copies:
            # Parameters are cast one by one, so the copy is never in memory in both dtypes.
            cast: dict[int, Any] = {
                id(one): nn.Parameter(one.to(dtype), requires_grad=False)
                for one in self.module.parameters()
            }
            other = self._copy(cast)
            other.dtype, other.prefix = dtype, self.prefix.to(dtype)
            self._copies[dtype] = other
        return self._copies[dtype]

    def compiled(self) -> "FrozenLM":
        """The same model, and the same weights, with compiled decoder layers; made once and kept.

        torch compiles the layers when they first run, and again for other shapes.

        Raises:
            ModelError: the decoder layers are not found.
        """
        if "compiled" not in self._copies:
            weights = chain(self.module.parameters(), self.module.buffers())
            other = self._copy({id(one): one for one in weights})
            for layer in decoder_layers(other._parts.trunk, self.layers):
                layer.forward = torch.compile(layer.forward)
            self._copies["compiled"] = other
        return self._copies["compiled"]

    def _copy(self, tensors: dict[int, Any]) -> "FrozenLM":
        """Copy the model, with `tensors` in place of those of its module, by their `id`."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module, tensors)
        other._parts = split(other.module)
        other._embedding = other.module.get_input_embeddings()
        other._copies = {}
        return other

    # -- text and tokens ------------------------------------------------------------------------

    def tokenize(self, text: str) -> list[int]:
        """Tokenize `text` without adding BOS or any other special token.

        Raises:
            TextError: the tokenizer gives a token that the model has no embedding or logit for.
        """
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        known = min(self.vocab_size, len(self._embedding.weight))
        if ids and max(ids) >= known:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise TextError(
                f"the tokenizer of {self.identity.id} gives token {max(ids)} ({token!r}), but "
                f"the model's vocabulary has {known} tokens",
                argument="text",
            )
        return ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """Convert `ids` to text: nothing skipped, nothing cleaned up."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    @cached_property
    def adds_bos(self) -> bool:
        """Whether the tokenizer adds a BOS token in front of a text by default."""
        ids = self.tokenizer("a", verbose=False)["input_ids"]
        return self.bos_id is not None and ids[:1] == [self.bos_id]

    @property
    def is_recurrent(self) -> bool:
        """Whether decoding keeps recurrent states (Mamba) in place of keys and values."""
        return self._parts.cache_argument != "past_key_values"

    @property
    def dtype_name(self) -> str:
        """Name of the dtype of weights and vectors, followed by that of autocast after a plus."""
        name: str = DTYPE_NAMES[self.dtype]
        return name if self.autocast is None else f"{name}+{DTYPE_NAMES[self.autocast]}"

    def input_length(self, vectors: int, n_tokens: int) -> int:
        """Positions of a text of `n_tokens` after K `vectors` under teacher forcing."""
        return input_length(vectors, len(self.prefix), n_tokens)

    def room(self, vectors: int) -> int | None:
        """Return the maximum number of tokens after K `vectors`; None without a limit.

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

    def logits(self, embeds: Tensor) -> Tensor:
        """Compute logits (batch, position, vocab_size) of the unmodified module, without gradients.

        `head(hidden(embeds))` computes the same in two parts.
        """
        with torch.no_grad(), self._modes():
            logits: Tensor = self.module(inputs_embeds=embeds, use_cache=False).logits
        return logits

    def embed(self, ids: Tensor) -> Tensor:
        """Embed `ids` (...) as the model itself does, to input vectors (..., input_width)."""
        with torch.no_grad():
            vectors: Tensor = self._embedding(ids.to(self.device))
        return vectors.to(self.dtype)

    def hidden(self, embeds: Tensor) -> Tensor:
        """Run the trunk: `embeds` (batch, position, input_width) to states (batch, position, d).

        Right-padding needs no mask under causal attention, so none is passed.
        """
        with self._modes():
            output = self._parts.trunk(inputs_embeds=embeds, use_cache=False)
        states: Tensor = output.last_hidden_state
        return states

    def head(self, hidden: Tensor) -> Tensor:
        """Compute logits (..., vocab_size) of hidden states (..., d)."""
        with self._modes():
            return self._parts.head(hidden)

    @property
    def has_sparse_margins(self) -> bool:
        """Whether `margins` may replace logits: not where half precision rounds the logits."""
        return self.autocast is None and self.dtype.itemsize >= 4

    def margins(self, hidden: Tensor, targets: Tensor, search: "FrozenLM | None" = None) -> Tensor:
        """Compute target logit minus best other logit, without all logits in memory.

        Args:
            hidden: (n, d) final hidden states.
            targets: (n,) ids.
            search: a copy in a lower precision that finds the best other token.

        Returns:
            (n,) in float32 or float64, with gradient to `hidden` through two logits per row.
        """
        return self._parts.head.margins(
            hidden, targets, None if search is None else search._parts.head
        )

    @cached_property
    def takes_padding(self) -> bool:
        """Whether texts that started at different times may share a decoding cache."""
        return takes_padding(self)

    def advance(
        self, embeds: Tensor, cache: Any, first: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Feed `embeds` (batch, position, input_width) after what `cache` holds (None: nothing).

        Args:
            embeds: input vectors.
            cache: as returned by the call before.
            first: (batch,) the first column of the cache that belongs to each text, whose
                positions count from there; None: all of it. Only if `takes_padding`.

        Returns:
            logits (batch, vocab_size) after the last position, and the new cache.
        """
        argument = self._parts.cache_argument
        options = {argument: cache}
        if first is not None:
            held = cache.get_seq_length()
            columns = torch.arange(held + embeds.shape[1], device=self.device)
            options["attention_mask"] = (columns >= first[:, None]).long()
            if self._parts.takes_positions:
                options["position_ids"] = columns[held:] - first[:, None]
        with torch.no_grad(), self._modes():
            output = self._parts.trunk(inputs_embeds=embeds, use_cache=True, **options)
            logits = self.head(output.last_hidden_state[:, -1])
        return logits, getattr(output, argument)

    def generate(self, mem: Tensor, n_tokens: int, prefix: Sequence[int] = ()) -> Tensor:
        """Decode greedily and free-running from `[mem]` alone.

        Args:
            mem: (K, input_width), or (batch, K, input_width) for many at once.
            n_tokens: how many tokens to decode.
            prefix: ids of visible tokens that are fed first, and not returned.

        Returns:
            ids (n_tokens,), or (batch, n_tokens).

        Examples:
            >>> import torch, memcram
            >>> lm = memcram.load_lm("pocket")
            >>> lm.generate(torch.zeros(1, lm.input_width), n_tokens=3).shape
            torch.Size([3])
        """
        batch = mem if mem.dim() == 3 else mem.unsqueeze(0)
        visible = [torch.tensor(prefix, dtype=torch.long)] * len(batch)
        decoded = greedy(self, list(batch), [n_tokens] * len(batch), prefixes=visible)
        ids = torch.stack([one.ids for one in decoded])
        return ids if mem.dim() == 3 else ids[0]

    # -- inside ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            on_cpu = self.device.type == "cpu"
            stack.enter_context(_plain_attention if on_cpu else _unpacked)
            if self.autocast is not None:
                stack.enter_context(torch.autocast(self.device.type, self.autocast))
            yield
