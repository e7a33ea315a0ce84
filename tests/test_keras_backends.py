"""The tests of Keras and the examples of inna.keras, on each backend in a process of its own."""

import pytest

from keras_backends import QUICK_AND_SLOW, in_a_process


@pytest.mark.parametrize("backend", QUICK_AND_SLOW)
def test_the_keras_tests_pass(backend):
    tests = "tests/test_keras.py", "tests/test_keras_find_lr.py", "src/inna/keras"
    done = in_a_process(backend, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
