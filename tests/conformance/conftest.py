"""Print the conformance table, family × check, at the end of the run."""

import pytest

COLUMN = "conformance "


@pytest.fixture
def note(request, record_property):
    """Return a function that adds a measured value to the table: `note(column, value)`.

    Values are properties of the test's report, so that those of parallel workers arrive too.
    """
    family = request.getfixturevalue("family")

    def write(column, value):
        text = f"{value:.0e}" if isinstance(value, float) else str(value)
        record_property(COLUMN + column, (family, text))

    return write


def pytest_terminal_summary(terminalreporter):
    table: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name.startswith(COLUMN):
                    family, text = value
                    column = name.removeprefix(COLUMN)
                    columns += [column] * (column not in columns)
                    row = table.setdefault(family, {})
                    row[column] = text if outcome == "passed" else f"{text} FAILED"
    if not table:
        return
    first = max(len(family) for family in table)
    widths = {
        column: max(len(column), *(len(row.get(column, "-")) for row in table.values()))
        for column in columns
    }
    terminalreporter.section("conformance: largest |difference| in float64, unless said otherwise")
    head = "  ".join(f"{column:>{width}}" for column, width in widths.items())
    terminalreporter.line(f"{'family':<{first}}  {head}")
    for family, row in table.items():
        cells = "  ".join(f"{row.get(column, '-'):>{width}}" for column, width in widths.items())
        terminalreporter.line(f"{family:<{first}}  {cells}")
