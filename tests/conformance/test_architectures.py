"""Every causal-LM architecture of transformers round-trips or is refused when it is loaded."""

from pathlib import Path

import pytest
import transformers
from architectures import MODEL_TYPES, try_out
from sweep import documented

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
DOCUMENTED = documented(PAGE.read_text(encoding="utf-8"))
# One type per mechanism; the others are slow.
SAMPLE = {
    "gpt2": "learned positions",
    "bloom": "positions as biases",
    "mpt": "a limit of positions under another name",
    "whisper": "decoder of an encoder-decoder",
    "modernbert-decoder": "a layer before the linear map of the head",
    "llama4_text": "attention in chunks, another base model than the config names",
    "gpt_oss": "experts, attention sinks",
    "deepseek_v3": "latent attention",
    "gemma3n_text": "inputs per layer, layers that share keys and values",
    "falcon_h1": "attention and state space side by side, a scaled head",
    "mamba2": "state space",
    "qwen3_next": "gated delta rule",
    "xlstm": "a cache that cannot drop texts, a capped head",
    "mllama": "a config with a vision part",
    "bert": "bidirectional",
    "minimax": "a cache that keeps the state of dropped texts",
    "bamba": "a cache without positions",
    "ctrl": "overwrites its inputs",
    "cpmant": "needs token ids",
    "rwkv": "no cache under the usual names",
    "musicgen": "cannot be made from its config",
}


def test_page_lists_every_type():
    if f"transformers {transformers.__version__} " not in PAGE.read_text(encoding="utf-8"):
        pytest.skip("docs/architectures.md was written with another version of transformers")
    assert tuple(DOCUMENTED) == MODEL_TYPES
    assert set(DOCUMENTED.values()) == {"supported", "refused", "not built"}
    assert set(SAMPLE) < set(DOCUMENTED)


@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.slow)
        for name in DOCUMENTED
        if DOCUMENTED[name] != "not built"
    ],
)
@pytest.mark.filterwarnings("ignore")  # of transformers, about configs and slow paths
def test_result_is_as_documented(model_type, tmp_path):
    outcome = try_out(model_type, tmp_path)
    assert outcome.status == DOCUMENTED[model_type], outcome.reason
