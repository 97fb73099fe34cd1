"""Write the README.md card of a trained model from the records of its run and evaluation.

    python -m training.pocket.card MODEL --run RUN/run.json --quality Q.json [--horizons H.json]

The horizons file is a JSON list of objects with the keys k (vectors), mean and sd (tokens),
texts (how many) and recipe (its name); without it the card says that none was measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from training.pocket import model as models

FAMILY = {"llama": "Llama", "neox": "GPT-NeoX", "mamba": "Mamba"}


def shape_line(folder: Path) -> str:
    """Architecture, sizes and parameters of a model folder in one sentence."""
    net = models.read(folder)
    config = net.config
    count = sum(p.numel() for p in net.parameters()) / 1e6
    parts = [f"width {config.hidden_size}", f"{config.num_hidden_layers} layers"]
    if config.model_type != "mamba":
        parts += [
            f"{config.num_attention_heads} heads",
            f"feed-forward {config.intermediate_size}",
        ]
    return f"`{type(net).__name__}`: {', '.join(parts)}, tied embeddings, {count:.2f} M parameters"


def horizon_rows(horizons: list[dict[str, Any]]) -> list[str]:
    """One table row per measured number of vectors."""
    return [
        f"| horizon, K = {row['k']} | {row['mean']:.1f} tokens (sd {row['sd']:.1f} over "
        f"{row['texts']} unseen passages, recipe `{row['recipe']}`) |"
        for row in horizons
    ]


def training_line(run: dict[str, Any]) -> str:
    """Start, optimiser, schedule, tokens and time of a run in one sentence."""
    rates, batching, at = run["optimising"], run["batching"], run["position"]
    start = f"grown from `{run['grown_from']}`" if run["grown_from"] else "from random weights"
    lengths = ", ".join(str(n) for n in sorted(set(batching["lengths"])))
    return (
        f"{start}; {at['tokens'] / 1e6:.2f} million tokens in {at['steps']} steps of "
        f"{batching['step_tokens']}, {at['minutes']:.0f} minutes; Muon for the matrices (lr "
        f"{rates['muon_lr']}), AdamW for the rest (lr {rates['adamw_lr']}), bf16 autocast, "
        f"windows of {lengths} tokens (half of them beginning with `<|bos|>`), the last "
        f"{rates['decay']:.0%} of the run decays linearly to zero"
    )


def write_card(
    name: str,
    folder: Path,
    run: dict[str, Any],
    quality: dict[str, Any],
    horizons: list[dict[str, Any]],
    note: str = "",
) -> str:
    """The card as Markdown; `note` is added to the record of the run."""
    sample = quality["sample"]
    weights = (folder / "model.safetensors").stat().st_size
    longest = max(run["batching"]["lengths"])
    parent = run["grown_from"]
    inherited = f"; before that, what `{parent}` was trained on (see its card)" if parent else ""
    rows = [
        f"| architecture | {FAMILY[run['shape']['arch']]}, transformers {shape_line(folder)} |",
        f"| tokenizer | byte-level BPE, {run['shape']['vocabulary']} entries, id 0 = "
        "`<|bos|>` (also end and padding); any UTF-8 text round-trips |",
        f"| weights | bfloat16, {weights / 1e6:.1f} MB; meant to be loaded in float32 |",
        f"| positions | trained on windows of up to {longest} tokens: keep vectors and text "
        "together within that |",
        f"| data | {run['train_tokens'] / 1e6:.1f} million tokens of {run['train_books']} "
        "public-domain English books (Project Gutenberg), headers stripped, paragraphs "
        f"unwrapped; {len(run['held_out_books'])} whole books held out for the curve{inherited} |",
        f"| training | {training_line(run)}{'; ' + note if note else ''} |",
        f"| quality | {quality['nats_per_token']:.4f} nats per token, "
        f"{quality['bits_per_byte']:.4f} bits per byte on {len(quality['books'])} unseen books "
        f"({sample['windows']} windows of {sample['length']} tokens each, {quality['tokens']} "
        f"tokens, float32; standard error over books {quality['standard_error']:.3f} nats) |",
        *(horizon_rows(horizons) or ["| horizon | not measured |"]),
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            "A small English language model, trained with `training/pocket/`.",
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
            "Limits: it imitates nineteenth-century prose for a line or two, knows no "
            "facts, and no language but English. It repeats the views and the wording of the time "
            "of its books.",
            "",
        ]
    )


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--name", default=None, help="Name of the model; the folder's, unless given.")
@click.option("--run", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--quality", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--horizons", type=click.Path(exists=True, path_type=Path), default=None)
@click.option("--note", default="", help="Added to the record of the run.")
def main(
    folder: Path, name: str | None, run: Path, quality: Path, horizons: Path | None, note: str
) -> None:
    """Write README.md into the model folder FOLDER."""
    card = write_card(
        name or folder.resolve().name,
        folder,
        json.loads(run.read_text()),
        json.loads(quality.read_text()),
        json.loads(horizons.read_text()) if horizons else [],
        note,
    )
    (folder / "README.md").write_text(card)


if __name__ == "__main__":
    main()
