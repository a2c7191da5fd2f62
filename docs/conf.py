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
exclude_patterns = ["_build", "gallery/*.py"]
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "_build/gallery",
    "filename_pattern": "/plot_",
    "download_all_examples": False,
    "remove_config_comments": True,
}
autodoc_typehints = "description"
