"""Make a store of plausible rows."""

from memcram.recipes.catalogue import get_recipe
from memcram.study.planned import CellLabel, PlannedTask
from memcram.study.results import ResultRow
from memcram.study.store import Store

SPEC = """
name = "{name}"
kind = "capacity"
models = ["pocket"]
vectors = [1]
lengths = [16, 64]
samples = 2
steps = {steps}

[[texts]]
name = "random"
source = "random-words"
"""


def planned(task, source):
    """A task of the one recipe."""
    cell = CellLabel("pocket", "", "default", source, 16, 1)
    return PlannedTask(task, source, None, 1, "default", None, cell)


def make_store(folder, name, rows, records, steps=300, pending=0, recorded=True, **changes):
    """A store of these rows, with so many tasks that have none yet.

    Its run noted the settings of `default` with these `changes`; `recorded=False`: none, as of old.
    """
    store = Store.create(folder / f"{name}.study", SPEC.format(name=name, steps=steps), folder)
    named = rows.assign(study=name).astype(object)
    kept = [ResultRow(**row) for row in named.to_dict("records")]
    tasks = [(row.task, row.source) for row in kept]
    tasks += [(f"{name}{i}", "random") for i in range(pending)]
    store.plan(name, 0, [planned(*task) for task in tasks])
    recipe = get_recipe("default").with_steps(steps)
    noted = {"recipes": {"default": recipe.settings() | changes}} if recorded else {}
    run = store.begin_run({"spec": "told once", "threads": 1} | noted)
    store.add([(row, records[row.task]) for row in kept], run)
    store.close()
    return store.folder
