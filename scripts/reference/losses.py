"""Values and gradients of the quality focal loss and of all box losses, from torchvision and the papers' formulas.

Writes crates/foveal-criterion/tests/fixtures/losses.json. Needs torch, torchvision. The inputs are single precision, the
results double precision.
"""

import json
import pathlib

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, smooth_l1_loss
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

OUT = pathlib.Path(__file__).parents[2] / "crates/foveal-criterion/tests/fixtures/losses.json"
IMAGES, ANCHORS, CLASSES = 2, 12, 3
BACKGROUND, IGNORE = -1, -2
GAMMA, CLASS_WEIGHTS, BETA, BOX_WEIGHT = [1.0, 2.0, 2.5], [0.5, 3.0, 1.0], 0.1, 2.0
CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
# Places of positive anchors, by image.
POSITIVES = [[0, 1, 2, 4, 5, 7, 10], [3, 6, 8, 11]]


def inputs(generator):
    """Classes of the anchors, boxes of anchors and objects, and what a network could predict for them."""
    randn = lambda *shape: torch.randn(*shape, generator=generator)
    rand = lambda *shape: torch.rand(*shape, generator=generator)
    count = sum(len(p) for p in POSITIVES)
    corner, size = rand(count, 2) * 100, 8 + rand(count, 2) * 60
    anchors = torch.cat([corner, corner + size], dim=1)
    objects = CODER.decode_single(randn(count, 4) * torch.tensor([0.2, 0.2, 0.3, 0.3]), anchors)
    deltas = randn(IMAGES, ANCHORS, 4) * 0.3
    rows = torch.tensor([image * ANCHORS + a for image, places in enumerate(POSITIVES) for a in places])
    wanted = CODER.encode_single(objects, anchors)
    flat = deltas.view(-1, 4)
    flat[rows[:4]] = wanted[:4] + 0.03 * randn(4, 4)
    flat[rows[4]] += torch.tensor([6.0, 0.0, 0.0, 0.0])  # beside the object
    flat[rows[5]] += torch.tensor([0.0, -4.0, 1.0, -1.0])
    flat[rows[6]] = wanted[6] + torch.tensor([0.01, 0.02, -1.5, 0.1])  # inside the object
    flat[rows[7]] = wanted[7] + torch.tensor([0.05, -0.05, 1.2, 0.9])  # around the object
    flat[rows[8]] = wanted[8] + torch.tensor([0.3, 0.1, -3.0, 2.0])  # tall and narrow
    flat[rows[9]] = torch.tensor([0.1, -0.1, 5.0, 0.2])  # beyond the limit of the log ratio
    classes = torch.full((IMAGES, ANCHORS), BACKGROUND)
    for places, of_image in zip(POSITIVES, classes):
        of_image[torch.tensor(places)] = torch.randint(CLASSES, (len(places),), generator=generator)
    classes[0, 3] = classes[1, 0] = IGNORE
    return {
        "classes": classes, "anchors": anchors, "objects": objects, "rows": rows, "deltas": deltas,
        "logits": randn(IMAGES, ANCHORS, CLASSES) * 2 - 1,
    }


def iou(a, b, eps=1e-7):
    shared = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared + eps)


def quality_focal(logits, quality):
    """arXiv 2006.04388, equation 2, for each pair of an anchor and a class; `quality` is the target of each pair."""
    distance = (quality - logits.sigmoid()).abs()
    return distance ** torch.tensor(GAMMA) * binary_cross_entropy_with_logits(logits, quality, reduction="none")


BOXES = {
    "l1": lambda deltas, wanted, boxes, objects: l1_loss(deltas, wanted, reduction="none").sum(1),
    "smooth_l1": lambda deltas, wanted, boxes, objects: smooth_l1_loss(deltas, wanted, reduction="none", beta=BETA).sum(1),
    "giou": lambda deltas, wanted, boxes, objects: generalized_box_iou_loss(boxes, objects),
    "diou": lambda deltas, wanted, boxes, objects: distance_box_iou_loss(boxes, objects),
    "ciou": lambda deltas, wanted, boxes, objects: complete_box_iou_loss(boxes, objects),
}


def results(x):
    """The losses and their gradients for each normalizer. The IoU in the class loss is a constant."""
    double = lambda t: t.double().requires_grad_()
    anchors, objects, rows = x["anchors"].double(), x["objects"].double(), x["rows"]
    wanted = CODER.encode_single(objects, anchors)
    classes = x["classes"].flatten()
    own = classes[rows]
    for normalizer in ("batch", "per_image"):
        of_image = [1 / len(rows)] * IMAGES
        if normalizer == "per_image":
            of_image = [1 / (len(places) * IMAGES) for places in POSITIVES]
        factor = torch.tensor(of_image, dtype=torch.float64).repeat_interleave(ANCHORS)

        logits, deltas = double(x["logits"]), double(x["deltas"])
        with torch.no_grad():
            quality = torch.zeros(IMAGES * ANCHORS, CLASSES, dtype=torch.float64)
            quality[rows, own] = iou(CODER.decode_single(deltas.view(-1, 4)[rows], anchors), objects)
        weight = factor * (classes != IGNORE)
        weight[rows] *= torch.tensor(CLASS_WEIGHTS, dtype=torch.float64)[own]
        loss = (quality_focal(logits.view(-1, CLASSES), quality) * weight[:, None]).sum()
        loss.backward()
        of_boxes = []
        for kind, function in BOXES.items():
            deltas = double(x["deltas"])
            predicted = deltas.view(-1, 4)[rows]
            boxes = (function(predicted, wanted, CODER.decode_single(predicted, anchors), objects) * factor[rows]).sum()
            boxes.backward()
            of_boxes.append({"kind": kind, "value": boxes, "gradient": deltas.grad.view(-1, 4)[rows]})
        yield {"normalizer": normalizer, "class": loss, "class_gradient": logits.grad, "boxes": of_boxes}


def plain(value):
    """Tensors as lists. Results are rounded to ten digits."""
    if isinstance(value, torch.Tensor):
        value = value.tolist() if value.dtype != torch.float64 else plain(value.tolist())
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def main():
    x = inputs(torch.Generator().manual_seed(0))
    settings = {"gamma": GAMMA, "class_weights": CLASS_WEIGHTS, "beta": BETA, "box_weight": BOX_WEIGHT}
    exact = {key: value.tolist() for key, value in x.items()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({**settings, **exact, "results": plain(list(results(x)))}) + "\n")


if __name__ == "__main__":
    main()
