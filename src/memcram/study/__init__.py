"""Studies: measure a grid of texts, lengths and vectors, each cell once, and keep the results."""

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
