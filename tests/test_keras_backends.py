"""tests/test_keras.py and the examples of inna.keras, on each backend in a process of its own."""

import pytest

from keras_backends import BACKENDS, in_a_process


# The quickest backend stands for all in a short run; tests/test_parity.py has all three.
@pytest.mark.parametrize(
    "backend",
    [
        x if x.values == ("torch",) else pytest.param(*x.values, id=x.id, marks=[*x.marks, pytest.mark.slow])
        for x in BACKENDS
    ],
)
def test_the_keras_tests_pass(backend):
    done = in_a_process(
        backend, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_keras.py", "src/inna/keras.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
