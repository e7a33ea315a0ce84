"""Time and peak memory of reading 20,000 packed rows with histories of 30 epochs.

    python benchmarks/read_rows.py
    python benchmarks/read_rows.py --rows 1000

The rows are generated and packed in another process. The peak is therefore that of reading.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from inna.experiments.rows.packed import PACKED, packed_line
from inna.experiments.rows.row_files import read_rows
from inna.experiments.rows.run import Run
from inna.files import write_whole

EPOCHS = 30


def generated_line(seed: int) -> bytes:
    """A row of a classification task with digits of real runs."""
    noise = random.Random(seed)
    lr = 10 ** noise.uniform(-4, 0)
    run = Run("mnist", "lenet5", "inna", lr, alpha=0.5, beta=0.1, q=0.5, batch_size=128, epochs=EPOCHS, seed=seed)
    history = [
        {
            "epoch": epoch,
            "lr": lr / math.sqrt(469 * epoch + 1),
            "train_loss": 2.3 * math.exp(-0.2 * epoch) * noise.uniform(0.9, 1.1),
            "test_loss": 2.3 * math.exp(-0.2 * epoch) * noise.uniform(0.9, 1.2),
            "test_accuracy": noise.random(),
            "seconds": noise.uniform(4.0, 5.0) if epoch else 0.0,
        }
        for epoch in range(EPOCHS + 1)
    ]
    last = history[-1]
    result = {
        "status": "done",
        **{name: last[name] for name in ("train_loss", "test_loss", "test_accuracy")},
        "seconds_per_epoch": noise.uniform(4.0, 5.0),
        "seconds": noise.uniform(150.0, 200.0),
        "history": history,
        "state_bytes_per_parameter": 4.0,
        "parameters": 61706,
        "iterations": 469 * EPOCHS,
        "threads": 1,
        "cuda_graph": False,
        "versions": {"inna": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.3.1"},
        "hardware": {"cpu": "Intel(R) Xeon(R) Processor @ 2.60GHz", "cores": 2, "system": "Linux-6.1-x86_64"},
        "finished": "2026-01-01T12:00:00+00:00",
    }
    return packed_line(run, result)


def generate(folder: Path, rows: int) -> None:
    """Write ``rows`` rows into the packed file of ``folder``."""
    write_whole(folder / PACKED, b"".join(generated_line(seed) + b"\n" for seed in range(rows)))


def main() -> int:
    """Generate, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="(default: 20000)")
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = multiprocessing.get_context("spawn").Process(target=generate, args=(folder, count))
        writer.start()
        writer.join()
        size = (folder / PACKED).stat().st_size
        began, busy = time.perf_counter(), time.process_time()
        rows = read_rows(folder)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
    # ru_maxrss is in bytes on macOS and in KiB elsewhere.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        f"{len(rows):,} rows of {EPOCHS} epochs, {size / 1e6:.0f} MB: read in {seconds:.2f} s "
        f"({busy:.2f} s of processor), peak memory of the process {peak / 1e6:.0f} MB"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
