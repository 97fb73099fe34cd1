"""The local page `memcram ui`: a thin layer over the functions of the package.

`layout` and `server` alone import Gradio. No module here optimises or decodes anything itself.
"""
