"""Runs the two sides of a comparison as processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Failed(Exception):
    """One side of the comparison failed."""


def environment(threads):
    """Environment variables that limit the threads of every library."""
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"]
    return {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": str(HERE)}


class Foveal:
    """The foveal binary. Each turn runs in a process of its own."""

    def __init__(self, binary, device, threads):
        self.binary, self.device, self.threads = str(Path(binary).resolve()), device, threads

    def run(self, *arguments):
        """Returns standard output, standard error and the duration in seconds."""
        started = time.perf_counter()
        done = subprocess.run([self.binary, *map(str, arguments)], env=environment(self.threads), text=True,
                              capture_output=True)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            raise Failed(f"foveal {' '.join(map(str, arguments))}\n{done.stderr.strip()}")
        return done.stdout, done.stderr, seconds

    def bench(self, phase, steps, settings, *more, threads=None, device=None):
        """The report of `foveal bench --only PHASE`."""
        sets = [f"--set={key}={value}" for key, value in settings.items()]
        out, _, _ = self.run("bench", "--only", phase, "--steps", steps, "--json", "-", "--threads",
                             threads or self.threads, "--device", device or self.device, *sets, *more)
        return json.loads(out)


class Worker:
    """A process of torch_worker.py. Between its turns it blocks in a read."""

    def __init__(self, threads):
        command = [sys.executable, str(HERE / "torch_worker.py")]
        self.process = subprocess.Popen(command, env=environment(threads), text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, do, **request):
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise Failed(f"torch_worker.py: {do} failed, see above")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
