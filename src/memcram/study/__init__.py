"""Studies: measure a grid of texts, lengths and vectors, each cell once, and keep the results."""

from typing import TYPE_CHECKING

from memcram import lazy_attributes

if TYPE_CHECKING:
    from memcram.study.horizon import MeasuredHorizon, measure_horizons
    from memcram.study.named import NamedStudy, named_studies, spec_text
    from memcram.study.read import read_spec
    from memcram.study.results import ResultRow, TokenRecord, export_rows
    from memcram.study.runner import StudyProgress, open_store, run_study
    from memcram.study.spec import Spec
    from memcram.study.store import Store, gather

__all__ = [
    "MeasuredHorizon",
    "NamedStudy",
    "ResultRow",
    "Spec",
    "Store",
    "StudyProgress",
    "TokenRecord",
    "export_rows",
    "gather",
    "measure_horizons",
    "named_studies",
    "open_store",
    "read_spec",
    "run_study",
    "spec_text",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "MeasuredHorizon": "memcram.study.horizon",
        "NamedStudy": "memcram.study.named",
        "ResultRow": "memcram.study.results",
        "Spec": "memcram.study.spec",
        "Store": "memcram.study.store",
        "StudyProgress": "memcram.study.runner",
        "TokenRecord": "memcram.study.results",
        "export_rows": "memcram.study.results",
        "gather": "memcram.study.store",
        "measure_horizons": "memcram.study.horizon",
        "named_studies": "memcram.study.named",
        "open_store": "memcram.study.runner",
        "read_spec": "memcram.study.read",
        "run_study": "memcram.study.runner",
        "spec_text": "memcram.study.named",
    },
)


def __dir__() -> list[str]:
    return __all__
