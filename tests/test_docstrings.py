"""Text that docstrings share appears in ``help`` of everything that shares it."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

from inna.docstrings import insert


@pytest.mark.parametrize("name", ["INNA", "INNAprop"])
def test_help_describes_every_argument_of_the_torch_optimizers(name):
    pytest.importorskip("torch.nn")
    import inna.torch as torch_optimizers

    described = documented_arguments(getattr(torch_optimizers, name))
    assert {"kahan", "maximize", "foreach", "capturable", "differentiable", "fused"} <= described


@pytest.mark.parametrize("name", ["inna", "innaprop", "inna_lr_free", "innaprop_lr_free"])
def test_help_describes_every_argument_of_the_optax_transformations(name):
    transformations = pytest.importorskip("inna.optax")
    described = documented_arguments(getattr(transformations, name))
    assert {"alpha", "beta", "mask", "momentum_dtype"} <= described


def documented_arguments(documented: object) -> set[str]:
    """The arguments that ``help`` describes, which must be those of the signature."""
    text = pydoc.plain(pydoc.render_doc(documented))
    arguments = set(inspect.signature(documented).parameters)
    described = {name for name in arguments if f"    {name}: " in text}
    assert described == arguments
    return described


def test_a_text_takes_the_indentation_of_its_line_wherever_it_is():
    @insert(first="a: one\n    and more.", second="b: two.")
    def function():
        """Do it.

        Args:
            {first}
            {second}
        """

    lines = function.__doc__.splitlines()
    places = [next(line for line in lines if word in line) for word in ("a: one", "and more.", "b: two.")]
    indents = [len(line) - len(line.lstrip()) for line in places]
    assert indents[0] == indents[2] == indents[1] - 4


def test_without_docstrings_nothing_is_inserted():
    code = (
        "from inna.docstrings import insert; assert False\n"
        "@insert(flags='text')\nclass Documented:\n    'The {flags}.'\nprint(Documented.__doc__)"
    )
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


@pytest.mark.slow  # on a fresh machine Python compiles all of torch anew for -OO
def test_without_docstrings_the_package_imports():
    pytest.importorskip("torch.nn")
    code = "from inna.torch import INNA, INNAprop; assert False; print(INNA.__doc__, INNAprop.__doc__)"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None"]
