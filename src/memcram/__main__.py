"""`python -m memcram`."""

from memcram.cli import main

main()
