"""The table `[probe]` of a spec, and what the kind `probe` requires of the rest."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from memcram.errors import UsageError
from memcram.study.probe_items import read_items
from memcram.study.spec import Spec


class ProbeSettings(BaseModel):
    """What a probe measures.

    Attributes:
        continuation: tokens after the passage.
        others: continuations of other texts that the true one is compared with.
        items: file of multiple-choice items, relative to the spec's folder.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    continuation: Annotated[int, Field(ge=2, le=2**20)] = 32
    others: Annotated[int, Field(ge=1, le=1000)] = 4
    items: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None


def settings_of(spec: Spec) -> ProbeSettings:
    """Return the table `[probe]` of a spec, or the defaults."""
    return spec.study.of_kind("probe") or ProbeSettings()


def check_spec(spec: Spec) -> None:
    """Check what a probe requires of other keys, and read its items.

    Raises:
        UsageError: names the key.
    """
    study, settings = spec.study, settings_of(spec)
    if study.prefix_tokens:
        raise spec.error(("prefix_tokens",), got=study.prefix_tokens, allowed="0 for 'probe'")
    for i, entry in enumerate(study.texts):
        samples = entry.samples or study.samples
        if samples <= settings.others:
            key = ("texts", i, "samples") if entry.samples else ("samples",)
            words = f"{settings.others + 1} or more with {settings.others} other continuations"
            raise spec.error(key, got=samples, allowed=words)
    if settings.items is not None:
        try:
            read_items(spec.folder / settings.items)
        except UsageError as error:
            raise spec.error_from(("probe", "items"), error) from error
