"""The two sides of the comparison as processes that wait for requests: foveal and torchvision."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from place import HERE, Failed, Late, end, tail


class Worker:
    """A process that answers each line of JSON with one line of JSON. It is started for the first request, and again
    after a failure or a missed deadline."""

    def __init__(self, place, command, cwd=None):
        self.place, self.command, self.cwd = place, [str(word) for word in command], cwd or place.work
        self.process = None

    def start(self):
        self.messages = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, cwd=self.cwd, env=self.place.env, text=True,
                                        errors="replace", bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.messages,
                                        process_group=0)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.process.stdout, self.lines), daemon=True).start()

    @staticmethod
    def read(output, lines):
        for line in output:
            lines.put(line)
        lines.put(None)

    def ask(self, request, seconds):
        """The answer to a request."""
        seconds = self.place.budget.left(seconds)
        if self.process is None:
            self.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            self.stop()
            raise Late(f"no answer after {seconds:.0f} s: {self.told}") from None
        except BrokenPipeError:
            line = None
        if line is None:
            self.stop()
            raise Failed(f"ended: {self.told}")
        return json.loads(line)

    def stop(self):
        """Ends the process and keeps the end of its messages."""
        if self.process is None:
            return
        end(self.process)
        self.process.wait()
        self.messages.seek(0)
        self.told = tail(self.messages.read())
        self.messages.close()
        self.process = None

    def stop_if_ended(self, seconds=2):
        """After a failure of the device, foveal answers and ends. The next request then starts it again."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return
        self.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Foveal(Worker):
    """`foveal bench --cases -`: all cases in one process, so that kernels are tuned once."""

    def __init__(self, place, *arguments, settings=None, cwd=None):
        sets = [f"--set={key}={value}" for key, value in (settings or {}).items()]
        command = [place.foveal, "bench", "--cases", "-", "--json", "-", "--device", place.options.device, *sets,
                   *arguments]
        super().__init__(place, command, cwd)

    def measure(self, case, seconds):
        """The report of a case."""
        answer = self.ask(case, seconds)
        if "error" in answer:
            self.stop_if_ended()
            raise Failed(answer["error"])
        return answer["report"]


class Rival(Worker):
    """torchvision in rival.py."""

    def __init__(self, place):
        options = place.options
        python = options.python or sys.executable
        super().__init__(place, [python, HERE / "rival.py", "--device", options.rival_device], cwd=Path(HERE))

    def measure(self, request, seconds):
        answer = self.ask(request, seconds)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer
