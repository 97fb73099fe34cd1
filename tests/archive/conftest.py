"""Prints what became of the mutated archives, region by region, at the end of the run."""


def pytest_terminal_summary(terminalreporter):
    tables: dict[int, list[tuple[str, int, int]]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "mutations":
                count, *row = value
                tables.setdefault(count, []).append(tuple(row))
    for count, rows in tables.items():
        terminalreporter.section(f"{count:,} mutated archives")
        terminalreporter.line(f"{'region':<22}{'refused':>9}{'restored':>9}")
        totals = [sum(row[i] for row in rows) for i in (1, 2)]
        for region, refused, restored in [*rows, ("all", *totals)]:
            terminalreporter.line(f"{region:<22}{refused:>9}{restored:>9}")
