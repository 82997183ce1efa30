"""Golden values of box arithmetic and of the matcher's ties, from torchvision.

Writes crates/foveal-boxes/tests/fixtures/boxes.json and crates/foveal-anchors/tests/fixtures/matcher.json. Needs torch,
torchvision.
"""

import json
import pathlib

import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import (
    batched_nms, box_iou, complete_box_iou, distance_box_iou, generalized_box_iou, nms,
)

CRATES = pathlib.Path(__file__).parents[2] / "crates"


def boxes(count, generator, extent=100.0):
    u = torch.rand(count, 4, generator=generator)
    corner, size = u[:, :2] * extent, 1 + u[:, 2:] * extent / 2
    return torch.cat([corner, corner + size], dim=1)


def arithmetic(generator):
    a, b = boxes(12, generator), boxes(12, generator)
    b[:4] = a[:4] + torch.randn(4, 4, generator=generator) * 0.3
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    deltas = torch.randn(12, 4, generator=generator)
    deltas[10] = torch.tensor([0.5, -2.0, 9.0, -9.0])  # beyond the limit of the log ratio
    many, scores = boxes(60, generator, 60.0), torch.rand(60, generator=generator)
    classes = torch.randint(3, (60,), generator=generator)
    scores[7], scores[20] = scores[3], scores[3]  # ties: the lower index comes first
    return {
        "a": a, "b": b, "encoded": coder.encode_single(b, a), "deltas": deltas, "decoded": coder.decode_single(deltas, a),
        **{name: f(a, b) for name, f in (
            ("iou", box_iou), ("giou", generalized_box_iou), ("diou", distance_box_iou), ("ciou", complete_box_iou),
        )},
        "boxes": many, "scores": scores, "classes": classes, "threshold": 0.3, "nms": nms(many, scores, 0.3),
        "class_nms": batched_nms(many, scores, classes, 0.3),
    }


def ties(generator):
    """Boxes on a raster, which gives many equal IoUs. Objects that overlap no anchor are left out, because torchvision
    would make every untouched anchor positive for them."""
    cases = []
    while len(cases) < 12:
        anchors, objects = (
            torch.cat([c, c + 4 * torch.randint(1, 5, (n, 2), generator=generator)], dim=1).float()
            for n in (40, 5)
            for c in [4 * torch.randint(0, 8, (n, 2), generator=generator)]
        )
        quality = box_iou(objects, anchors)
        if (quality.max(dim=1).values == 0).any():
            continue
        low = len(cases) % 3 != 2
        cases.append({
            "anchors": anchors, "objects": objects, "low_quality": low,
            "matched": Matcher(0.5, 0.4, allow_low_quality_matches=low)(quality),
        })
    return cases


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def main():
    generator = torch.Generator().manual_seed(0)
    for crate, name, value in (
        ("foveal-boxes", "boxes", arithmetic(generator)), ("foveal-anchors", "matcher", ties(generator)),
    ):
        folder = CRATES / crate / "tests/fixtures"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(plain(value)) + "\n")


if __name__ == "__main__":
    main()
