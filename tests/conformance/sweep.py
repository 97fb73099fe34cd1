"""Write docs/architectures.md: what becomes of every causal-LM architecture of transformers.

`make architectures` runs it, in some minutes. Each architecture has a process of its own, so that
none can stop the others.
"""

import multiprocessing
import re
import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from pathlib import Path

import transformers
from architectures import MODEL_TYPES, Outcome, try_out

SECONDS = 120  # after which an architecture counts as hanging
_TRIED = (
    "transformers {} has {} types of causal language models. Each was tried with a tiny model with "
    "random weights: load it, run the longest input, cram a text of 17 tokens in two chunks, write "
    "the archive, read it, decode it."
)
_DECIDED = (
    "Support is decided by checks when a model is loaded, not by a list of names: an architecture "
    "that is not in this table works if it passes them. Types such as `bert`, whose default config "
    "is that of an encoder, were tried with that config and are refused."
)
_MADE = (
    "`make architectures` writes this page; `tests/conformance/test_architectures.py` checks it."
)
_ROW = re.compile(r"^\| `(?P<type>[^`]+)` \| `[^`]+` \| (?P<status>[a-z ]+)(: .*)? \|$", re.M)


def documented(text: str) -> dict[str, str]:
    """Status of each model type in the table of a page."""
    return {row["type"]: row["status"] for row in _ROW.finditer(text)}


def main(path: Path) -> int:
    """Write the page; the exit code is 1 if an architecture fails."""
    outcomes = {}
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        for model_type in MODEL_TYPES:
            with context.Pool(1) as pool:
                waiting = pool.apply_async(_quiet_try_out, (model_type, Path(folder) / model_type))
                try:
                    outcomes[model_type] = waiting.get(SECONDS)
                except multiprocessing.TimeoutError:
                    outcomes[model_type] = Outcome("fails", f"no end after {SECONDS} s", "?")
            print(model_type, outcomes[model_type].status, flush=True)  # noqa: T201
    path.write_text(page(outcomes), encoding="utf-8")
    return int(any(outcome.status == "fails" for outcome in outcomes.values()))


def _quiet_try_out(model_type: str, folder: Path) -> Outcome:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return try_out(model_type, folder)
    except Exception as error:  # noqa: BLE001 - the tiny model itself could not be made
        return Outcome("fails", f"building: {error!r}", "?")


def page(outcomes: dict[str, Outcome]) -> str:
    """The page in Markdown."""
    by_status = Counter(outcome.status for outcome in outcomes.values())
    reasons = Counter(_kind(o) for o in outcomes.values() if o.status == "refused")
    lines = [
        "# Architectures",
        "",
        textwrap.fill(_TRIED.format(transformers.__version__, len(outcomes)), 100),
        "",
        "| result | types | meaning |",
        "|---|---|---|",
        f"| supported | {by_status['supported']} | the same bytes came back |",
        f"| refused | {by_status['refused']} | `load_lm` raises `ModelError`, in one line |",
        f"| not built | {by_status['not built']} | no tiny model could be made here |",
        *[f"| fails | {n} | a defect of memcram |" for n in [by_status["fails"]] if n],
        "",
        textwrap.fill(_DECIDED, 100),
        "",
        "Reasons for refusal:",
        "",
        "| reason | types |",
        "|---|---|",
        *[f"| {reason} | {n} |" for reason, n in reasons.most_common()],
        "",
        textwrap.fill(_MADE, 100),
        "",
        "| type | class | result |",
        "|---|---|---|",
        *[_row(model_type, outcome) for model_type, outcome in outcomes.items()],
    ]
    return "\n".join(lines) + "\n"


def _row(model_type: str, outcome: Outcome) -> str:
    reason = outcome.reason.removeprefix(f"{outcome.class_name} ").replace("|", "\\|")
    result = outcome.status + (f": {reason}" if reason else "")
    return f"| `{model_type}` | `{outcome.class_name}` | {result} |"


def _kind(outcome: Outcome) -> str:
    """A reason without the class and what is in parentheses."""
    return outcome.reason.removeprefix(f"{outcome.class_name} ").split(" (")[0]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
