"""Runs the rivals: torchvision's RetinaNet, its losses, PyTorch's DataLoader, onnxruntime.

Reads requests from stdin, one JSON object per line, and answers each with one line of JSON on stdout. Between two
requests it blocks in a read, so that it uses no processor time during foveal's turn. Models, data and sessions are built
for the first request that needs them, and kept.
"""

import functools
import json
import os
import sys
import time

THREADS = int(os.environ["OMP_NUM_THREADS"])
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRIOR_LR = 1e-6  # tiny, like foveal's warm-up, so that random weights do not diverge


def timed(steps, warmup, step):
    """Returns the milliseconds of each step after the warm-up."""
    times = []
    for i in range(warmup + steps):
        started = time.perf_counter()
        step()
        if i >= warmup:
            times.append((time.perf_counter() - started) * 1e3)
    return times


@functools.cache
def torch():
    import torch

    torch.set_num_threads(THREADS)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    return torch


def build(backbone, classes, frozen):
    """torchvision's v1 detector with frozen norms and the first `frozen` stages frozen (0: none)."""
    from torchvision.models import resnet
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7
    from torchvision.ops.misc import FrozenBatchNorm2d

    body = getattr(resnet, backbone)(weights=None, norm_layer=FrozenBatchNorm2d)
    extractor = _resnet_fpn_extractor(body, 5 - frozen, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    return RetinaNet(extractor, num_classes=classes)


def boxes_and_labels(request):
    """Boxes from a twentieth to a half of the image's sides, drawn like those of `foveal bench`."""
    t, size, count = torch(), request["size"], request["boxes"]
    sides = size * (0.05 + 0.45 * t.rand(count, 2))
    corner = (size - sides) * t.rand(count, 2)
    return {"boxes": t.cat([corner, corner + sides], dim=1), "labels": t.randint(0, request["classes"], (count,))}


class Detector:
    """The model, the input, and the anchors and matches, which foveal also computes before its clock starts."""

    def __init__(self, request):
        from torchvision.models.detection.image_list import ImageList
        from torchvision.ops import box_iou

        t = torch()
        self.model = build(request["backbone"], request["classes"], request["frozen"])
        size, batch = request["size"], request["batch"]
        self.images = t.randn(batch, 3, size, size)
        self.sizes = [(size, size)] * batch
        if request.get("weights"):
            self.model.load_state_dict(t.load(request["weights"], weights_only=True))
        if request["channels_last"]:
            self.model = self.model.to(memory_format=t.channels_last)
            self.images = self.images.contiguous(memory_format=t.channels_last)
        with t.inference_mode(False), t.no_grad():
            features = list(self.model.backbone(self.images[:1]).values())
        self.cells = [f.shape[2] * f.shape[3] for f in features]
        anchors = self.model.anchor_generator(ImageList(self.images[:1], self.sizes[:1]), features)[0]
        self.anchors = [anchors] * batch
        self.targets = [boxes_and_labels(request) for _ in range(batch)]
        self.matches = [self.model.proposal_matcher(box_iou(g["boxes"], anchors)) for g in self.targets]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = t.optim.SGD(trained, lr=PRIOR_LR, momentum=0.9, weight_decay=1e-4)

    def dense(self):
        return self.model.head(list(self.model.backbone(self.images).values()))

    def step(self):
        self.optimizer.zero_grad()
        losses = self.model.head.compute_loss(self.targets, self.dense(), self.anchors, self.matches)
        sum(losses.values()).backward()
        self.optimizer.step()

    def detect(self):
        """The second half of RetinaNet.forward, on tensors of the final size."""
        dense = self.dense()
        cells = dense["cls_logits"].shape[1] // sum(self.cells)
        levels = [n * cells for n in self.cells]
        split = {k: list(v.split(levels, dim=1)) for k, v in dense.items()}
        anchors = [list(a.split(levels)) for a in self.anchors]
        return self.model.postprocess_detections(split, anchors, self.sizes)


@functools.cache
def detector(key):
    return Detector(json.loads(key))


def key_of(request):
    skip = {"do", "steps", "warmup"}
    return json.dumps({k: v for k, v in request.items() if k not in skip}, sort_keys=True)


def train(request):
    d = detector(key_of(request))
    d.model.train()
    return {"ms": timed(request["steps"], request["warmup"], d.step)}


def infer(request):
    d = detector(key_of(request))
    d.model.eval()
    with torch().inference_mode():
        found = len(d.detect()[0]["boxes"])
        return {"ms": timed(request["steps"], request["warmup"], d.detect), "detections": found}


def focal(request):
    """torchvision's focal loss on one-hot targets that were computed before."""
    from torchvision.ops import sigmoid_focal_loss

    t = torch()
    shape = (request["batch"], request["anchors"], request["classes"])
    logits, targets = t.randn(shape, requires_grad=True), t.zeros(shape)
    positive = t.randint(0, request["anchors"], (request["batch"], 100))
    for image, rows in zip(targets, positive):
        image[rows, t.randint(0, request["classes"], rows.shape)] = 1.0

    def step():
        logits.grad = None
        sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="sum").backward()

    return {"ms": timed(request["steps"], request["warmup"], step)}


def loss(request):
    """Both losses as torchvision's heads compute them, on matches that were computed before."""
    t, d = torch(), detector(key_of(request))
    anchors = len(d.anchors[0])
    logits = t.randn(request["batch"], anchors, request["classes"], requires_grad=True)
    deltas = t.randn(request["batch"], anchors, 4, requires_grad=True)

    def step():
        logits.grad = deltas.grad = None
        dense = {"cls_logits": logits, "bbox_regression": deltas}
        sum(d.model.head.compute_loss(d.targets, dense, d.anchors, d.matches).values()).backward()

    return {"ms": timed(request["steps"], request["warmup"], step)}


def make_weights(request):
    """Writes a state dict whose detector finds as much as a trained one: on noise, `pairs` pairs of anchor and class
    reach the score threshold, and boxes stay near their anchors."""
    t = torch()
    d = Detector({**request, "boxes": 8, "frozen": 0, "channels_last": False})
    head = d.model.head
    with t.no_grad():
        for layer, spread, key in [(head.classification_head.cls_logits, 1.0, "cls_logits"),
                                   (head.regression_head.bbox_reg, 0.2, "bbox_regression")]:
            layer.bias.zero_()
            out = d.dense()[key]
            layer.weight.mul_(spread / float(out.std()))
            if key == "cls_logits":
                scores = d.dense()[key].flatten().sort(descending=True).values
                layer.bias.fill_(float(t.logit(t.tensor(0.05)) - scores[request["pairs"]]))
    t.save(d.model.state_dict(), request["out"])
    return {"written": request["out"]}


@functools.cache
def session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.log_severity_level = 3
    # Its threads must not keep spinning during foveal's turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx(request):
    """Runs the file that foveal exported, with suppression in the graph, on noise with the scale of the network's input."""
    import numpy as np

    run, size = session(request["onnx"]), request["size"]
    noise = np.random.default_rng(0).standard_normal((request["batch"], 3, size, size), dtype=np.float32)
    mean, std = (np.array(v, dtype=np.float32).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    images = {"images": noise * std + mean}
    found = len(run.run(["boxes"], images)[0])
    times = timed(request["steps"], request["warmup"], lambda: run.run(None, images))
    return {"ms": times, "detections": found}


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
    import onnxruntime
    import torchvision

    return {"torch": torch().__version__, "torchvision": torchvision.__version__, "onnxruntime": onnxruntime.__version__,
            "mkldnn": torch().backends.mkldnn.is_available()}


TURNS = [train, infer, focal, loss, make_weights, onnx, data, to_jpeg, memory, versions]


def main():
    # Output printed by libraries must not break the protocol.
    answers, sys.stdout = sys.stdout, sys.stderr
    turns = {turn.__name__: turn for turn in TURNS}
    for line in sys.stdin:
        request = json.loads(line)
        answer = turns[request["do"]](request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
