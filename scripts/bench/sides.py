"""Runs the sides of a comparison as processes."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# For each value of --isa, the variables that limit the programs. oneDNN computes the convolutions of torch and of
# OpenVINO, and ATen and Inductor the rest of torch.
ISAS = {"avx2": {"FOVEAL_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
                 "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}}


class Failed(Exception):
    """One side of the comparison failed."""


def environment(options):
    """Environment variables that limit the threads and the instruction set of every library."""
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"]
    inductor = {"TORCHINDUCTOR_CACHE_DIR": str(options.cache / "bench/inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return {**os.environ, **dict.fromkeys(names, str(options.threads)), **inductor, **ISAS.get(options.isa, {}),
            "PYTHONPATH": str(HERE)}


class Foveal:
    """A foveal binary. Each turn runs in a process of its own."""

    def __init__(self, binary, options):
        self.binary, self.options = str(Path(binary).resolve()), options

    def run(self, *arguments):
        """Returns standard output, standard error and the duration in seconds."""
        started = time.perf_counter()
        done = subprocess.run([self.binary, *map(str, arguments)], env=environment(self.options), text=True,
                              capture_output=True)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            raise Failed(f"foveal {' '.join(map(str, arguments))}\n{done.stderr.strip()}")
        return done.stdout, done.stderr, seconds

    def bench(self, phase, steps, settings, *more, threads=None, device=None):
        """The report of `foveal bench --only PHASE`."""
        sets = [f"--set={key}={value}" for key, value in settings.items()]
        out, _, _ = self.run("bench", "--only", phase, "--steps", steps, "--json", "-", "--threads",
                             threads or self.options.threads, "--device", device or self.options.device, *sets, *more)
        return json.loads(out)

    def faults(self, phase, steps, settings):
        """The minor page faults of the whole process of `foveal bench --only PHASE`."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        self.bench(phase, steps, settings)
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before

    def peak(self):
        """The instruction set, and the largest GFLOP/s of three measurements on one thread and on all threads."""
        report = self.bench("peak", 3, {"bench.warmup": 1})
        return report["instruction_set"], [max(report[key]) for key in ("peak_gflops_one", "peak_gflops_all")]


class Worker:
    """A process of torch_worker.py. Between its turns it blocks in a read."""

    def __init__(self, options):
        command = [sys.executable, str(HERE / "torch_worker.py")]
        self.process = subprocess.Popen(command, env=environment(options), text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, do, **request):
        """The answer to a request. After a failure the worker still takes requests, unless its process has ended."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed("torch_worker.py has ended") from None
        answer = self.process.stdout.readline()
        if not answer:
            raise Failed(f"torch_worker.py: {do} ended the process, see above")
        answer = json.loads(answer)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
