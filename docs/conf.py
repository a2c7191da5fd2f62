"""Sphinx configuration: guide, gallery made from runnable examples, architecture."""

import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import oncoscale
from oncoscale.agents.effects import differences_lines
from oncoscale.agents.explain import explain, wrapped_all
from oncoscale.linkage.mappings import as_rst, elements_as_rst, gaps_as_rst

project = "oncoscale"
author = "The oncoscale developers"
copyright = "2026, the oncoscale developers"
release = oncoscale.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_gallery.gen_gallery"]
html_theme = "furo"
exclude_patterns = ["_build", "_generated", "gallery", "sg_execution_times.rst"]
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

generated = Path(__file__).parent / "_generated"
generated.mkdir(exist_ok=True)
(generated / "neuroblastoma.txt").write_text(explain(), encoding="utf-8")
(generated / "differences.txt").write_text("\n".join(wrapped_all(differences_lines())) + "\n", encoding="utf-8")
(generated / "mappings.rst").write_text(as_rst(), encoding="utf-8")
(generated / "gaps.rst").write_text(gaps_as_rst(), encoding="utf-8")
(generated / "common-data-elements.rst").write_text(elements_as_rst(), encoding="utf-8")
