"""Kills and interrupts trainings, resumes them and compares the results. scripts/soak calls this script and describes
the options and the checks."""

import argparse
import atexit
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The fields of log.jsonl that are documented as timings: they differ between runs.
TIMINGS = ("images_per_second", "data_wait", "seconds")
# The file that TensorBoard reads.
EVENTS = "events.out.tfevents.foveal"
# Files with times and the number of starts in them.
TIMED_FILES = ("environment.json", "report.html")
# The files of the folder state/ that depend on the last step alone.
ENDS = ("state/last.safetensors", "state/evaluated.json")
# Exit code of a training that was stopped by a signal and saved its state.
INTERRUPTED = 130
# Seconds that a stopped process may take to save its state and end.
STOP_SECONDS = 120
# Number of processes after which a run that does not end is a failure.
MOST_PROCESSES = 200
# Number of kills and signals that a complete run gets on average.
EVENTS_PER_RUN = 5

SHAPES = ["data.shapes.val_count=40", "data.shapes.size=[64,64]", "data.shapes.classes=5", "data.shapes.max_objects=4",
          "data.shapes.min_object=12"]
# Numbers of training images with which an epoch has 100 and 1,000 steps of four images. The sampler repeats some images.
SETS = {"short": 346, "long": 3489}
CONFIG = """
name = "soak"
[data]
min_size = 64
max_size = 64
workers = 2
sampler = "repeat_factor"
repeat_threshold = 0.3
[data.augment]
scale_jitter = [0.8, 1.2]
[data.augment.color_jitter]
brightness = 0.2
[data.train]
annotations = "SET/annotations/train.json"
images = "SET/images/train"
[data.val]
annotations = "SET/annotations/val.json"
images = "SET/images/val"
[model]
backbone = "resnet18"
base_width = 8
fpn_channels = 16
[model.head]
convs = 1
[model.anchors]
base_sizes = [16, 24, 32, 48, 64]
scales = 1
[train]
batch_size = 2
accumulate = 2
optimizer = "adamw"
lr = 1e-3
scale_lr = false
schedule = "cosine"
warmup_steps = 20
clip_norm = 1.0
ema = 0.99
keep = 2
"""


class Failure(Exception):
    """A check that failed."""


class Training:
    """A training with a fixed configuration: how to run it, and what an undisturbed run gives."""

    def __init__(self, options, folder, name, images, settings, steps):
        config = folder / f"{name}.toml"
        config.write_text(CONFIG.replace("SET", images))
        sets = [f"--set={key}={value}" for key, value in settings.items()]
        self.command = [options.binary, "train", str(config), "--device", "flex", "--threads", "2", *sets, "--out"]
        self.whole = folder / f"{name}-whole"
        started = time.monotonic()
        process = self.start(self.whole)
        code = process.wait()
        self.seconds = time.monotonic() - started
        if code != 0:
            raise Failure(f"the undisturbed run ended with code {code}:\n{messages(self.whole)}")
        found = last_step(self.whole)
        if found != steps:
            raise Failure(f"the undisturbed run made {found} steps, expected {steps}")
        print(f"{name}: undisturbed run of {steps} steps in {self.seconds:.1f} s", flush=True)

    def start(self, run):
        """Starts or resumes the training in a folder."""
        arguments = [str(run)]
        if states(run):
            arguments.append("--resume")
        with open(run.with_suffix(".log"), "ab") as log:
            process = subprocess.Popen([*self.command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       preexec_fn=default_signals)
        # A process must not outlive this script.
        atexit.register(process.kill)
        return process

    def differences(self, run):
        """What distinguishes a finished run from the undisturbed one."""
        ours, theirs = files(run), files(self.whole)
        found = [f"{run / name} is left over" for name in sorted(ours - theirs)]
        found += [f"{run / name} is missing" for name in sorted(theirs - ours)]
        for name in sorted(ours & theirs):
            # Which earlier state is kept depends on the time. A lock has no content that matters.
            if "lock" in name or name in TIMED_FILES or name.startswith("state/") and name not in ENDS:
                continue
            content = {"log.jsonl": timeless, EVENTS: timeless_events}.get(name, Path.read_bytes)
            if content(run / name) != content(self.whole / name):
                found.append(f"{run / name} differs from {self.whole / name}")
        return found


def default_signals():
    """Undoes signal settings that a background shell passes on, which foveal rightly keeps."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


def messages(run):
    """What the processes of a run printed last."""
    return run.with_suffix(".log").read_text(errors="replace")[-3000:]


def read(path):
    return path.read_bytes() if path.exists() else b""


def timeless(path):
    """The records of a log without their timings, as text, so that equal means equal in every digit."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [json.dumps({k: v for k, v in record.items() if k not in TIMINGS}) for record in records]


def timeless_events(path):
    """The summaries of an event file with their steps, without the timings and the time of each event."""
    data, found = path.read_bytes(), []
    while data:
        # A record: its length in 8 bytes, a checksum in 4, the event, and a checksum in 4.
        length = int.from_bytes(data[:8], "little")
        event, data = dict(fields(data[12:12 + length])), data[16 + length:]
        for _, value in fields(event.get(5, b"")):
            tag = dict(fields(value))[1].decode()
            if tag.removeprefix("train/") not in TIMINGS:
                found.append((event.get(2, 0), value))
    return found


def fields(message):
    """The fields of a message in the format of protocol buffers: their numbers with their integers or bytes."""
    place = 0

    def varint():
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, message[place:place + length]
        place += length


def last_step(run):
    """The step of the last whole line about steps in the log; 0 if there is none."""
    last = 0
    for line in read(run / "log.jsonl").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "event" not in record:
            last = record["step"]
    return last


def states(run):
    """The training states in a run folder."""
    return list((run / "state").glob("*.safetensors"))


def state_step(run):
    """The step of the newest training state; 0 if there is no state."""
    newest = 0
    for path in states(run):
        content = path.read_bytes()
        header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
        newest = max(newest, json.loads(header["__metadata__"]["foveal_state"])["step"])
    return newest


class Run:
    """A run that is disturbed and resumed until it ends by itself."""

    def __init__(self, training, folder):
        self.training, self.folder = training, folder
        self.processes = 0
        # What the log held when the last process stopped after a signal; empty after a SIGKILL.
        self.logged = b""
        # The checks that failed.
        self.problems = []

    def begin(self):
        self.processes += 1
        if self.processes > MOST_PROCESSES:
            raise Failure(f"{self.folder} has not ended after {MOST_PROCESSES} processes; its state is at step "
                          f"{state_step(self.folder)}")
        self.started, self.at = time.time_ns(), state_step(self.folder)
        self.process = self.training.start(self.folder)
        return self.process

    def wait(self, seconds):
        """Whether the process ends within this time."""
        try:
            self.process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def has_logged(self):
        """Whether this process has logged a step. It first drops the lines of steps after the state from the log."""
        log = self.folder / "log.jsonl"
        return log.exists() and log.stat().st_mtime_ns > self.started and last_step(self.folder) > self.at

    def wait_for_line(self):
        """Waits for the first step that this process logs. Returns whether the process is still running."""
        while self.process.poll() is None:
            if self.has_logged():
                return True
            time.sleep(0.02)
        return False

    def send(self, number):
        """Sends a signal to the running process, waits for its end and checks what it left. Returns the exit code."""
        name = signal.Signals(number).name
        self.process.send_signal(number)
        self.end(STOP_SECONDS, f"{STOP_SECONDS} s after {name}")
        self.check_prefix()
        code, logged, state = self.process.returncode, last_step(self.folder), state_step(self.folder)
        self.logged = b""
        if code not in (0, -number) and not (code == INTERRUPTED and number != signal.SIGKILL):
            raise Failure(f"{self.folder}: exit code {code} after {name}:\n{messages(self.folder)}")
        # A process that has not begun to train may end at once.
        if number != signal.SIGKILL and code == -number and self.has_logged():
            raise Failure(f"{self.folder}: {name} ended the process without saving its state")
        if code == INTERRUPTED:
            self.logged = read(self.folder / "log.jsonl")
            if logged != state:
                self.problems.append(f"{self.folder}: {logged} steps were logged before {name}, and the state is at step {state}")
        return code

    def end(self, seconds, when):
        """Waits for the end of the process. After this time the process is killed, which is a failure."""
        if not self.wait(seconds):
            self.process.kill()
            self.process.wait()
            raise Failure(f"{self.folder}: the process still ran {when}")

    def check_prefix(self):
        """The lines of the process before must still be there, timings included: no step was made twice."""
        if self.logged and read(self.folder / "log.jsonl") and not read(self.folder / "log.jsonl").startswith(self.logged):
            self.problems.append(f"{self.folder}: the process after an interruption did not begin with the next step")

    def finish(self, deadline):
        """Checks a process that ended by itself, and compares the run with the undisturbed one."""
        self.end(deadline - time.monotonic(), "at the time limit")
        if self.process.returncode != 0:
            raise Failure(f"{self.folder}: exit code {self.process.returncode} without a signal:\n"
                          f"{messages(self.folder)}")
        self.check_prefix()
        self.problems += self.training.differences(self.folder)


def outcome(run):
    return f"with {len(run.problems)} problems" if run.problems else "equal to the undisturbed run"


def random_part(options, folder, deadline):
    """Kills and signals at random moments of complete runs."""
    settings = {"train.epochs": 3}
    if options.save_every != "default":
        settings["train.save_every"] = float(options.save_every)
    training = Training(options, folder, "random", "short", settings, 300)
    rng = random.Random(options.seed)
    signals = [rng.choice([signal.SIGINT, signal.SIGTERM]) for _ in range(options.signals)]
    events = [signal.SIGKILL] * options.kills + signals
    rng.shuffle(events)
    done, saved, repeated, runs, problems = [], 0, 0, 0, []
    while events:
        runs += 1
        run = Run(training, folder / f"random-{runs}")
        while time.monotonic() < deadline:
            run.begin()
            # Without an event left, the run goes on to its end.
            if not events or run.wait(rng.uniform(0, 2 * training.seconds / EVENTS_PER_RUN)):
                break
            number = events.pop()
            code = run.send(number)
            if number == signal.SIGKILL and code == 0:
                # The process ended by itself in this moment.
                events.append(number)
                break
            done.append(number)
            saved += code == INTERRUPTED
            repeated += number == signal.SIGKILL and last_step(run.folder) > state_step(run.folder)
        else:
            raise Failure(f"only {len(done)} of {len(done) + len(events)} kills and signals within the time limit")
        run.finish(deadline)
        problems += run.problems
        print(f"random: run {runs} ended after {run.processes} processes, {outcome(run)}; {len(done)} kills and signals so "
              f"far", flush=True)
    counts = ", ".join(f"{done.count(s)} {s.name}" for s in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
    print(f"random: {counts} in {runs} runs; {repeated} of the kills made the next process repeat steps, {saved} of the "
          f"signals stopped a training that saved its state")
    return problems


def chain_part(options, folder, deadline, name, number, settings):
    """One long epoch whose processes are ended 5 s after their first line of the log."""
    training = Training(options, folder, name, "long", {"train.epochs": 1, **settings}, 1000)
    run, sent = Run(training, folder / f"{name}-1"), 0
    while time.monotonic() < deadline:
        run.begin()
        if not run.wait_for_line() or run.wait(5) or run.send(number) == 0:
            break
        sent += 1
        print(f"{name}: {number.name} {sent}: {last_step(folder / f'{name}-1')} steps logged, state at step "
              f"{state_step(folder / f'{name}-1')}", flush=True)
    else:
        raise Failure(f"{name}: {sent} times {number.name}, and the run has not ended within the time limit; its state "
                      f"is at step {state_step(folder / f'{name}-1')}")
    run.finish(deadline)
    print(f"{name}: the run ended after {sent} times {number.name}, {outcome(run)}")
    return run.problems


def parse():
    p = argparse.ArgumentParser(prog="soak", add_help=False)
    p.add_argument("--binary", required=True, type=lambda text: str(Path(text).resolve()))
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--signals", type=int, default=20)
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--save-every", default="0.01")
    p.add_argument("--parts", type=lambda text: text.split(","), default=["random", "kills", "terms"])
    p.add_argument("--dir", type=Path)
    options = p.parse_args()
    unknown = set(options.parts) - {"random", "kills", "terms"}
    if unknown:
        p.error(f"unknown part {sorted(unknown)[0]}; known: random, kills, terms")
    if options.dir and options.dir.exists():
        p.error(f"{options.dir} exists; --dir needs a new folder")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = options.dir or Path(tempfile.mkdtemp(prefix="foveal-soak-"))
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"soak: seed {options.seed}, folder {folder}", flush=True)
    for name, count in SETS.items():
        sets = [f"--set={setting}" for setting in [*SHAPES, f"data.shapes.count={count}"]]
        subprocess.run([options.binary, "data", "shapes", "--out", str(folder / name), *sets], check=True)
    deadline = time.monotonic() + 60 * options.minutes
    parts = {
        "random": lambda: random_part(options, folder, deadline),
        "kills": lambda: chain_part(options, folder, deadline, "kills", signal.SIGKILL,
                                    {"train.save_every": 0.03}),
        "terms": lambda: chain_part(options, folder, deadline, "terms", signal.SIGTERM, {}),
    }
    failed = []
    for name in options.parts:
        try:
            problems = parts[name]()
        except Failure as failure:
            problems = [str(failure)]
        for problem in problems:
            print(f"soak: {name}: {problem}", flush=True)
        print(f"{name}: {'FAIL' if problems else 'PASS'}", flush=True)
        failed += [name] if problems else []
    if not failed and not options.dir:
        shutil.rmtree(folder)
    print(f"FAIL: {', '.join(failed)}; the runs are in {folder}" if failed else "PASS")
    return 1 if failed else 0


sys.exit(main())
