"""An archive as a repository of the Hub: the file and a card that says how to decode it."""

import shlex
from pathlib import Path
from typing import Any

from memcram import __version__
from memcram.archive.format import Archive
from memcram.files import ARCHIVE_SUFFIX, write_atomically

_CARD = """\
---
{metadata}
---

# {tokens} tokens as input vectors of {model}

`{name}` is a memcram archive: {vectors} trained input vectors, from which the frozen model decodes
a text of {bytes_in} bytes exactly. To restore it:

```sh
pip install memcram
memcram pull {repo}
memcram decompress {quoted} -o -
```

Decoding needs the model below; `--model` names it where it is stored under another name.
`memcram verify` measures how safely the archive decodes on another machine.

| model | |
|---|---|
{model_rows}

| metric | |
|---|---|
{metric_rows}

Trained with the recipe {recipe}, memcram {memcram} and torch {torch}. The text and the model may
have other licences than these vectors{stated}.
"""


def write_archive_repository(
    archive: Archive, name: str, folder: Path, repo: str, license_id: str | None
) -> None:
    """Write the archive and `README.md` to an empty folder.

    Args:
        archive: a checked archive.
        name: of its file.
        folder: where to write.
        repo: `OWNER/NAME`, named in the card.
        license_id: identifier for the card; None states none.
    """
    write_atomically(folder / name, archive.to_bytes())
    card = archive_card(archive, name, repo, license_id)
    (folder / "README.md").write_text(card, encoding="utf-8")


def archive_card(archive: Archive, name: str, repo: str, license_id: str | None) -> str:
    """Return the model card of an archive, Markdown after YAML metadata."""
    from huggingface_hub import ModelCardData

    made, summary = archive.manifest, archive.summary()
    metadata = ModelCardData(
        # Only a model of the Hub has a revision.
        base_model=made.model.id if made.model.revision else None,
        library_name="memcram",
        license=license_id,
        tags=["memcram", "soft-prompt", "prompt-compression"],
    )
    model = {
        "model": made.model.id,
        "revision": made.model.revision,
        "fingerprint": made.model.fingerprint,
        "dtype": made.dtype,
        "layout": made.layout,
        "SHA-256 of the text": made.text.sha256,
    }
    return _CARD.format(
        metadata=metadata.to_yaml().strip(),
        repo=repo,
        name=name,
        quoted=shlex.quote(name),
        model=code(made.model.id),
        model_rows=rows(model),
        metric_rows=rows(summary),
        recipe=code(made.recipe.get("name", "unknown")),
        memcram=code(made.versions.get("memcram", __version__)),
        torch=code(made.versions.get("torch", "unknown")),
        stated="" if license_id else "; for these, none is stated",
        **{key: summary[key] for key in ("tokens", "vectors", "bytes_in")},
    )


def rows(values: dict[str, Any]) -> str:
    """Format names and values as rows of a Markdown table."""
    return "\n".join(f"| {name} | {code(value)} |" for name, value in values.items())


def code(value: object) -> str:
    """Format a value for Markdown so that nothing in it is markup."""
    if isinstance(value, float):
        value = f"{value:.4g}"
    text = "none" if value is None else str(value)
    text = "".join(one if one.isprintable() else " " for one in text)  # a row is one line
    return "`" + text.replace("`", "'").replace("|", "¦") + "`"


def archives_in(files: list[str]) -> list[str]:
    """Select the names of archives at the top of a repository that are safe as file names."""
    safe = [one for one in files if one.isprintable() and not set(one) & set("/\\:")]
    return sorted(one for one in safe if one.endswith(ARCHIVE_SUFFIX))
