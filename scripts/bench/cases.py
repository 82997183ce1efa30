"""The cases that are compared. A case has a turn for foveal and one for each rival; a turn returns a list of values."""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field

import coco_files
from sides import HERE, Failed, Worker, environment

CLASSES, BOXES, BATCH = 80, 8, 2
WARMUP = 2  # untimed steps before the timed ones, on both sides
PASSING = 2000  # pairs of anchor and class above the threshold, as in a trained detector
LOADER_BATCH, LOADER_IMAGES = 4, 384


@dataclass
class Case:
    """One comparison. Lower values are better unless `higher` is set; `targets` bound the ratio foveal/rival."""

    name: str
    what: str
    unit: str
    turns: dict  # for each side, a function that returns values
    targets: dict = field(default_factory=dict)  # for each rival
    higher: bool = False
    notes: list = field(default_factory=list)


class Place:
    """The options, the foveal binary and the cache folder, which all cases share."""

    def __init__(self, options, foveal, stack):
        self.options, self.foveal, self.stack = options, foveal, stack
        self.cache = options.cache / "bench"
        self.cache.mkdir(parents=True, exist_ok=True)

    def worker(self):
        return self.stack.enter_context(Worker(self.options.threads))


def settings(backbone, size, batch, frozen=0):
    """The keys with which foveal's network and data equal torchvision's v1."""
    return {"model.backbone": backbone, "model.norm": "frozen_batch", "model.p6_from": "p5", "train.optimizer": "sgd",
            "model.freeze_stages": frozen, "model.anchors.rounding": "torchvision", "loss.normalizer": "per_image",
            "bench.classes": CLASSES, "bench.boxes": BOXES, "bench.batch_size": batch, "bench.height": size,
            "bench.width": size, "bench.warmup": WARMUP}


def request(place, backbone, size, batch):
    o = place.options
    return {"backbone": backbone, "size": size, "batch": batch, "classes": CLASSES, "boxes": BOXES,
            "frozen": o.freeze, "channels_last": o.channels_last}


def training(name, backbone, size):
    def make(place):
        o, worker = place.options, place.worker()
        keys, ask = settings(backbone, size, BATCH, o.freeze), request(place, backbone, size, BATCH)
        return Case(name, f"training step, {backbone}-FPN, batch {BATCH}, {size}x{size}, {o.freeze} frozen stages", "ms", {
            "foveal": lambda: place.foveal.bench("train", o.steps, keys)["train_step_ms"],
            "torchvision": lambda: worker.ask("train", steps=o.steps, warmup=WARMUP, **ask)["ms"],
        }, {"torchvision": 0.65})
    return make


def inference(place):
    """Inference with post-processing on one image, with the same weights on all sides."""
    o, worker, size = place.options, place.worker(), 512
    ask = {**request(place, "resnet50", size, 1), "frozen": 0}
    weights, labels = place.cache / "detector.pth", place.cache / "labels.txt"
    checkpoint, onnx = place.cache / "detector.safetensors", place.cache / "detector.onnx"
    worker.ask("make_weights", **ask, pairs=PASSING, out=str(weights))
    # torchvision's first channel is the background.
    labels.write_text("".join(f"class_{c}\n" for c in range(1, CLASSES)))
    place.foveal.run("import", weights, "--arch", "retinanet_resnet50_fpn", "--labels", labels, "-o", checkpoint)
    place.foveal.run("export", checkpoint, "--format", "onnx", "--nms", "--no-verify", "-o", onnx)
    keys, runtime, found = settings("resnet50", size, 1), place.worker(), {}

    def rival(name, who, do, **more):
        def turn():
            answer = who.ask(do, steps=o.steps, warmup=WARMUP, **ask, **more)
            found[name] = answer["detections"]
            return answer["ms"]
        return turn

    rivals = {"torchvision": rival("torchvision", worker, "infer", weights=str(weights)),
              "onnxruntime": rival("onnxruntime", runtime, "onnx", onnx=str(onnx))}
    return Case("infer512", f"inference with post-processing, resnet50-FPN, batch 1, {size}x{size}", "ms", {
        "foveal": lambda: place.foveal.bench("infer", o.steps, keys, "--checkpoint", checkpoint)["infer_ms"], **rivals,
    }, {"torchvision": 0.60, "onnxruntime": 1.0},
        notes=[f"With the seeded weights, about {PASSING} pairs of anchor and class pass the score threshold.", found])


def focal(place):
    """The focal loss alone. An image of 512x512 has 49104 anchors."""
    o, worker, keys = place.options, place.worker(), settings("resnet18", 512, BATCH)
    ask = {"batch": BATCH, "anchors": 49104, "classes": CLASSES}
    return Case("focal", f"focal loss alone, forward and backward, logits [{BATCH}, 49104, {CLASSES}]", "ms", {
        "foveal": lambda: place.foveal.bench("focal", 5 * o.steps, keys)["focal_ms"],
        "torchvision": lambda: worker.ask("focal", steps=o.steps, warmup=WARMUP, **ask)["ms"],
    }, {"torchvision": 0.20}, notes=["The one-hot targets of torchvision's sigmoid_focal_loss are computed before the clock starts."])


def losses(place):
    o, worker, keys = place.options, place.worker(), settings("resnet18", 512, BATCH)
    ask = request(place, "resnet18", 512, BATCH)
    return Case("loss", f"class and box loss from given matches, forward and backward, logits [{BATCH}, 49104, {CLASSES}]", "ms", {
        "foveal": lambda: place.foveal.bench("loss", 5 * o.steps, keys)["loss_ms"],
        "torchvision": lambda: worker.ask("loss", steps=o.steps, warmup=WARMUP, **ask)["ms"],
    })


def memory(place):
    """Peak resident memory. Each value is measured in a process of its own."""
    o, keys, base = place.options, settings("resnet50", 512, BATCH, place.options.freeze), {}

    def torchvision():
        with Worker(o.threads) as worker:
            worker.ask("versions")
            base["MiB of torch and torchvision after the import"] = round(worker.ask("memory")["peak_mb"])
            worker.ask("train", steps=2, warmup=1, **request(place, "resnet50", 512, BATCH))
            return [worker.ask("memory")["peak_mb"]]

    return Case("memory512", f"peak resident memory of the training step, resnet50-FPN, batch {BATCH}, 512x512", "MiB", {
        "foveal": lambda: [place.foveal.bench("train", 2, {**keys, "bench.warmup": 1})["peak_rss_mb"]],
        "torchvision": torchvision,
    }, {"torchvision": 0.80}, notes=[base])


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
    }, {"DataLoader": 2.0}, higher=True, notes=["foveal also matches anchors; PyTorch does not."])


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
                done = subprocess.run(command, env=environment(place.options.threads), text=True, capture_output=True)
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
    "infer512": inference,
    "focal": focal,
    "loss": losses,
    "memory512": memory,
    "data": loading,
    "score": scoring("evaluation"),
    "score_process": scoring("process"),
    "ndarray320": devices,
    "scaling320": scaling,
}


def measure(make, options, foveal, say):
    """Measures all pairs of a case. Workers end with the case, which frees their memory for the next one."""
    with contextlib.ExitStack() as stack:
        case = make(Place(options, foveal, stack))
        pairs = []
        for pair in range(options.pairs):
            # The order alternates, so that a drift of the machine's speed affects all sides equally.
            order = list(case.turns) if pair % 2 == 0 else list(case.turns)[::-1]
            values = {side: case.turns[side]() for side in order}
            pairs.append({side: values[side] for side in case.turns})
            say(case, pair + 1, options.pairs, pairs[-1])
        return case, pairs
