"""Runs the rivals: torchvision's RetinaNet, its losses, PyTorch's DataLoader, onnxruntime, OpenVINO, ncnn.

Reads requests from stdin, one JSON object per line, and answers each with one line of JSON on stdout: the result, or the
key `error` and, on stderr, the traceback. Between two requests it blocks in a read, so that it uses no processor time
during foveal's turn. Models, data and sessions are built for the first request that needs them, and kept.
"""

import functools
import importlib.metadata
import json
import os
import sys
import time
import traceback

import runtimes
import torch_detector


@functools.cache
def data_loader(annotations, images, batch, workers):
    import torch_data

    return torch_data.loader(annotations, images, batch, workers)


def data(request):
    loader = data_loader(request["annotations"], request["images"], request["batch"], request["workers"])
    rates = []
    for i in range(request["warmup"] + request["steps"]):
        started, count = time.perf_counter(), 0
        for images, _ in loader:
            count += len(images)
        if i >= request["warmup"]:
            rates.append(count / (time.perf_counter() - started))
    return {"images_per_second": rates}


def to_jpeg(request):
    """Writes JPEG files beside the PNG files of a generated set, and annotations that name them."""
    from pathlib import Path

    from torchvision import io

    folder = Path(request["folder"])
    coco = json.loads((folder / "annotations/train.json").read_text())
    for image in coco["images"]:
        png = folder / "images/train" / image["file_name"]
        image["file_name"] = png.with_suffix(".jpg").name
        if not png.with_suffix(".jpg").exists():
            io.write_jpeg(io.decode_image(str(png), mode=io.ImageReadMode.RGB), str(png.with_suffix(".jpg")), quality=90)
    (folder / "annotations/train.jpeg.json").write_text(json.dumps(coco))
    return {}


def memory(_):
    """The peak resident memory so far, in MiB."""
    with open("/proc/self/status") as status:
        line = next(l for l in status if l.startswith("VmHWM:"))
    return {"peak_mb": int(line.split()[1]) / 1024}


def versions(_):
    """The versions of all packages that are installed, and the instruction set that torch uses. Imports torch and
    torchvision."""
    import torchvision  # noqa: F401

    found = {}
    for package in ("torch", "torchvision", "onnxruntime", "openvino", "ncnn"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    torch = torch_detector.torch()
    return {**found, "mkldnn": torch.backends.mkldnn.is_available(),
            "torch's instruction set": torch.backends.cpu.get_cpu_capability()}


TURNS = [torch_detector.train, torch_detector.infer, torch_detector.infer_raw, torch_detector.focal, torch_detector.loss,
         torch_detector.make_weights, runtimes.export, runtimes.run_raw, runtimes.run_detector, data, to_jpeg, memory,
         versions]


def main():
    # Output printed by libraries, also by their C++ parts and the programs they start, must not break the protocol.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    turns = {turn.__name__: turn for turn in TURNS}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = turns[request["do"]](request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{request['do']}: {type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
