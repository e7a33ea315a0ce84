"""What the test run leaves out of the doctests: modules whose framework is not there or is another's."""

import importlib.util
import os

collect_ignore = []
if "KERAS_BACKEND" not in os.environ:
    # Keras settles on one backend per process: tests/test_keras_backends.py runs these in a process per backend.
    collect_ignore += ["src/inna/keras.py", "tests/test_keras.py"]
if importlib.util.find_spec("triton") is None:
    collect_ignore += ["src/inna/torch/kernels/cuda.py"]
