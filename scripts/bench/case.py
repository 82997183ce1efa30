"""What a case consists of, and what all cases share."""

import hashlib
from dataclasses import dataclass, field

from rivals import RIVALS, TORCHVISION
from sides import Failed, Worker

CLASSES, BOXES = 80, 8
WARMUP = 2  # untimed steps before the timed ones, on all sides


@dataclass
class Case:
    """One comparison. Lower values are better unless `higher` is set; `targets` bound the ratio foveal/rival."""

    name: str
    what: str
    unit: str
    turns: dict  # for each side, a function that returns values
    targets: dict = field(default_factory=dict)  # for each rival or group
    higher: bool = False
    notes: list = field(default_factory=list)
    groups: dict = field(default_factory=dict)  # rivals of which the best has a row of its own, under a name


class Place:
    """The options, the foveal binaries and the cache folder, which all cases share, and the notes of a case."""

    def __init__(self, options, foveal, before, isa, stack):
        self.options, self.foveal, self.before, self.isa, self.stack = options, foveal, before, isa, stack
        self.notes = []
        self.cache = options.cache / "bench"
        self.cache.mkdir(parents=True, exist_ok=True)

    def worker(self):
        return self.stack.enter_context(Worker(self.options))

    def target(self, avx2, avx512):
        """The target for the instruction set that foveal uses."""
        return avx512 if self.isa == "AVX-512" else avx2

    def old(self, phase, key, keys, *more):
        """The turn of the binary of --before, if there is one."""
        if not self.before:
            return {}
        return {"foveal before": lambda: self.before.bench(phase, self.options.steps, keys, *more)[key]}

    def rivals(self, turns):
        """The turns of the rivals that take part: `turns` has a function for each key of RIVALS that is possible, and the
        function takes a worker and returns a turn. Each turn is run once here, so that compiling and loading lie outside
        of the clock. A rival whose first turn fails is noted and left out."""
        found = {}
        for key in (key for key in turns if key in self.options.rivals):
            name = RIVALS[key].name
            worker = Worker(self.options)
            try:
                turn = turns[key](worker)
                turn()
            except Failed as error:
                worker.close()
                self.notes.append(f"{name} failed and is not counted: {str(error).splitlines()[0]}.")
                print(f"compare: {name} failed and is not counted: {error}")
                continue
            self.stack.callback(worker.close)
            found[name] = turn
        return found


def torchvision(turn):
    """The three configurations of torchvision for `Place.rivals`; `turn(worker, variant)` runs one of them."""
    return {key: lambda worker, key=key: lambda: turn(worker, key) for key in TORCHVISION}


def best_torchvision(target=None):
    """Arguments of Case: the group of torchvision's configurations, and the target of the best one."""
    return {"torchvision, best": [RIVALS[key].name for key in TORCHVISION]}, {"torchvision, best": target} if target else {}


def settings(backbone, size, batch, frozen=0):
    """The keys with which foveal's network and data equal torchvision's v1."""
    return {"model.backbone": backbone, "model.norm": "frozen_batch", "model.p6_from": "p5", "train.optimizer": "sgd",
            "model.freeze_stages": frozen, "model.anchors.rounding": "torchvision", "loss.normalizer": "per_image",
            "bench.classes": CLASSES, "bench.boxes": BOXES, "bench.batch_size": batch, "bench.height": size,
            "bench.width": size, "bench.warmup": WARMUP}


def request(place, backbone, size, batch):
    """The same for torch_worker.py."""
    return {"backbone": backbone, "size": size, "batch": batch, "classes": CLASSES, "boxes": BOXES,
            "frozen": place.options.freeze, "variant": "torchvision"}


def digest(path):
    """The first digits of a file's SHA-256, for the names of files that are made from it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
