"""torchvision's RetinaNet and its losses, as torch_worker.py runs them."""

import functools
import json
import os
import time

THREADS = int(os.environ["OMP_NUM_THREADS"])
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


def load(model, request):
    """Loads the weights of the request, if it has any, and returns the images of its reference, if it has one."""
    t = torch()
    if request.get("weights"):
        model.load_state_dict(t.load(request["weights"], weights_only=True))
    if not request.get("reference"):
        return None
    import reference

    prefix, tensors = "network.", reference.read(request["reference"])
    model.load_state_dict({name.removeprefix(prefix): t.from_numpy(value.copy()) for name, value in tensors.items()
                           if name.startswith(prefix)})
    return t.from_numpy(tensors["images"].copy())


class Detector:
    """The model, the input, and the anchors and matches, which foveal also computes before its clock starts.

    The variant is torchvision's default (eager, NCHW), `channels_last`, or `compiled`: backbone and heads under
    torch.compile for these shapes. Losses and post-processing are never compiled, as their shapes depend on values."""

    def __init__(self, request):
        from torchvision.models.detection.image_list import ImageList
        from torchvision.ops import box_iou

        t = torch()
        self.model = build(request["backbone"], request["classes"], request["frozen"])
        size, batch = request["size"], request["batch"]
        self.images = t.randn(batch, 3, size, size)
        self.sizes = [(size, size)] * batch
        images = load(self.model, request)
        self.images = self.images if images is None else images
        if request["variant"] == "channels_last":
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
        self.backbone, self.head = self.model.backbone, self.model.head
        if request["variant"] == "compiled":
            from torch._inductor import config

            # Weights are constants of the code that is compiled for inference; training does not use this.
            config.freezing = True
            whole = {"fullgraph": True, "dynamic": False}
            self.backbone, self.head = t.compile(self.backbone, **whole), t.compile(self.head, **whole)

    def dense(self):
        return self.head(list(self.backbone(self.images).values()))

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
    import resource

    d, faults = detector(key_of(request)), []
    d.model.train()

    def step():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        d.step()
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    times = timed(request["steps"], request["warmup"], step)
    return {"ms": times, "minor_faults": sum(faults[-len(times):]) / len(times)}


def infer(request):
    d = detector(key_of(request))
    d.model.eval()
    # A frozen graph needs no_grad; inference_mode is what torchvision's users choose otherwise.
    with torch().no_grad() if request["variant"] == "compiled" else torch().inference_mode():
        found = len(d.detect()[0]["boxes"])
        return {"ms": timed(request["steps"], request["warmup"], d.detect), "detections": found}


def infer_raw(request):
    """Backbone and heads alone, on the images and weights of the reference."""
    import reference

    d = detector(key_of(request))
    d.model.eval()
    with torch().no_grad() if request["variant"] == "compiled" else torch().inference_mode():
        dense = d.dense()
        apart = reference.apart(request["reference"], dense["cls_logits"].numpy(), dense["bbox_regression"].numpy())
        return {"ms": timed(request["steps"], request["warmup"], d.dense), "apart": apart}


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
    d = Detector({**request, "boxes": 8, "frozen": 0, "variant": "torchvision"})
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
