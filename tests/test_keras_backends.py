"""tests/test_keras.py and the examples of inna.keras, on each backend in a process of its own."""

import pytest

from keras_backends import QUICK_AND_SLOW, in_a_process


@pytest.mark.parametrize("backend", QUICK_AND_SLOW)
def test_the_keras_tests_pass(backend):
    done = in_a_process(
        backend, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_keras.py", "src/inna/keras.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
