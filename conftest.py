"""What the test run leaves out: Keras settles on one backend per process, so its tests run where one is named."""

import os

# tests/test_keras_backends.py runs these in a process per backend.
collect_ignore = [] if "KERAS_BACKEND" in os.environ else ["src/inna/keras.py", "tests/test_keras.py"]
