"""The folder that pack made, the results file, the time budget, and the environment of the programs."""

import ctypes
import datetime
import json
import lzma
import os
import shutil
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Drivers of the GPU machine that the loader does not search.
OTHER_DRIVERS = ["/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json"]
DRIVERS = ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"]


class Late(Exception):
    """A program exceeded its deadline, or the time budget is used up."""


class Failed(Exception):
    """A program failed."""


# What a case may end with. A bug of a script is one of them: on a lent machine, the next case must go on.
ERRORS = (Failed, Late, OSError, ValueError, LookupError, TypeError, AttributeError)


def described(error):
    return f"{type(error).__name__}: {tail(str(error))}"


class Budget:
    """The seconds that all stages together may take, and the seconds of the current stage."""

    def __init__(self, total):
        self.started, self.total, self.end = time.monotonic(), total, time.monotonic() + total

    def stage(self, seconds):
        self.end = min(time.monotonic() + seconds, self.started + self.total)

    def left(self, most=None):
        """The seconds that the next program may take."""
        left = self.end - time.monotonic()
        if left < 1:
            raise Late("the time is used up")
        return left if most is None else min(left, most)

    def is_used_up(self, whole=False):
        """Whether the time of the stage, or of the whole run, has passed."""
        return time.monotonic() > (self.started + self.total if whole else self.end) - 1


class Results:
    """Appends lines to results.jsonl, each of which is on the disk before the next program starts."""

    def __init__(self, path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, stage, case, **values):
        line = {"stage": stage, "case": case, "time": datetime.datetime.now().isoformat(timespec="seconds"), **values}
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        words = {k: v for k, v in values.items() if k in ("ok", "error", "seconds", "images_per_second", "side", "config")}
        print(f"{stage} {case}: {json.dumps(words)}"[:400], flush=True)


class Place:
    """The binary and the environment of the programs."""

    def __init__(self, options):
        self.options = options
        self.out = options.out.resolve()
        self.work = options.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.results = Results(self.out / "results.jsonl")
        self.budget = Budget(options.seconds)
        self.foveal = self.unpacked() if options.foveal is None else options.foveal.resolve()
        self.env = self.environment()

    def unpacked(self):
        """The binary, decompressed into the work folder."""
        binary = self.work / "foveal"
        if not binary.exists():
            part = binary.with_suffix(".part")
            with lzma.open(HERE / "foveal.xz") as packed, open(part, "wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)
            part.chmod(0o755)
            part.rename(binary)
        return binary

    def environment(self):
        env = dict(os.environ)
        paths = [path for path in [self.libraries(), env.get("LD_LIBRARY_PATH")] if path]
        if paths:
            env["LD_LIBRARY_PATH"] = ":".join(paths)
        named = any(env.get(name) for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"])
        installed = any(any(Path(folder).glob("*nvidia*")) for folder in DRIVERS)
        others = [path for path in OTHER_DRIVERS if Path(path).exists()]
        if others and not named and not installed:
            env["VK_DRIVER_FILES"] = others[0]
        # Tuning results and other caches of the programs.
        if not os.access(env.get("HOME", "/nonexistent"), os.W_OK):
            env["HOME"] = str(self.work)
        return env

    def libraries(self):
        """A folder of the libraries in `lib` that this machine does not have, such as the Vulkan loader."""
        missing = [path for path in sorted((HERE / "lib").glob("*.so*")) if not loads(path.name)]
        if not missing:
            return None
        folder = self.work / "lib"
        folder.mkdir(exist_ok=True)
        for path in missing:
            link = folder / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        return str(folder)

    def run(self, command, seconds, cwd=None, env=None):
        """Runs a program in the work folder and returns its output, its messages, its exit code and its seconds."""
        started = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], cwd=cwd or self.work, env=env or self.env, text=True, errors="replace",
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   process_group=0)
        try:
            out, told = process.communicate(timeout=self.budget.left(seconds))
        except subprocess.TimeoutExpired:
            end(process)
            _, told = process.communicate()
            raise Late(f"stopped after {time.monotonic() - started:.0f} s: {tail(told)}") from None
        except BaseException:
            end(process)
            raise
        return out, told, process.returncode, time.monotonic() - started

    def config(self, name):
        """A configuration of the folder, or of the repository."""
        return HERE / name if (HERE / name).exists() else HERE.parents[2] / "configs" / name

    def foveal_run(self, *arguments, seconds, cwd=None, env=None):
        """Runs foveal, which must succeed."""
        out, told, code, took = self.run([self.foveal, *arguments], seconds, cwd, env)
        if code != 0:
            raise Failed(f"foveal {arguments[0]} ended with {code}: {tail(told)}")
        return out, told, took


def loads(name):
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def end(process):
    """Ends a program and its children."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass


def tail(text, most=600):
    """The last characters of messages on one line. SwiftShader's harmless lines are left out."""
    lines = [line for line in (text or "").splitlines() if "UNREACHABLE" not in line]
    return " ".join(" ".join(lines).split())[-most:]
