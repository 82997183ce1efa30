"""Writes the fixtures of a whole RetinaNet, computed by torchvision: tests/fixtures/retinanet_{v1,v2,tiny}.safetensors.

`v1` and `v2` have three images of different sizes, of which the third has no objects. Images and objects are drawn until
every decision (thresholds, ties, top-k, suppression) is at least ten tolerances away from its edge. `margins.py` defines
the tolerances. The README in this folder lists the contents of a fixture. Needs torch, torchvision, numpy, safetensors.

usage: retinanet.py [v1|v2|tiny]...
"""

import json
import pathlib
import sys

import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torchvision.ops import sigmoid_focal_loss

import margins
from narrow import build, spread

FOLDER = pathlib.Path(__file__).parents[2] / "tests/fixtures"
NORMALISATION = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size_divisible": 32}
COMMON = {
    "width": 4, "blocks": [2, 2, 2, 2], "norm": "frozen_batch", "norm_eps": 1e-5, "head_convs": 4, "head_groups": 0,
    "anchor_base_sizes": [32, 64, 128, 256, 512], "anchor_scales": 3, "anchor_ratios": [0.5, 1.0, 2.0],
    "anchor_rounding": "torchvision", "positive_iou": 0.5, "negative_iou": 0.4, "alpha": 0.25, "gamma": 2.0,
    "normalizer": "per_image", "nms_thresh": 0.5, **NORMALISATION,
}
# Originals as (height, width). 60x120 grows until max_size stops it, 120x100 shrinks, 84x108 has no objects.
TRIO = {"sizes": [[60, 120], [120, 100], [84, 108]], "objects": [4, 5, 0], "min_size": 80, "max_size": 150}
SEED, ATTEMPTS = 1, 20_000
GRADIENTS = [
    "backbone.body.conv1.weight", "backbone.body.layer1.0.conv1.weight", "backbone.body.layer2.0.downsample.0.weight",
    "backbone.body.layer4.1.conv2.weight", "backbone.fpn.inner_blocks.0.0.weight", "backbone.fpn.layer_blocks.2.0.bias",
    "backbone.fpn.extra_blocks.p6.weight", "head.classification_head.conv.0.0.weight",
    "head.classification_head.cls_logits.bias", "head.regression_head.bbox_reg.weight",
]
FIXTURES = {
    "v1": {
        **COMMON, **TRIO, "classes": 5, "fpn_channels": 16, "p6_from": "p5", "head_norm": "none", "box_loss": "l1",
        "score_thresh": 0.3, "topk_candidates": 20, "detections_per_img": 25, "gradients": GRADIENTS,
    },
    "v2": {
        **COMMON, **TRIO, "classes": 5, "fpn_channels": 16, "p6_from": "c5", "head_norm": "group", "head_groups": 4,
        "box_loss": "giou", "score_thresh": 0.3, "topk_candidates": 20, "detections_per_img": 25,
        "gradients": [g.replace("layer1.0.conv1.weight", "layer1.0.conv2.weight").replace(
            "fpn.layer_blocks.2.0.bias", "fpn.layer_blocks.1.0.bias") for g in GRADIENTS[:7]]
        + ["head.classification_head.conv.0.1.weight", "head.regression_head.conv.3.1.bias", GRADIENTS[9]],
    },
    "tiny": {
        **COMMON, "sizes": [[64, 64]], "objects": [2], "min_size": 64, "max_size": 64, "classes": 2, "fpn_channels": 8,
        "p6_from": "p5", "head_norm": "none", "box_loss": "l1", "score_thresh": 0.3, "topk_candidates": 10,
        "detections_per_img": 10, "gradients": [GRADIENTS[0], GRADIENTS[4], GRADIENTS[7]],
    },
}


def picture(height, width, generator):
    """[3, height, width] u8: smooth noise with a few flat rectangles."""
    noise = torch.rand(1, 3, max(height // 12, 2), max(width // 12, 2), generator=generator)
    image = F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=False)[0]
    for box in objects(height, width, 4, generator).round().int().tolist():
        image[:, box[1]:box[3], box[0]:box[2]] = torch.rand(3, 1, 1, generator=generator)
    return (image * 255).round().clamp(0, 255).to(torch.uint8)


def objects(height, width, count, generator):
    """[count, 4] boxes from an eighth to two thirds of the image, at hundredths of a pixel."""
    u = torch.rand(count, 4, generator=generator)
    size = torch.tensor([width, height]) * (0.125 + 0.54 * u[:, 2:] ** 1.5)
    corner = u[:, :2] * (torch.tensor([width, height]) - size)
    return ((torch.cat([corner, corner + size], dim=1) * 100).round() / 100).reshape(-1, 4)


def search(spec, seed):
    """The model, images and targets. Images and objects are drawn until every margin is at least 1.

    The images of a batch do not influence each other, so each is searched by itself.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = [picture(h, w, generator) for h, w in spec["sizes"]]
    model = build(spec, seed)
    model.eval()
    spread(model, [p.float() / 255 for p in pixels], logit_mean=-3.0, logit_std=1.5, delta_std=0.3)
    targets, smallest = [], float("inf")
    for i, ((height, width), count) in enumerate(zip(spec["sizes"], spec["objects"])):
        for _ in range(ATTEMPTS):
            pixels[i] = picture(height, width, generator)
            with torch.no_grad():
                state = forward(model, [p.float() / 255 for p in pixels])
            margin, thresholded, limited = margins.detecting(
                model, state["logits"][i], state["deltas"][i], state["anchors"], state["level_sizes"],
                state["batch"].image_sizes[i])
            # The first image exercises the limit of detections, the others the score threshold.
            if margin >= 1 and (limited if i == 0 else thresholded):
                break
        else:
            raise SystemExit(f"no suitable pixels found for image {i}")
        to_height, to_width = state["batch"].image_sizes[i]
        for _ in range(ATTEMPTS):
            target = {
                "boxes": objects(height, width, count, generator),
                "labels": torch.randint(spec["classes"], (count,), generator=generator),
            }
            resized = model.transform([pixels[i].float() / 255], [target])[1][0]["boxes"]
            assert resized.numel() == 0 or (resized.max(0).values[2:] <= torch.tensor([to_width, to_height])).all()
            decided = margins.matching(state["anchors"], resized)
            if decided >= 1 and spec["box_loss"] == "l1":
                matched = match(model, state["anchors"], resized)
                decided = min(decided, margins.l1(
                    state["deltas"][i], state["anchors"], resized, matched, model.box_coder))
            if decided >= 1:
                break
        else:
            raise SystemExit(f"no objects found for image {i}")
        targets.append(target)
        smallest = min(smallest, margin, decided)
    return model, pixels, targets, smallest


def forward(model, images, targets=None):
    """The stages of the model's forward pass on images in 0..1."""
    batch, resized = model.transform(images, targets)
    pyramid = list(model.backbone(batch.tensors).values())
    head = model.head(pyramid)
    return {
        "batch": batch, "resized": resized, "pyramid": pyramid, "head": head, "logits": head["cls_logits"],
        "deltas": head["bbox_regression"], "anchors": model.anchor_generator(batch, pyramid)[0],
        "level_sizes": [p.shape[2] * p.shape[3] * 9 for p in pyramid],
    }


def match(model, anchors, boxes):
    """[anchors]: index of the object, -1 background, -2 ignored, as RetinaNet.compute_loss does."""
    if len(boxes) == 0:
        return torch.full((len(anchors),), -1)
    return model.proposal_matcher(margins.box_iou(boxes, anchors))


def compute(spec, seed):
    """The tensors and the metadata of a fixture."""
    model, pixels, targets, margin = search(spec, seed)
    images = [p.float() / 255 for p in pixels]
    with torch.no_grad():
        state = forward(model, images, targets)
        detections = model(images)
    matched = [match(model, state["anchors"], t["boxes"]) for t in state["resized"]]
    model.train()  # norms are frozen or group norms, so this only makes the model return the losses
    losses = model(images, targets)
    (losses["classification"] + losses["bbox_regression"]).backward()

    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {
        "batch": state["batch"].tensors, "anchors": state["anchors"], "cls_logits": state["logits"],
        "bbox_regression": state["deltas"],
    }
    tensors |= {f"pyramid.p{level + 3}": f for level, f in enumerate(state["pyramid"])}
    tensors |= {f"loss.{k}": v.reshape(1) for k, v in losses.items()}
    tensors |= {f"grad.{name}": model.get_parameter(name).grad for name in spec["gradients"]}
    for i, (p, t, r, m, d) in enumerate(zip(pixels, targets, state["resized"], matched, detections)):
        tensors |= {
            f"image.{i}": p.permute(1, 2, 0), f"target.{i}.boxes": t["boxes"], f"target.{i}.labels": t["labels"],
            f"target.{i}.resized_boxes": r["boxes"], f"matched.{i}": m,
            f"detection.{i}.boxes": d["boxes"], f"detection.{i}.scores": d["scores"],
            f"detection.{i}.labels": d["labels"],
        }
    anchors = [state["anchors"]] * len(images)
    tensors |= batch_losses(model, state["resized"], state["head"], anchors, matched)
    return tensors, {
        **spec, "seed": seed, "margin": round(margin, 3),
        "resized_sizes": [list(s) for s in state["batch"].image_sizes],
        "padded_size": list(state["batch"].tensors.shape[-2:]),
        "grids": [list(f.shape[-2:]) for f in state["pyramid"]],
        "positives": [int((m >= 0).sum()) for m in matched], "ignored": [int((m == -2).sum()) for m in matched],
        "detections": [len(d["scores"]) for d in detections],
        "torch": torch.__version__, "torchvision": torchvision.__version__,
    }


def batch_losses(model, targets, head, anchors, matched):
    """The sums of each image before any normaliser. torchvision's losses are means of sum / max(1, positives)."""
    class_sums, box_sums = [], []
    for i, (t, a, m) in enumerate(zip(targets, anchors, matched)):
        want = torch.zeros_like(head["cls_logits"][i])
        positive = torch.where(m >= 0)[0]
        want[positive, t["labels"][m[positive]]] = 1
        valid = m != -2
        class_sums.append(sigmoid_focal_loss(head["cls_logits"][i][valid], want[valid], reduction="sum"))
        one = model.head.regression_head.compute_loss(
            [t], {"bbox_regression": head["bbox_regression"][i:i + 1]}, [a], [m])
        box_sums.append(one * max(1, len(positive)))
    return {"sum.classification": torch.stack(class_sums), "sum.bbox_regression": torch.stack(box_sums)}


def main():
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or FIXTURES:
        tensors, spec = compute(FIXTURES[name], SEED)
        narrowed = {
            k: (v.to(torch.int32) if v.dtype == torch.int64 else v).detach().contiguous().clone()
            for k, v in tensors.items()
        }
        path = FOLDER / f"retinanet_{name}.safetensors"
        save_file(narrowed, path, metadata={"fixture": json.dumps({"name": name, **spec})})
        path.chmod(0o644)
        print(f"{path.name}: margin {spec['margin']:.2f}, {path.stat().st_size} bytes, {spec['positives']} "
              f"positives, {spec['ignored']} ignored, {spec['detections']} detections")


if __name__ == "__main__":
    main()
