"""Configuration of the documentation site, built by `make docs` into docs/_build/html."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "_extensions"), str(DOCS.parent / "src")]
os.environ.setdefault("KERAS_BACKEND", "jax")
# The notebooks run in their own processes, which must find the package too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DOCS.parent / "src"), os.environ.get("PYTHONPATH")]))
warnings.filterwarnings("ignore", category=DeprecationWarning)

import inna  # noqa: E402

project = "inna"
author = "The inna developers"
project_copyright = "The inna developers, MIT licence"
version = release = inna.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "accessible",
    "mathml",
    "public_names",
    "pictures",
    "summary",
]
exclude_patterns = ["_build", "_extensions", "_generated/*.md", "**/.ipynb_checkpoints", "*.py"]
html_theme = "furo"
html_title = f"inna {version}"
# The address of the repository, shown on every page; a site that is built without one has no such link.
REPOSITORY = os.environ.get("INNA_REPOSITORY", "").rstrip("/")
(DOCS / "_generated" / "alone").mkdir(parents=True, exist_ok=True)
html_static_path = ["_static"]
html_extra_path = ["_generated/alone"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_theme_options = {"light_css_variables": {"color-brand-primary": "#0067a3", "color-brand-content": "#0067a3"}}
if REPOSITORY:
    html_theme_options |= {"source_repository": f"{REPOSITORY}/", "source_branch": "main", "source_directory": "docs/"}
    html_theme_options["announcement"] = f'<a href="{REPOSITORY}">Repository</a>'
html_theme_options["dark_css_variables"] = {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"}
pygments_style = "a11y-light"
pygments_dark_style = "github-dark"

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Notebooks are run at each build, and a failing one stops it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_execution_show_tb = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Text in single backticks in a docstring is a name of the package if there is one, otherwise code.
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def skip_fields(app, what, name, member, skip, options):
    """Skip fields of named tuples: their own docstrings describe them, and the entries would be empty."""
    return True if type(member).__name__ == "_tuplegetter" else None


def show_defaults(app, what, name, obj, options, signature, result):
    """Write defaults that have no literal as the code does; the signature can then be parsed."""
    for shown, written in (("<factory>", "{}"), ("<built-in function warn>", "warnings.warn")):
        signature = signature.replace(shown, written) if signature else signature
    return signature, result


def keep_bars(app, what, name, member, options, lines):
    """Escape bars: here |x| is an absolute value, in reStructuredText a substitution."""
    example = False
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = line.split("``")
            lines[i] = "``".join(part if n % 2 else part.replace("|", r"\|") for n, part in enumerate(parts))


def setup(app):
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("autodoc-process-docstring", keep_bars)
