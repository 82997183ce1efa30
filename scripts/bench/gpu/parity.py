"""The stages of run.py that compare a GPU with the CPU, and plant a NaN."""

import json
import shutil
import struct
from array import array
from concurrent.futures import ThreadPoolExecutor

from place import ERRORS, Failed, Late, described, tail

TINY_NETWORK = """
[data]
source = "shapes"
min_size = {size}
max_size = {size}
[data.shapes]
size = [{size}, {size}]
count = 64
val_count = 1
[model]
backbone = "{backbone}"
base_width = {width}
fpn_channels = {channels}
[model.head]
convs = {convs}
norm = "group"
groups = 4
[train]
epochs = 100
batch_size = 2
eval_every = 0
scale_lr = false
optimizer = "adamw"
lr = 1e-4
clip_norm = 10.0
"""
STEPS = 20
# Steps of which f16 may leave out so many because of an overflow, while its loss scale adapts.
OVERFLOWS = 5
# Largest relative difference from the CPU that passes: of the first step, and of all steps.
LIMITS = {"f32": (1e-3, 1e-2), "f16": (1e-2, 1e-1), "bf16": (5e-2, 3e-1)}
KEYS = ["class_loss", "box_loss", "loss", "grad_norm"]


def check(place):
    """The first steps of a small network, in one process for each precision, before anything is measured."""
    twenty_steps(place, "tiny" if place.options.tiny else "quickstart's network at 64", small_network(place))


def small_network(place):
    """The configuration of the quickstart's network, or of a smaller one in a dry run."""
    sizes = {"width": 8, "channels": 16, "convs": 1} if place.options.tiny else {"width": 32, "channels": 64, "convs": 2}
    return network(place, backbone="resnet18", size=64, **sizes)


def network(place, **values):
    config = place.work / f"parity-{values['backbone']}.toml"
    config.write_text(TINY_NETWORK.format(**values))
    return config


def parity(place):
    if not place.options.tiny:
        config = network(place, backbone="resnet50", width=64, channels=256, convs=4, size=320)
        twenty_steps(place, "resnet50 at 320", config)
    frozen_norms(place, *((64, 2) if place.options.tiny else (320, 2)))
    config = small_network(place)
    for precision in place.options.precisions:
        try:
            values = nan(place, config, precision)
        except ERRORS as error:
            values = {"ok": False, "error": described(error)}
        place.results.add("nan", f"learning rate 1e30, {precision}", precision=precision, **values)
    if not place.options.tiny:
        too_large(place)
        # More values than 65,535 workgroups hold in one dimension, and tensors near the limit of 2 GiB.
        frozen_norms(place, 800, 8)


def sides(place):
    """Device and precision of each side; the first is the CPU, with which the others are compared."""
    return [("flex", "f32")] + [(place.options.device, precision) for precision in place.options.precisions]


def precision_set(precision):
    return [] if precision == "f32" else [f"--set=train.precision={precision}"]


def compared(place, stage, case, measure):
    """Measures rows of values by step on each side, and appends the differences from the CPU."""
    def guarded(side):
        try:
            return measure(*side)
        except ERRORS as error:
            return error

    # All sides at the same time: most of a side's time on a GPU is compiling and tuning on one core.
    with ThreadPoolExecutor() as pool:
        found = list(zip(sides(place), pool.map(guarded, sides(place))))
    _, expected = found[0]
    for (device, precision), rows in found:
        known = {"device": device, "precision": precision}
        try:
            if isinstance(rows, Exception):
                raise rows
            if rows is expected:
                place.results.add(stage, case, ok=True, **known, values=rows)
                continue
            if isinstance(expected, Exception):
                raise Failed("there is nothing to compare with")
            pairs, overflows = paired(rows, expected, precision)
            each = [difference(row, other) for row, other in pairs]
            first, most = LIMITS[precision]
            ok = each[0] <= first and max(each) <= most
            place.results.add(stage, case, ok=ok, **known, first=each[0], most=max(each), limits=[first, most],
                              overflows=overflows, values=rows)
        except ERRORS as error:
            place.results.add(stage, case, ok=False, **known, error=described(error))


def paired(rows, expected, precision):
    """Pairs of the rows of the same step, and the number of steps that f16 left out because of an overflow. Such a step
    has no row, or one without a gradient norm, of which the losses are compared. Other precisions leave out none."""
    pairs, missing = [], [step for step in expected if step not in rows]
    overflows = len(missing)
    for step, row in sorted(rows.items()):
        other = expected[step]
        if precision == "f16" and row[-1] is None and None not in row[:-1]:
            overflows += 1
            row, other = row[:-1], other[:-1]
        pairs.append((row, other))
    if not pairs or overflows > (OVERFLOWS if precision == "f16" else 0):
        raise Failed(f"expected {len(expected)} steps, found {len(rows)}; {overflows} without a gradient norm")
    return pairs, overflows


def difference(row, expected):
    """The largest relative difference of a row's values; infinite where one is not a number."""
    each = [abs(a - b) / max(abs(b), 1e-6) if a is not None and b is not None else float("inf")
            for a, b in zip(row, expected, strict=True)]
    return max(d if d == d else float("inf") for d in each)


def twenty_steps(place, name, config):
    """Losses and gradient norms of the first steps of a training run, with the same samples and weights on each side."""

    def measure(device, precision):
        folder = place.work / f"parity-{config.stem}-{device.replace(':', '-')}-{precision}"
        shutil.rmtree(folder, ignore_errors=True)
        place.foveal_run("train", config, "--device", device, "--out", folder, f"--set=train.max_steps={STEPS}",
                         "--set=train.log_every=1", *precision_set(precision), seconds=place.options.tune_seconds)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        lines = [line for line in lines if "grad_norm" in line and "event" not in line]
        rows = {line["step"]: [line[key] for key in KEYS] for line in lines}
        if device == "flex" and len(rows) != STEPS:
            raise Failed(f"expected {STEPS} steps in the log, found {len(rows)}")
        return rows

    compared(place, "parity", f"{STEPS} steps, {name}", measure)


def frozen_norms(place, size, batch):
    """Losses and gradient norm of the first step of `foveal bench`, which has frozen norms and random images."""
    keys = {"model.backbone": place.options.backbone, "model.norm": "frozen_batch", "train.optimizer": "sgd",
            "bench.height": size, "bench.width": size, "bench.batch_size": batch}
    if place.options.tiny:
        keys |= {"model.base_width": 8, "model.fpn_channels": 16, "model.head.convs": 1, "bench.classes": 3}

    def measure(device, precision):
        sets = [f"--set={key}={value}" for key, value in {**keys, "bench.warmup": 1}.items()]
        out, _, _ = place.foveal_run("bench", "--only", "train", "--steps", "1", "--json", "-", "--device", device, *sets,
                                     *precision_set(precision), seconds=place.options.tune_seconds)
        return {1: json.loads(out)["first_step_values"]}

    compared(place, "parity", f"first step, {place.options.backbone} with frozen norms, {size} batch {batch}", measure)


def nan(place, config, precision):
    """A learning rate of 1e30 makes the weights huge in the first step and the losses of the second NaN. The run must end
    with a black box whose weights are those after the first step: later steps have changed nothing."""
    sets = ["--set=train.lr=1e30", "--set=train.warmup_steps=0", "--set=train.clip_norm=0", "--set=train.optimizer=sgd"]
    device, folders = place.options.device, {}
    for name, steps in [("one", 1), ("all", 100)]:
        folders[name] = folder = place.work / f"nan-{precision}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        command = [place.foveal, "train", config, "--device", device, "--out", folder, *sets,
                   f"--set=train.max_steps={steps}", *precision_set(precision)]
        _, told, code, _ = place.run(command, place.options.tune_seconds)
    box = folders["all"] / "blackbox/weights.safetensors"
    if code == 0 or "error:" not in told or not box.is_file():
        raise Failed(f"a run that must end with a black box ended with {code}: {tail(told)}")
    kept = tensors(box)
    if precision == "f16":  # steps that overflow are left out, so that the first that counts is not known
        finite = all(v == v and abs(v) < float("inf") for values in kept.values() for v in values)
        return {"ok": finite, "message": tail(told)}
    after_one = tensors(folders["one"] / "checkpoints/last.safetensors")
    largest = max(max(map(abs, values)) for values in after_one.values() if values)
    worst = 0.0
    for name, values in after_one.items():
        for a, b in zip(values, kept[name], strict=True):
            worst = max(worst, abs(a - b) / largest) if a == a and b == b else float("inf")
    return {"ok": worst <= 1e-3, "difference": worst, "largest_weight": largest, "message": tail(told)}


def tensors(path):
    """The f32 tensors of a safetensors file by name."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8: 8 + size])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            found[name] = array("f", data[begin:end])
    return found


def too_large(place):
    """A batch that no adapter with bindings of 2 GiB can hold must be refused with a message."""
    config = place.work / "too-large.toml"
    config.write_text(TINY_NETWORK.format(backbone="resnet50", width=64, channels=256, convs=4, size=64))
    command = [place.foveal, "train", config, "--device", place.options.device, "--out", place.work / "too-large",
               "--set=data.fixed_size=[800, 1344]", "--set=train.batch_size=64", "--set=train.max_steps=1"]
    try:
        _, told, code, took = place.run(command, 120)
    except Late as error:
        place.results.add("limits", "batch 64 of 800x1344", ok=False, error=described(error))
        return
    ok = code in (1, 2) and "error:" in told and "internal error" not in told
    place.results.add("limits", "batch 64 of 800x1344", ok=ok, code=code, seconds=took, message=tail(told))
