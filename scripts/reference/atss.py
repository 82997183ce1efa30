"""Golden values of the matcher with kind = "atss": the formulas of algorithm 1 of Zhang et al., arXiv 1912.02424, written
plainly in torch.

Writes crates/foveal-anchors/tests/fixtures/atss.json: 200 random images with their objects (x1, y1, x2, y2 in pixels of
the padded image) and the positive anchors, each as [anchor, object]. There is one square anchor at each location of P3
to P7, with sides of 32 to 512 pixels. Needs torch.

No image contains a decision that rounding could turn: two anchors at nearly the same distance of which one is a
candidate and the other is not, an IoU near the threshold, a centre near an edge, or two objects with nearly the same IoU
with an anchor that is positive for both.
"""

import json
import math
from pathlib import Path

import torch

SEED = 14
IMAGES = 200
STRIDES = [8, 16, 32, 64, 128]
# By how much every decision is clear: pixels for distances, and a difference of IoUs.
CLEAR_PIXELS, CLEAR_IOU = 1e-3, 1e-5
# The distance in pixels from every edge of an object that a centre inside exceeds, as in github.com/sfzhang15/ATSS.
INSIDE = 0.01


class Unclear(Exception):
    """A decision that rounding could turn."""


def anchors(height, width):
    """Boxes and centres of the anchors of each level, [anchors, 4] and [anchors, 2]."""
    levels = []
    for level, stride in enumerate(STRIDES, 3):
        rows, columns = height, width
        for _ in range(level):
            rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
        y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
        centres = torch.stack([x.flatten(), y.flatten()], 1).double()
        half = 4 * stride / 2
        levels.append((torch.cat([centres - half, centres + half], 1), centres))
    return levels


def ious(boxes, box):
    low, high = torch.maximum(boxes[:, :2], box[:2]), torch.minimum(boxes[:, 2:], box[2:])
    shared = (high - low).clamp(min=0).prod(1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared)


def clear(difference, least):
    if (difference.abs() < least).any():
        raise Unclear


def positives_of(levels, box, k):
    """The anchors that are positive for an object, with their IoUs."""
    centre = (box[:2] + box[2:]) / 2
    candidates, first = [], 0
    for boxes, centres in levels:
        distance = (centres - centre).pow(2).sum(1).sqrt()
        order = distance.argsort()
        nearest = distance[order]
        if k < len(order):
            clear(nearest[k] - nearest[k - 1], CLEAR_PIXELS)
        candidates.append(first + order[:k])
        first += len(boxes)
    candidates = torch.cat(candidates)
    boxes, centres = (torch.cat(parts)[candidates] for parts in zip(*levels))
    overlap = ious(boxes, box)
    threshold = overlap.mean() + overlap.std()
    sides = torch.cat([centres - box[:2], box[2:] - centres], 1).min(1).values
    clear(sides - INSIDE, CLEAR_PIXELS)
    inside = sides > INSIDE
    clear(overlap[inside] - threshold, CLEAR_IOU)
    chosen = inside & (overlap >= threshold)
    return dict(zip(candidates[chosen].tolist(), overlap[chosen].tolist()))


def assigned(levels, objects, k):
    """Each positive anchor with its object, in the order of the anchors."""
    best = {}
    for index, box in enumerate(objects):
        for anchor, overlap in positives_of(levels, torch.tensor(box, dtype=torch.float32).double(), k).items():
            before = best.get(anchor)
            if before is not None:
                clear(torch.tensor(before[0] - overlap), CLEAR_IOU)
            if before is None or overlap > before[0]:
                best[anchor] = (overlap, index)
    return [[anchor, index] for anchor, (_, index) in sorted(best.items())]


def random_object(generator, height, width):
    """A box with sides of 4 to 400 pixels, whose centre lies on the image or a little outside."""
    number = torch.rand(4, generator=generator).tolist()
    w, h = (4 * 100 ** v for v in number[:2])
    x, y = (1.1 * v - 0.05 for v in number[2:])
    box = [x * width - w / 2, y * height - h / 2, x * width + w / 2, y * height + h / 2]
    return [round(v, 2) for v in box]


def random_image(generator):
    rows, columns, count, rule = torch.randint(0, 1 << 20, (4,), generator=generator).tolist()
    height, width, k = 32 * (2 + rows % 9), 32 * (2 + columns % 9), [9, 9, 9, 5, 16][rule % 5]
    objects = [random_object(generator, height, width) for _ in range(1 + count % 5)]
    positives = assigned(anchors(height, width), objects, k)
    return {"size": [height, width], "candidates": k, "objects": objects, "positives": positives}


def main():
    generator = torch.Generator().manual_seed(SEED)
    images, unclear = [], 0
    while len(images) < IMAGES:
        try:
            images.append(random_image(generator))
        except Unclear:
            unclear += 1
    root = Path(__file__).resolve().parents[2]
    path = root / "crates/foveal-anchors/tests/fixtures/atss.json"
    lines = ",\n".join(json.dumps(image, separators=(",", ":")) for image in images)
    path.write_text(f"[\n{lines}\n]\n")
    objects = sum(len(image["objects"]) for image in images)
    positives = sum(len(image["positives"]) for image in images)
    print(f"{path}: {IMAGES} images, {objects} objects, {positives} positives; {unclear} images were not clear")


if __name__ == "__main__":
    main()
