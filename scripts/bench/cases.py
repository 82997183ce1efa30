"""The cases that are compared, and how a case is measured. A case has a turn for foveal and one for each rival; a turn
returns a list of values."""

import contextlib
import copy
import json
import os
import subprocess
import sys

import coco_files
from case import CLASSES, WARMUP, Case, Place, request, settings
from networks import BATCH, faults, inference, memory, raw, training
from sides import HERE, Failed, environment

LOADER_BATCH, LOADER_IMAGES = 4, 384


def focal(place):
    """The focal loss alone. An image of 512x512 has 49104 anchors."""
    o, worker, keys = place.options, place.worker(), settings("resnet18", 512, BATCH)
    ask = {"batch": BATCH, "anchors": 49104, "classes": CLASSES}
    return Case("focal", f"focal loss alone, forward and backward, logits [{BATCH}, 49104, {CLASSES}]", "ms", {
        "foveal": lambda: place.foveal.bench("focal", 5 * o.steps, keys)["focal_ms"],
        **place.old("focal", "focal_ms", keys),
        "torchvision": lambda: worker.ask("focal", steps=o.steps, warmup=WARMUP, **ask)["ms"],
    }, {"torchvision": 0.15}, notes=["The one-hot targets of torchvision's sigmoid_focal_loss are computed before the clock starts."])


def losses(place):
    o, worker, keys = place.options, place.worker(), settings("resnet18", 512, BATCH)
    ask = request(place, "resnet18", 512, BATCH)
    return Case("loss", f"class and box loss from given matches, forward and backward, logits [{BATCH}, 49104, {CLASSES}]", "ms", {
        "foveal": lambda: place.foveal.bench("loss", 5 * o.steps, keys)["loss_ms"],
        "torchvision": lambda: worker.ask("loss", steps=o.steps, warmup=WARMUP, **ask)["ms"],
    })


def loading(place):
    o, worker = place.options, place.worker()
    if o.data:
        source, images = coco_files.find_set(o.data)
    else:
        folder = place.cache / "shapes"
        if not folder.exists():
            place.foveal.run("data", "shapes", "--out", folder, "--set=data.shapes.size=[480, 640]",
                             "--set=data.shapes.count=192", "--set=data.shapes.val_count=1")
        worker.ask("to_jpeg", folder=str(folder))
        source, images = folder / "annotations/train.jpeg.json", folder / "images/train"
    longer = place.cache / "loader.json"
    count = coco_files.repeated_set(source, images, LOADER_IMAGES, longer)
    keys = {"data.train.annotations": longer, "data.train.images": images, "data.workers": o.threads,
            "data.min_size": 512, "data.max_size": 853, "train.batch_size": LOADER_BATCH, "bench.warmup": 1}
    ask = {"annotations": str(longer), "images": str(images), "batch": LOADER_BATCH, "workers": o.threads}
    passes = max(1, o.steps // 2)
    return Case("data", f"loading {count} JPEG images, resized to 512, batch {LOADER_BATCH}, {o.threads} workers",
                "images/s", {
        "foveal": lambda: place.foveal.bench("data", passes, keys)["data_images_per_second"],
        "DataLoader": lambda: worker.ask("data", steps=passes, warmup=1, **ask)["images_per_second"],
    }, {"DataLoader": 2.0}, higher=True, notes=["Both end in normalised f32 values. foveal also matches anchors; PyTorch does not."])


def scoring(part):
    """`foveal score` and its rivals on the same files, timed as whole processes or without start-up."""
    whole = part == "process"

    def make(place):
        truth, results = coco_files.results_set(place.cache / "score")
        out, values = place.cache / "score" / "metrics.json", {}

        def foveal():
            _, told, seconds = place.foveal.run("score", "--annotations", truth, "--detections", results, "--json", out,
                                                "--times", "--threads", place.options.threads)
            values["foveal"] = json.loads(out.read_text())["AP"]
            words = next(l for l in told.splitlines() if l.startswith("read in ")).split()
            return [seconds if whole else float(words[2]) + float(words[6])]

        def rival(tool):
            def turn():
                import time
                started = time.perf_counter()
                command = [sys.executable, str(HERE / "coco_rival.py"), tool, str(truth), str(results)]
                done = subprocess.run(command, env=environment(place.options), text=True, capture_output=True)
                seconds = time.perf_counter() - started
                if done.returncode != 0:
                    raise Failed(done.stderr)
                told = json.loads(done.stdout)
                values[tool] = told["AP"]
                if abs(told["AP"] - values.get("foveal", told["AP"])) > 1e-9:
                    raise Failed(f"the AP values differ: {values}")
                return [seconds if whole else told["load"] + told["evaluate"]]
            return turn

        what = "whole process" if whole else "reading, evaluating, accumulating"
        return Case("score_process" if whole else "score", f"COCO metrics of 5000 images, {what}", "s",
                    {"foveal": foveal, **{t: rival(t) for t in ("pycocotools", "faster_coco_eval")}},
                    {"pycocotools": 0.05}, notes=[values])
    return make


def on_one_thread(make):
    """A case that pins all programs to one core."""
    def pinned(place):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        place.options.threads = 1
        return make(place)
    return pinned


def devices(place):
    """A training step of foveal on its two CPU backends."""
    o, keys = place.options, settings("resnet50", 320, BATCH, place.options.freeze)
    turn = lambda device: lambda: place.foveal.bench("train", o.steps, keys, device=device)["train_step_ms"]
    return Case("ndarray320", f"training step of foveal on ndarray against flex, resnet50-FPN, batch {BATCH}, 320x320", "ms",
                {"foveal": turn("ndarray"), "foveal on flex": turn("flex")}, {"foveal on flex": 1.15})


def scaling(place):
    """A training step of foveal on two threads and on one. The target of the ratio is 1 / 1.8."""
    o, keys = place.options, settings("resnet50", 320, BATCH, place.options.freeze)
    turn = lambda n: lambda: place.foveal.bench("train", o.steps, keys, threads=n)["train_step_ms"]
    return Case("scaling320", f"training step of foveal on 2 threads against 1, resnet50-FPN, batch {BATCH}, 320x320", "ms",
                {"foveal": turn(2), "foveal on 1 thread": turn(1)}, {"foveal on 1 thread": 1 / 1.8})


CASES = {
    "train320": training("train320", "resnet50", 320),
    "train512": training("train512", "resnet50", 512),
    "train320r18": training("train320r18", "resnet18", 320),
    "train320_one": on_one_thread(training("train320_one", "resnet50", 320)),
    "infer512": inference,
    "raw512": raw("raw512", "resnet50"),
    "raw512r18": raw("raw512r18", "resnet18"),
    "raw512_one": on_one_thread(raw("raw512_one", "resnet50")),
    "focal": focal,
    "loss": losses,
    "memory512": memory,
    "faults512": faults,
    "data": loading,
    "score": scoring("evaluation"),
    "score_process": scoring("process"),
    "ndarray320": devices,
    "scaling320": scaling,
}


def measure(make, options, sides, say):
    """Measures all pairs of a case, and the peak of the processor in each pair. Returns the case, the pairs and the peaks
    on one thread and on all threads, or None if no rival takes part. `sides(options)` returns the two foveal binaries and
    the instruction set. Workers end with the case, which frees their memory for the next one."""
    with contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        options = copy.copy(options)
        place = Place(options, *sides(options), stack)
        case = make(place)
        case.notes += place.notes
        if len(case.turns) < 2:
            return None
        pairs, peaks = [], []
        for pair in range(options.pairs):
            # The order alternates, so that a drift of the machine's speed affects all sides equally.
            order = list(case.turns) if pair % 2 == 0 else list(case.turns)[::-1]
            values = {side: case.turns[side]() for side in order}
            pairs.append({side: values[side] for side in case.turns})
            peaks.append(place.foveal.peak()[1])
            say(case, pair + 1, options.pairs, pairs[-1])
        return case, pairs, peaks
