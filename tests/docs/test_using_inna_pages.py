"""docs/using-inna-in-*.md: the examples run as they stand, every argument is there, and links lead somewhere."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path

import pytest

from keras_backends import BACKENDS, QUICK_AND_SLOW, in_a_process

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["using-inna-in-pytorch.md", "using-inna-in-jax.md", "using-inna-in-keras.md"]
# Each optimizer's arguments and their defaults, those that it hands on to Keras included.
KERAS_ARGUMENTS = """
import inspect, keras, inna.keras

def defaults(kind):
    return {name: p.default for name, p in inspect.signature(kind).parameters.items() if p.default is not p.empty}

handed_on = defaults(keras.optimizers.Optimizer)
print({name: handed_on | defaults(getattr(inna.keras, name)) for name in ("INNA", "INNAprop")})
"""


def text(page):
    return (DOCS / page).read_text(encoding="utf-8")


def examples(page):
    """The page as a program: its examples at their lines, and empty lines where it has words."""
    lines = []
    in_example = False
    for line in text(page).splitlines():
        if line.startswith("```"):
            in_example = line == "```python"
            line = ""
        lines.append(line if in_example else "")
    return "\n".join(lines)


# PyTorch's own compiler imports modules that PyTorch itself has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.parametrize(("page", "needs"), [(PAGES[0], ["torch", "tensorboard"]), (PAGES[1], ["optax"])])
def test_the_examples_run_in_their_order(page, needs, tmp_path, monkeypatch):
    for package in needs:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    exec(compile(examples(page), page, "exec"), {})


@pytest.mark.parametrize("backend", QUICK_AND_SLOW[:2])
def test_the_keras_examples_run_in_their_order(backend):
    done = in_a_process(backend, "-c", examples(PAGES[2]))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["INNA", "INNAprop"])
@pytest.mark.parametrize("page", [PAGES[0], PAGES[1], pytest.param(PAGES[2], marks=BACKENDS[0].marks)])
def test_every_argument_is_in_the_table_with_its_default_and_in_an_example(page, name):
    table = text(page).split("## Arguments", 1)[1].split("\n## ", 1)[0]
    for argument, default in arguments(page, name).items():
        row = next(
            line for line in table.splitlines() if line.startswith("|") and f"`{argument}`" in line.split("|")[1]
        )
        shown = re.findall(r"None|True|False|[\d.]+(?:e-\d+)?", row.split("|")[2])
        assert default in [ast.literal_eval(literal) for literal in shown], row
        assert re.search(rf"\b{argument}\b\W*[=:]", examples(page)), argument


@functools.cache
def keras_arguments():
    done = in_a_process("jax", "-c", KERAS_ARGUMENTS)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout)


def arguments(page, name):
    """Each argument of an optimizer on the page, and its default."""
    if page == PAGES[2]:
        return keras_arguments()[name]
    if page == PAGES[0]:
        kind = getattr(pytest.importorskip("inna.torch"), name)
    else:
        kind = getattr(pytest.importorskip("inna.optax"), name.lower())
    return {key: p.default for key, p in inspect.signature(kind).parameters.items() if key != "params"}


@pytest.mark.parametrize("page", PAGES)
def test_links_to_other_pages_lead_to_a_heading(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text(page))
    assert links
    for target, anchor in links:
        target = target or page
        assert (DOCS / target).is_file(), target
        headings = re.findall(r"^#+ (.*)$", text(target), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{target}#{anchor}"
