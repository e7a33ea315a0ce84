"""Processes that form a gloo process group and run functions for tests; they start once, for many tests."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import wait

from waiting import PATIENCE
from warm_processes import warm_context


class TaskFailedError(AssertionError):
    """A task failed on a rank; the message has its traceback."""


class ProcessGroup:
    """``size`` processes, each with one thread, that call the functions they are sent.

    Functions and arguments must be picklable: functions of a module's top level, which they find on ``sys.path``.
    """

    def __init__(self, size, backend="gloo"):
        self.size = size
        self.backend = backend
        self._processes = []

    def run(self, function, *args, **settings):
        """Run ``function(*args, **settings)`` on each rank, with the group as the default group; return the results.

        Raises:
            TaskFailedError: a rank raised, died, or took longer than a task may take.
        """
        if not self._processes:
            self._start()
        for connection in self._connections:
            connection.send((function, args, settings))
        answers = {}
        deadline = time.monotonic() + PATIENCE
        while len(answers) < self.size:
            waiting = [connection for connection in self._connections if connection not in answers]
            ready = wait(waiting, timeout=max(deadline - time.monotonic(), 0))
            failures = [] if ready else [f"ranks {[self._connections.index(c) for c in waiting]} did not answer"]
            for connection in ready:
                rank = self._connections.index(connection)
                try:
                    failure, answers[connection] = connection.recv()
                except EOFError:
                    failure = "the process died"
                if failure:
                    failures.append(f"rank {rank}: {failure}")
            if failures:
                # The others may be waiting for the one that failed.
                self.close()
                raise TaskFailedError("\n".join(failures))
        return [answers[connection] for connection in self._connections]

    def close(self):
        for process in self._processes:
            process.kill()
            process.join()
        self._processes = []

    def _start(self):
        context = warm_context()
        folder = tempfile.mkdtemp()
        self._connections = []
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, self.size, self.backend, folder, theirs), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)


def serve(rank, size, backend, folder, connection):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch

    torch.set_num_threads(1)
    if "nccl" in backend:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=size)
    while True:
        try:
            function, args, settings = connection.recv()
        except EOFError:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                # gloo has no all-to-all; torch says so and does it another way.
                warnings.filterwarnings("ignore", message=".*alltoall.*")
                # FSDP2 over tensor parallelism: the outputs are views, which nobody works on in place.
                warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
                answer = "", function(*args, **settings)
        except BaseException:
            answer = traceback.format_exc(), None
        connection.send(answer)
