"""The cases that run a whole network: training steps, inference, raw networks, memory and page faults."""

from case import CLASSES, WARMUP, Case, best_torchvision, digest, request, settings, torchvision
from rivals import RIVALS
from sides import Failed, Worker

BATCH = 2
PASSING = 2000  # pairs of anchor and class above the threshold, as in a trained detector
MOST_APART = 1e-3  # largest difference between the outputs of two programs, relative to the largest output
# For each case, the targets of the ratio to torchvision's default: on AVX2 and on AVX-512. Its best configuration may be
# closer by BEST_MORE.
TRAINING = {"train320": (0.43, 0.48), "train512": (0.43, 0.48), "train320r18": (0.36, 0.42)}
BEST_MORE = 0.07


def training(name, backbone, size):
    def make(place):
        o = place.options
        keys, ask = settings(backbone, size, BATCH, o.freeze), request(place, backbone, size, BATCH)
        rivals = place.rivals(torchvision(
            lambda worker, variant: worker.ask("train", steps=o.steps, warmup=WARMUP, **{**ask, "variant": variant})["ms"]))
        target = place.target(*TRAINING[name]) if name in TRAINING else None
        groups, targets = best_torchvision(target and target + BEST_MORE)
        return Case(name, f"training step, {backbone}-FPN, batch {BATCH}, {size}x{size}, {o.freeze} frozen stages", "ms", {
            "foveal": lambda: place.foveal.bench("train", o.steps, keys)["train_step_ms"],
            **place.old("train", "train_step_ms", keys), **rivals,
        }, {**targets, **({"torchvision": target} if target else {})}, groups=groups)
    return make


def inference(place):
    """Inference with post-processing on one image, with the same weights on all sides."""
    o, size, found = place.options, 512, {}
    ask = {**request(place, "resnet50", size, 1), "frozen": 0}
    weights, labels = place.cache / "detector.pth", place.cache / "labels.txt"
    checkpoint, onnx = place.cache / "detector.safetensors", place.cache / "detector.onnx"
    with Worker(o) as worker:
        worker.ask("make_weights", **ask, pairs=PASSING, out=str(weights))
    # torchvision's first channel is the background.
    labels.write_text("".join(f"class_{c}\n" for c in range(1, CLASSES)))
    place.foveal.run("import", weights, "--arch", "retinanet_resnet50_fpn", "--labels", labels, "-o", checkpoint)
    place.foveal.run("export", checkpoint, "--format", "onnx", "--nms", "--no-verify", "-o", onnx)
    keys = settings("resnet50", size, 1)

    def turn(worker, key, do, **more):
        answer = worker.ask(do, steps=o.steps, warmup=WARMUP, **{**ask, **more})
        found[RIVALS[key].name] = answer["detections"]
        return answer["ms"]

    rivals = place.rivals({
        **torchvision(lambda worker, key: turn(worker, key, "infer", weights=str(weights), variant=key)),
        **{key: lambda worker, key=key: lambda: turn(worker, key, "run_detector", runtime=key, model=str(onnx))
           for key in ("onnxruntime", "openvino")},
    })
    groups, _ = best_torchvision()
    return Case("infer512", f"inference with post-processing, resnet50-FPN, batch 1, {size}x{size}", "ms", {
        "foveal": lambda: place.foveal.bench("infer", o.steps, keys, "--checkpoint", checkpoint)["infer_ms"],
        **place.old("infer", "infer_ms", keys, "--checkpoint", checkpoint), **rivals,
    }, {"torchvision": 0.60, "onnxruntime": 1.0}, groups=groups,
        notes=[f"With the seeded weights, about {PASSING} pairs of anchor and class pass the score threshold.", found])


def raw(name, backbone, size=512):
    """Backbone, pyramid and heads on one image, with the same weights on all sides. Every rival computes the logits and
    deltas of all anchors in torchvision's order, and its outputs are compared with foveal's."""
    def make(place):
        o, keys, apart = place.options, settings(backbone, size, 1), {}
        ask = {**request(place, backbone, size, 1), "frozen": 0}
        reference = place.cache / f"raw-{backbone}.safetensors"
        place.foveal.bench("raw", 1, keys, "--outputs", reference)
        model = place.cache / f"raw-{backbone}-{digest(reference)}"
        ask["reference"] = str(reference)
        kinds = [kind for kind, keys_ in (("onnx", {"onnxruntime", "openvino"}), ("ncnn", {"ncnn"}))
                 if keys_ & set(o.rivals)]
        if kinds:
            with Worker(o) as worker:
                worker.ask("export", **ask, kinds=kinds, out=str(model))

        def turn(worker, key, do, **more):
            answer = worker.ask(do, steps=o.steps, warmup=WARMUP, **{**ask, **more})
            if not answer["apart"] <= MOST_APART:
                raise Failed(f"the outputs differ from foveal's by {answer['apart']:.1e} of the largest one")
            apart[f"outputs of {RIVALS[key].name} against foveal's"] = f"{answer['apart']:.1e}"
            return answer["ms"]

        rivals = place.rivals({
            **torchvision(lambda worker, key: turn(worker, key, "infer_raw", variant=key)),
            **{key: lambda worker, key=key: lambda: turn(worker, key, "run_raw", runtime=key, model=str(model))
               for key in ("onnxruntime", "openvino", "ncnn")},
        })
        groups, _ = best_torchvision()
        groups["fastest"] = list(rivals)
        return Case(name, f"network without post-processing, {backbone}-FPN, batch 1, {size}x{size}", "ms", {
            "foveal": lambda: place.foveal.bench("raw", o.steps, keys)["infer_raw_ms"], **rivals,
        }, {"fastest": 1.0} if o.threads > 1 else {}, groups=groups,
            notes=["Largest differences, relative to the largest output:", apart])
    return make


def memory(place):
    """Peak resident memory. Each value is measured in a process of its own."""
    o, keys, base = place.options, settings("resnet50", 512, BATCH, place.options.freeze), {}

    def turn():
        with Worker(o) as worker:
            worker.ask("versions")
            base["MiB of torch and torchvision after the import"] = round(worker.ask("memory")["peak_mb"])
            worker.ask("train", steps=2, warmup=1, **request(place, "resnet50", 512, BATCH))
            return [worker.ask("memory")["peak_mb"]]

    once = {**keys, "bench.warmup": 1}
    return Case("memory512", f"peak resident memory of the training step, resnet50-FPN, batch {BATCH}, 512x512", "MiB", {
        "foveal": lambda: [place.foveal.bench("train", 2, once)["peak_rss_mb"]],
        **({"foveal before": lambda: [place.before.bench("train", 2, once)["peak_rss_mb"]]} if place.before else {}),
        **({"torchvision": turn} if "torchvision" in o.rivals else {}),
    }, {"torchvision": 0.45}, notes=[base])


def faults(place):
    """Minor page faults of a timed training step. Those of --before are a difference of two runs, because an old binary
    does not report them."""
    o = place.options
    keys, ask = settings("resnet50", 512, BATCH, o.freeze), request(place, "resnet50", 512, BATCH)

    def before():
        few, many = (place.before.faults("train", steps, keys) for steps in (1, 1 + o.steps))
        return [(many - few) / o.steps]

    return Case("faults512", f"minor page faults of a training step, resnet50-FPN, batch {BATCH}, 512x512", "faults", {
        "foveal": lambda: [place.foveal.bench("train", o.steps, keys)["minor_faults"]],
        **({"foveal before": before} if place.before else {}),
        **place.rivals({"torchvision": lambda worker: lambda: [
            worker.ask("train", steps=o.steps, warmup=WARMUP, **ask)["minor_faults"]]}),
    }, {"foveal before": 0.1})
