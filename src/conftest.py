"""Leave modules that import an extra out of the doctests where it is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("gradio") else ["memcram/ui/layout.py", "memcram/ui/server.py"]
