"""The packaged tables of what was printed and run."""

from memcram.metrics.published import published_grid, published_results


def test_a_row_of_the_grid_as_it_stands_in_the_file():
    (row,) = [
        row
        for row in published_grid()
        if (row.hf_id, row.text) == ("EleutherAI/pythia-6.9b", "books")
    ]
    assert row.lengths == (128, 256, 512, 768, 1024, 1280, 1568)
    assert (row.random_cap, row.n_mem) == (None, (1, 2))
    assert (row.dtype, row.flash, row.samples) == ("float16", True, 50)


def test_random_texts_have_a_cap_and_others_have_lengths():
    grid = published_grid()
    assert len(grid) == 36
    assert len({row.hf_id for row in grid}) == 16
    for row in grid:
        assert (row.text == "random") == (row.random_cap is not None) == (not row.lengths)
        assert list(row.lengths) == sorted(set(row.lengths))
        assert row.samples == (100 if row.text == "random" else 50)
        assert row.dtype in {"float32", "float16", "bfloat16"}


def test_printed_capacities_are_lengths_of_the_grid():
    grid = {(row.hf_id, row.text): row for row in published_grid()}
    texts = {"pg19": "books", "fanfics": "fanfics", "random": "random"}
    printed = [row for row in published_results() if row.quantity == "decoding_capacity"]
    assert len(printed) == 28
    for row in printed:
        cell = grid[row.hf_id, texts[row.text]]
        assert row.n_mem in cell.n_mem
        # Random texts are printed by their own length, so any up to the cap occurs.
        allowed = cell.lengths or range(2, cell.random_cap + 1)
        assert row.mean in allowed
