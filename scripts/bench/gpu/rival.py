"""torchvision's RetinaNet on a GPU: answers requests from stdin, one JSON object a line, with one line of JSON each.

A training step copies the images to the device, and computes the network, both losses, the gradients and an SGD update,
as `foveal bench` does. Anchors and matches are computed before the clock starts, on both sides. The losses are read
where foveal reads them. The network, its weights' distribution, the boxes and the frozen stages are those of
scripts/bench/torch_detector.py.
"""

import argparse
import contextlib
import gc
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
sys.path.append(str(Path(__file__).resolve().parent.parent))  # in the repository; pack puts all files into one folder

import torch  # noqa: E402
import torch_detector  # noqa: E402

LR = 1e-6  # tiny, like foveal's warm-up, so that random weights do not diverge
READ_EVERY = 20  # steps between two reads of the losses, as foveal's train.log_every on a GPU

PRECISIONS = {
    # name: cuDNN's TF32, TF32 of matrix products, autocast
    "f32": (False, False, None),
    "tf32": (True, False, None),  # PyTorch's default
    "bf16": (True, False, torch.bfloat16),
    "f16": (True, False, torch.float16),
}


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def set_precision(name):
    convolutions, products, half = PRECISIONS[name]
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products
    return half


def autocast(device, half):
    return torch.autocast(device.type, dtype=half) if half is not None else contextlib.nullcontext()


class Detector:
    """The network and its inputs in host memory, with anchors and matches on the device."""

    def __init__(self, request, device):
        from torchvision.models.detection.image_list import ImageList
        from torchvision.ops import box_iou

        torch.manual_seed(0)
        self.device, self.half = device, set_precision(request["precision"])
        self.format = torch.channels_last if request["channels_last"] else torch.contiguous_format
        size, batch = request["size"], request["batch"]
        self.model = torch_detector.build(request["backbone"], request["classes"], request["frozen"])
        if request.get("weights"):
            self.model.load_state_dict(torch.load(request["weights"], weights_only=True))
        self.model.to(device, memory_format=self.format)
        images = torch.randn(batch, 3, size, size)
        self.images = images.pin_memory() if device.type == "cuda" else images
        self.sizes = [(size, size)] * batch
        with torch.no_grad():
            image = self.copied()[:1]
            features = list(self.model.backbone(image).values())
            anchors = self.model.anchor_generator(ImageList(image, self.sizes[:1]), features)[0]
        self.cells = [f.shape[2] * f.shape[3] for f in features]
        self.anchors = [anchors] * batch
        targets = [torch_detector.boxes_and_labels(request) for _ in range(batch)]
        self.targets = [{key: value.to(device) for key, value in t.items()} for t in targets]
        self.matches = [self.model.proposal_matcher(box_iou(t["boxes"], anchors)) for t in self.targets]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=LR, momentum=0.9, weight_decay=1e-4)
        self.scaler = torch.amp.GradScaler(device.type, enabled=request["precision"] == "f16" and device.type == "cuda")
        self.losses = []

    def copied(self):
        return self.images.to(self.device, non_blocking=True).contiguous(memory_format=self.format)

    def dense(self):
        return self.model.head(list(self.model.backbone(self.copied()).values()))

    def step(self, read):
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.half):
            losses = self.model.head.compute_loss(self.targets, self.dense(), self.anchors, self.matches)
            total = sum(losses.values())
        self.scaler.scale(total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.losses.append(total.detach())
        if read:
            self.last = torch.stack(self.losses).tolist()[-1]
            self.losses = []

    @torch.inference_mode()
    def detect(self):
        with autocast(self.device, self.half):
            dense = self.dense()
        # torchvision decodes and suppresses in f32.
        dense = {key: value.float() for key, value in dense.items()}
        cells = dense["cls_logits"].shape[1] // sum(self.cells)
        levels = [n * cells for n in self.cells]
        split = {k: list(v.split(levels, dim=1)) for k, v in dense.items()}
        anchors = [list(a.split(levels)) for a in self.anchors]
        found = self.model.postprocess_detections(split, anchors, self.sizes)
        # Detections end in host memory, as foveal's do.
        return [{key: value.cpu() for key, value in d.items()} for d in found]


def timed(device, request, step):
    """The mean milliseconds of the steps of each turn. The device is waited for before and after a turn only."""
    started = time.perf_counter()
    step(True)
    synchronize(device)
    first = time.perf_counter() - started
    for _ in range(max(0, request["warmup"] - 1)):
        step(False)
    synchronize(device)
    turns, left = [], request["steps"]
    while left > 0:
        count = min(left, request.get("turn", READ_EVERY))
        started = time.perf_counter()
        for i in range(1, count + 1):
            step(i == READ_EVERY)
        synchronize(device)
        turns.append((time.perf_counter() - started) * 1e3 / count)
        left -= count
    return {"ms": turns, "first_step_seconds": first}


def memory(device):
    """The largest memory in MiB that PyTorch's allocator held, and that tensors used."""
    if device.type != "cuda":
        return {}
    return {"peak_device_mb": torch.cuda.max_memory_reserved() / 2**20,
            "peak_tensors_mb": torch.cuda.max_memory_allocated() / 2**20}


def train(request, device):
    detector = Detector(request, device)
    detector.model.train()
    return {**timed(device, request, detector.step), **memory(device)}


def infer(request, device):
    detector = Detector(request, device)
    detector.model.eval()
    found = sum(len(d["boxes"]) for d in detector.detect())
    times = timed(device, {**request, "turn": 1}, lambda _: detector.detect())
    return {**times, **memory(device), "detections": found}


def make_weights(request, _):
    """A state dict whose detector finds as much as a trained one (torch_detector.py computes it on the CPU)."""
    return torch_detector.make_weights(request)


def versions(_, device):
    import torchvision

    found = {"torch": torch.__version__, "torchvision": torchvision.__version__, "python": sys.version.split()[0]}
    if device.type == "cuda":
        found |= {"card": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


TURNS = {turn.__name__: turn for turn in [train, infer, make_weights, versions]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    # Output printed by libraries must not break the protocol.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            answer = TURNS[request["do"]](request, device)
        except (RuntimeError, ImportError) as error:  # out of memory among others
            answer = {"error": f"{type(error).__name__}: {error}"[:600]}
        # The other program, whose turn begins with the answer, needs the memory.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
