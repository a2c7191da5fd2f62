"""Sphinx configuration: guide, gallery made from runnable examples, architecture."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import oncoscale

project = "oncoscale"
author = "The oncoscale developers"
copyright = "2026, the oncoscale developers"
release = oncoscale.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_gallery.gen_gallery"]
html_theme = "furo"
exclude_patterns = ["_build", "gallery", "sg_execution_times.rst"]
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": "/plot_",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
}
autodoc_typehints = "description"
