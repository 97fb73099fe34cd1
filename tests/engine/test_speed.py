"""Measure the cost of optimiser steps."""

import memcram
from memcram import CramRequest, Engine
from memcram.engine.speed import text_steps_per_second


def test_no_text_is_finished_while_steps_are_timed(pocket, prose, monkeypatch):
    def finished(run, recipe, ended):
        assert not ended
        return iter(())

    monkeypatch.setattr("memcram.engine.loop.finished", finished)
    engine = Engine(pocket, memcram.get_recipe("default"), compute_dtype="bfloat16")
    requests = [CramRequest(i, prose[i : i + 8]) for i in range(2)]
    rate, texts = text_steps_per_second(engine, requests, polls=3)
    assert rate > 0
    assert texts == 2
