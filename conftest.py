"""Settings for tests and doctests: how threads wait, and modules whose framework is absent or is another's."""

import importlib.util
import os

# Threads that wait for others sleep: by default they keep a core busy that another test process or a worker needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

collect_ignore = []
if "KERAS_BACKEND" not in os.environ:
    # Keras settles on one backend per process: tests/test_keras_backends.py runs these in a process per backend.
    collect_ignore += ["src/inna/keras", "tests/test_keras.py", "tests/test_keras_find_lr.py"]
if importlib.util.find_spec("triton") is None:
    collect_ignore += ["src/inna/torch/kernels/cuda.py"]
