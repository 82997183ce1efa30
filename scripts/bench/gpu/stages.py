"""The stages of run.py. Each takes the place, appends its results, and raises Failed or Late for a single case only."""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from parity import check, parity
from place import ERRORS, Failed, described, tail
from workers import Foveal, Rival

CLASSES, BOXES, PASSING = 80, 8, 2000  # as in scripts/bench/cases.py
WARMUP = 2
TURN_SECONDS = 4  # timed seconds of a turn, if its steps are slower than that in total
MOST_STEPS, FEWEST_STEPS = 20, 3
# Precision and whether the memory format is channels_last.
RIVALS = [("tf32", False), ("bf16", True), ("tf32", True), ("bf16", False), ("f32", False), ("f32", True)]
# What foveal computes in its own f16, for one shape: (precision, channels_last), (pixels, batch).
LIKE_FOR_LIKE, LIKE_FOR_LIKE_SHAPE = ("f16", True), (800, 8)

# The shapes of a full run, the most important ones first: (pixels, batch).
TRAIN = [(800, 8), (800, 2), (512, 2), (512, 8), (800, 16), (512, 16), (800, 4), (512, 4), (512, 32), (800, 32)]
INFER = [(800, 1), (800, 8), (512, 1), (512, 8)]
OVERHEAD = (64, 2)  # nearly no arithmetic: the time is that of starting kernels


def settings(place):
    """The keys with which foveal's network and data equal torchvision's v1."""
    keys = {"model.backbone": place.options.backbone, "model.norm": "frozen_batch", "model.p6_from": "p5",
            "train.optimizer": "sgd", "model.freeze_stages": 0, "model.anchors.rounding": "torchvision",
            "loss.normalizer": "per_image", "bench.classes": CLASSES, "bench.boxes": BOXES}
    if place.options.tiny:  # torchvision has no such network: its turns only show that the programs run
        keys |= {"model.base_width": 8, "model.fpn_channels": 16, "model.head.convs": 1, "bench.classes": 3}
    return keys


def foveal_case(size, batch, precision, steps, phase="train"):
    return {"phase": phase, "batch": batch, "height": size, "width": size, "steps": steps, "warmup": WARMUP,
            "precision": precision}


def rival_case(place, size, batch, config, steps, phase="train"):
    precision, channels_last = config
    return {"do": phase, "backbone": place.options.backbone, "size": size, "batch": batch, "classes": CLASSES,
            "boxes": BOXES, "frozen": 0, "precision": precision, "channels_last": channels_last, "steps": steps,
            "warmup": WARMUP}


def guarded(place, stage, case, action, **known):
    """Runs a part of a stage and appends its result, or what went wrong. Returns the result, or None."""
    try:
        values = action()
    except ERRORS as error:
        place.results.add(stage, case, ok=False, error=described(error), **known)
        return None
    place.results.add(stage, case, **{"ok": True, **known, **values})
    return values


def features(place):
    """What the machine is: card, driver, adapters and versions."""
    query = "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,pstate"

    def card():
        out, told, code, _ = place.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], 20)
        if code != 0:
            raise Failed(f"nvidia-smi ended with {code}: {tail(told)}")
        return dict(zip(query.split(","), (value.strip() for value in out.splitlines()[0].split(","))))

    def adapters():
        out, told, code, _ = place.run([place.foveal, "devices", "--test", "--json", "-"], 60)
        if code not in (0, 1):
            raise Failed(f"foveal devices ended with {code}: {tail(told)}")
        # 1 stands for a device that fails its self test: the list says which and how.
        failed = {"ok": False, "error": "a device fails its self test"} if code == 1 else {}
        return {"devices": json.loads(out), "messages": tail(told), **failed}

    def versions():
        with Rival(place) as rival:
            return rival.measure({"do": "versions"}, 60)

    guarded(place, "features", "card", card)
    guarded(place, "features", "environment", lambda: {
        "version": place.foveal_run("--version", seconds=20)[0].strip(),
        "variables": {k: v for k, v in place.env.items() if k.startswith(("VK_", "LD_LIBRARY", "CUBECL_"))},
    })
    guarded(place, "features", "adapters", adapters)
    guarded(place, "features", "rival", versions)


def tuning(place):
    """Seconds of the first step in a new process, which keeps no results of tuning."""
    size, batch = (64, 2) if place.options.tiny else (512, 2)
    for precision in place.options.precisions:

        def first():
            with Foveal(place, settings=settings(place)) as foveal:
                report = foveal.measure(foveal_case(size, batch, precision, 1), place.options.tune_seconds)
            return {"first_step_seconds": report["first_step_seconds"], "report": report}

        guarded(place, "tuning", f"{size} batch {batch} {precision}", first, precision=precision)


class Side:
    """One program in one configuration. Its number of steps follows from its speed."""

    def __init__(self, place, worker, make, **known):
        self.place, self.worker, self.make, self.known = place, worker, make, known
        self.steps, self.failed = None, False

    def turn(self, stage, case, number, batch):
        """Measures one turn. The first one only tunes, and finds the number of steps; `number` is then 0. A process that
        was ended by a failure tunes anew."""
        first = number == 0
        steps = 1 if first else self.steps
        tunes = first or self.worker.process is None
        seconds = self.place.options.tune_seconds if tunes else self.place.options.turn_seconds

        def action():
            report = self.worker.measure(self.make(steps), seconds)
            times = report.get("ms") or report.get("train_step_ms") or report.get("infer_ms")
            median = statistics.median(times)
            self.steps = max(FEWEST_STEPS, min(MOST_STEPS, int(TURN_SECONDS * 1e3 / median)))
            if self.place.options.tiny:
                self.steps = 1
            return {"ms": times, "images_per_second": batch * 1e3 / median, "report": report}

        done = guarded(self.place, stage, case, action, batch=batch, turn=number, **self.known)
        self.failed = done is None


def tune(stage, case, batch, sides):
    """The first turns of a case. The processes of foveal compile and tune their kernels at the same time."""
    ours = [side for side in sides if isinstance(side.worker, Foveal)]
    theirs = [side for side in sides if not isinstance(side.worker, Foveal)]
    with ThreadPoolExecutor(max_workers=len(sides)) as pool:
        turns = [pool.submit(side.turn, stage, case, 0, batch) for side in ours]
        for side in theirs:
            side.turn(stage, case, 0, batch)
        for turn in turns:
            turn.result()


def alternate(place, stage, case, batch, sides, rounds):
    """Measures the sides in turns; the order is reversed in every second round. All turns of a case follow one another on
    the same warm machine."""
    tune(stage, case, batch, sides)
    wait_while_held(place)
    for number in range(1, rounds + 1):
        for side in sides if number % 2 == 0 else reversed(sides):
            if place.budget.is_used_up():
                place.results.add(stage, case, ok=False, error=f"the time is used up in round {number} of {rounds}")
                return
            if not side.failed:
                side.turn(stage, case, number, batch)


def wait_while_held(place):
    """Waits before timed turns until the file of --hold is gone, so that another call of run.py can end first."""
    while place.options.hold and place.options.hold.exists() and not place.budget.is_used_up():
        time.sleep(0.5)


def sides_of(place, foveal, rival, size, batch, phase, **more):
    """The sides of a case. `foveal` has a process for each precision."""
    ours = [Side(place, foveal[precision], lambda steps, p=precision: foveal_case(size, batch, p, steps, phase),
                 side="foveal", config=precision, size=size) for precision in place.options.precisions]
    rivals = RIVALS[:2] if place.options.tiny else RIVALS
    if (size, batch) == LIKE_FOR_LIKE_SHAPE:
        rivals = [*rivals, LIKE_FOR_LIKE]
    theirs = [Side(place, rival, lambda steps, c=config: {**rival_case(place, size, batch, c, steps, phase), **more},
                   side="torchvision", config=config[0] + (" channels_last" if config[1] else ""), size=size)
              for config in rivals]
    return ours + theirs


def processes(place, stack, *arguments):
    """A process of foveal for each precision, and the folder of its log of tuning."""
    found = {}
    for precision in place.options.precisions:
        folder = place.work / f"tuning-{precision}"
        folder.mkdir(exist_ok=True)
        log = place.out / f"tuning-{precision}.log"
        (folder / "cubecl.toml").write_text(f'[autotune]\nlogger = {{ level = "minimal", file = "{log}" }}\n')
        found[precision] = stack.enter_context(Foveal(place, *arguments, settings=settings(place), cwd=folder))
    return found


def overhead(place):
    """The time of a step with nearly no arithmetic, which is that of starting kernels, and their number."""
    with Foveal(place, "--count", settings=settings(place)) as foveal:
        size, batch = OVERHEAD
        for precision in place.options.precisions:
            side = Side(place, foveal, lambda steps, p=precision: foveal_case(size, batch, p, steps), side="foveal",
                        config=precision, size=size)
            alternate(place, "overhead", f"{size} batch {batch}", batch, [side], 1)


def train(place):
    """Training images per second of both programs."""
    with ExitStack() as stack, Rival(place) as rival:
        foveal = processes(place, stack)
        for size, batch in [(64, 2)] if place.options.tiny else place.options.shapes or TRAIN:
            if place.budget.is_used_up():
                break
            sides = sides_of(place, foveal, rival, size, batch, "train")
            alternate(place, "train", f"{size} batch {batch}", batch, sides, place.options.rounds)


def infer(place):
    """Inference with post-processing, with the same weights on both sides, of which a plausible number of pairs of anchor
    and class pass the threshold. In a dry run both have random weights, because such weights need a large network."""
    with Rival(place) as rival:
        if place.options.tiny:
            arguments, weights = (), {}
        else:
            checkpoint, weights = detector(place, rival)
            arguments = ("--checkpoint", checkpoint)
        with ExitStack() as stack:
            foveal = processes(place, stack, *arguments)
            for size, batch in [(64, 1)] if place.options.tiny else place.options.shapes or INFER:
                if place.budget.is_used_up():
                    break
                sides = sides_of(place, foveal, rival, size, batch, "infer", **weights)
                alternate(place, "infer", f"{size} batch {batch}", batch, sides, place.options.rounds)


def detector(place, rival):
    """A checkpoint for foveal, and the part of the requests that gives torchvision the same weights."""
    weights, labels, checkpoint = (place.work / name for name in ["detector.pth", "labels.txt", "detector.safetensors"])
    request = {"do": "make_weights", "backbone": "resnet50", "size": 512, "batch": 1, "classes": CLASSES,
               "pairs": PASSING, "out": str(weights)}
    rival.measure(request, 180)
    # torchvision's first channel is the background.
    labels.write_text("".join(f"class_{c}\n" for c in range(1, CLASSES)))
    place.foveal_run("import", weights, "--arch", "retinanet_resnet50_fpn", "--labels", labels, "-o", checkpoint, seconds=60)
    return checkpoint, {"weights": str(weights)}


def profile(place):
    """The kernels of one training step by their time, and the winners of autotuning, from CubeCL's own logs."""
    size, batch = (64, 2) if place.options.tiny else (800, 2)
    for precision in place.options.precisions:
        folder = place.work / f"profile-{precision}"
        folder.mkdir(exist_ok=True)
        logs = {name: folder / f"{name}.log" for name in ["kernels", "autotune"]}
        (folder / "cubecl.toml").write_text(
            f'[profiling]\nlogger = {{ level = "basic", file = "{logs["kernels"]}" }}\n'
            f'[autotune]\nlogger = {{ level = "minimal", file = "{logs["autotune"]}" }}\n')
        case = folder / "case.jsonl"
        case.write_text(json.dumps(foveal_case(size, batch, precision, 1)) + "\n")

        def run():
            sets = [f"--set={key}={value}" for key, value in settings(place).items()]
            out, _, took = place.foveal_run("bench", "--cases", case, "--json", "-", "--device", place.options.device,
                                            *sets, seconds=place.options.tune_seconds, cwd=folder)
            answer = json.loads(out.splitlines()[-1])
            if "error" in answer:
                raise Failed(answer["error"])
            return {"seconds": took, "kernels": last_summary(logs["kernels"].read_text()), "report": answer["report"]}

        guarded(place, "profile", f"{size} batch {batch} {precision}", run, precision=precision)
        for name, path in logs.items():
            if path.exists():
                keep_log(path, place.out / f"{name}-{precision}.log.xz")


def last_summary(text, most=40):
    """The rows of the last table in CubeCL's log: name, duration, count and share of each kernel."""
    rows, last = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Name":
            rows = []
        elif len(cells) == 4 and cells[3].endswith("%"):
            rows.append({"kernel": cells[0][:160], "time": cells[1], "count": cells[2], "share": cells[3]})
            if cells[0] == "Total":
                last = rows
    if not last:
        raise Failed("the log of kernels has no summary")
    return last[:most] + (last[-1:] if len(last) > most else [])


def keep_log(path, to, most=200 << 20):
    """Compresses the last part of a log into the output folder."""
    import lzma

    with open(path, "rb") as log, lzma.open(to, "wb", preset=1) as out:
        log.seek(max(0, path.stat().st_size - most))
        while part := log.read(1 << 20):
            out.write(part)


def quickstart(place):
    """The quickstart to its end, then the evaluation of its best checkpoint."""
    tiny = ["data.shapes.count=8", "data.shapes.val_count=2", "data.shapes.size=[64, 64]", "data.min_size=64",
            "data.max_size=64", "model.base_width=8", "model.fpn_channels=16", "model.head.convs=1",
            "model.head.groups=4", "train.epochs=1"]
    for precision in place.options.precisions:
        folder = place.work / f"quickstart-{precision}"

        def run():
            sets = [f"--set={key}" for key in tiny if place.options.tiny]
            sets += [] if precision == "f32" else [f"--set=train.precision={precision}"]
            config = place.config("quickstart.toml")
            _, told, took = place.foveal_run("train", config, "--device", place.options.device, "--out", folder, *sets,
                                             seconds=place.options.quickstart_seconds)
            checkpoint = folder / "checkpoints/best.safetensors"
            metrics = folder / "metrics.json"
            if not checkpoint.exists():  # no evaluation had a defined AP
                checkpoint = folder / "checkpoints/last.safetensors"
            place.foveal_run("eval", checkpoint, "--device", place.options.device, "--json", metrics, seconds=120)
            metrics = json.loads(metrics.read_text())
            return {"seconds": took, "AP": metrics["AP"], "AP50": metrics["AP50"], "messages": tail(told, 1500)}

        guarded(place, "quickstart", precision, run, precision=precision)


# The stages in their order, with the seconds that each may take. On an H100, tuning a ResNet-50 takes 4 to 6 minutes for
# each case, and `check` nearly 4.
STAGES = {"features": (features, 60), "check": (check, 300), "train": (train, 1800), "infer": (infer, 900),
          "parity": (parity, 1200), "quickstart": (quickstart, 900), "overhead": (overhead, 600), "tuning": (tuning, 900),
          "profile": (profile, 900)}
