"""Attribute the time of a batch to its texts."""

from memcram.engine.loop import EngineStatus
from memcram.study.clock import Clock


def test_the_steps_of_a_second_run_of_the_engine_are_added():
    """After a failure the texts that are left go through another run, whose steps begin at 1."""
    clock = Clock(mean_positions=10.0)
    for _ in range(2):
        clock.begin()
        for steps in (1, 9):
            clock.observe(EngineStatus(0, active=2, waiting=0, tokens_correct=0, steps=steps))
        clock.pause()
    assert clock.counters()[1] == 2 * 2 * 9
