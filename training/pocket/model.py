"""Configure a model of each architecture, and grow a trained Llama.

Growing preserves the function: the new dimensions of the residual stream start at zero, so the
wider model computes what the narrow one does, and training continues from the narrow model's loss.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from training.pocket.data import BOS_ID

HEAD = 64  # dimensions per head; growth adds whole heads and never changes it

Arch = Literal["llama", "neox", "mamba"]


@dataclass(frozen=True)
class Shape:
    """Size of a model; the rest of its configuration follows from it.

    `feed_forward` 0 means 8/3 of the width, rounded up to a multiple of 64 (Llama), four times
    the width (GPT-NeoX), and is not used by Mamba; `state`, per channel, is used by Mamba only.
    """

    arch: Arch
    width: int
    layers: int
    vocabulary: int
    feed_forward: int = 0
    positions: int = 1024
    state: int = 16

    def config(self) -> PretrainedConfig:
        """The transformers configuration of this shape, with tied embeddings."""
        if self.width % HEAD:
            raise ValueError(f"width={self.width} is not a multiple of {HEAD}")
        common = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "tie_word_embeddings": True,
            "bos_token_id": BOS_ID,
            "eos_token_id": BOS_ID,
        }
        if self.arch == "llama":
            return LlamaConfig(
                **common,
                intermediate_size=self.feed_forward or -(-self.width * 8 // (3 * 64)) * 64,
                num_attention_heads=self.width // HEAD,
                num_key_value_heads=self.width // HEAD,
                head_dim=HEAD,
                max_position_embeddings=self.positions,
                rms_norm_eps=1e-6,
            )
        if self.arch == "neox":
            return GPTNeoXConfig(
                **common,
                intermediate_size=self.feed_forward or 4 * self.width,
                num_attention_heads=self.width // HEAD,
                max_position_embeddings=self.positions,
            )
        return MambaConfig(**common, state_size=self.state, pad_token_id=BOS_ID)


CLASSES: dict[str, type[PreTrainedModel]] = {
    "llama": LlamaForCausalLM,
    "neox": GPTNeoXForCausalLM,
    "gpt_neox": GPTNeoXForCausalLM,
    "mamba": MambaForCausalLM,
}


def build(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """Build a float32 model with random weights that depend only on the seed."""
    torch.manual_seed(seed)
    return CLASSES[config.model_type](config).float()


def read(folder: Path) -> PreTrainedModel:
    """Load a model folder as a float32 model."""
    config = PretrainedConfig.get_config_dict(folder)[0]
    kind = CLASSES[config["model_type"]]
    return kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def save(model: PreTrainedModel, tokenizer: Path, out: Path) -> None:
    """Write the model in bfloat16, with the tokenizer files, as a folder for `AutoModel`."""
    out.mkdir(parents=True, exist_ok=True)
    small = CLASSES[model.config.model_type](model.config).to(torch.bfloat16)
    small.load_state_dict(model.state_dict())
    small.config.use_cache = True
    small.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # written readable by its owner only
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, out / name)


def matrices(model: PreTrainedModel) -> list[Tensor]:
    """The weights of the linear maps inside the layers: what Muon updates."""
    tied = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    linear = (m.weight for m in model.modules() if isinstance(m, nn.Linear))
    return [weight for weight in linear if id(weight) not in tied]


def grow(old: LlamaForCausalLM, shape: Shape, seed: int) -> LlamaForCausalLM:
    """A wider and deeper Llama that computes the same logits as `old`.

    With old width d and new width D, x' = (x, 0) holds at every layer:

    - rows that write to the new dimensions are zero, and so are the new embedding columns;
    - RMSNorm(x') over D dimensions is √(D/d) times RMSNorm(x), so its weights shrink by √(d/D)
      and its epsilon by d/D;
    - columns that read the new dimensions are random: they multiply zeros at first, and
      unlike copies of the old columns they make every new dimension different from the first step;
    - new heads and feed-forward units read at random and write zero; so do new layers, after
      the old ones.

    Source: the idea of function-preserving growth is Net2Net's (Chen et al., 2016, arXiv
    1511.05641). Deviation: new units are not copies of old ones.

    Raises:
        ValueError: the new shape is smaller somewhere, or its heads or vocabulary differ.
    """
    was = old.config
    config = shape.config()
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers"):
        if getattr(config, name) < getattr(was, name):
            raise ValueError(f"{name}: {getattr(was, name)} cannot grow to {getattr(config, name)}")
    for name in ("head_dim", "vocab_size"):
        if getattr(config, name) != getattr(was, name):
            raise ValueError(f"{name}: {getattr(was, name)} would become {getattr(config, name)}")
    ratio = was.hidden_size / config.hidden_size
    config.rms_norm_eps = was.rms_norm_eps * ratio
    config.rope_parameters = was.rope_parameters
    new = LlamaForCausalLM(config).float()
    source, target = old.state_dict(), new.state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in target.items():
        if name == "lm_head.weight":  # tied to the embeddings
            continue
        copied = source.get(name)
        like = copied if copied is not None else source[_of_last_layer(name, was)]
        tensor.copy_(_grown(name, like, copied is not None, tensor.shape, ratio, generator))
    new.load_state_dict(target)
    return new


def _of_last_layer(name: str, config: LlamaConfig) -> str:
    """The name of the same tensor in the old model's last layer."""
    head, _, rest = name.removeprefix("model.layers.").partition(".")
    assert head.isdigit()
    return f"model.layers.{config.num_hidden_layers - 1}.{rest}"


def _grown(
    name: str,
    old: Tensor,
    keep: bool,
    shape: torch.Size,
    ratio: float,
    generator: torch.Generator,
) -> Tensor:
    """One tensor of the grown model; `old` is copied if `keep`, else it only sets the scale."""
    if old.ndim == 1:  # RMSNorm weights
        new = torch.full(shape, float(old.mean()) * ratio**0.5)
        if keep:
            new[: len(old)] = old * ratio**0.5
        return new
    writes = name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight"))
    new = torch.zeros(shape) if writes else torch.randn(shape, generator=generator) * old.std()
    if keep:
        new[: old.shape[0], : old.shape[1]] = old
    return new
