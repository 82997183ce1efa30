"""Computes how far a fixture is from every decision that rounding could change.

Each function returns a margin in units of ten tolerances. A fixture is accepted if all margins are at least 1. Tolerances:
scores 1e-4 (absolute), IoUs 1e-5 between anchors and objects (host arithmetic on equal inputs), 1e-4 between decoded
boxes, deltas 1e-5.
"""

import torch
from torchvision.ops import box_iou, clip_boxes_to_image

TEN = 10.0
SCORE, ANCHOR_IOU, BOX_IOU, DELTA = 1e-4, 1e-5, 1e-4, 1e-5


def least(*values):
    return min((float(v) for v in values), default=float("inf"))


def gap(values, cut):
    """The difference of the two values that a cut after the `cut` highest separates."""
    ordered = values.flatten().sort(descending=True).values
    return float("inf") if len(ordered) <= cut else float(ordered[cut - 1] - ordered[cut])


def matching(anchors, objects, positive=0.5, negative=0.4):
    """Thresholds, ties for an object's highest IoU, and the choice between two objects of a matched anchor."""
    if len(objects) == 0:
        return float("inf")
    quality = box_iou(objects, anchors)
    best = quality.max(dim=0).values
    margin = least((best - positive).abs().min(), (best - negative).abs().min())
    top = quality.topk(2, dim=1).values
    margin = least(margin, (top[:, 0] - top[:, 1]).min(), top[:, 0].min())
    if len(objects) > 1:
        two = quality.topk(2, dim=0).values
        matched = (two[0] >= positive) | (quality == top[:, :1]).any(dim=0)
        margin = least(margin, (two[0] - two[1])[matched].min())
    return margin / (TEN * ANCHOR_IOU)


def l1(head, anchors, objects, matched, coder):
    """The kink of the L1 loss: no predicted delta may meet its target."""
    index = torch.where(matched >= 0)[0]
    if len(index) == 0:
        return float("inf")
    target = coder.encode_single(objects[matched[index]], anchors[index])
    return float((head[index] - target).abs().min().detach()) / (TEN * DELTA)


def detecting(model, logits, deltas, anchors, level_sizes, size):
    """Score threshold, top-k of each level, suppression, and the limit of detections, of one image.

    Returns the margin, whether the threshold decided anything, and whether the limit did.
    """
    margin, active = float("inf"), False
    boxes, scores, labels = [], [], []
    classes = logits.shape[-1]
    for level_logits, level_deltas, level_anchors in zip(
        logits.split(level_sizes), deltas.split(level_sizes), anchors.split(level_sizes)
    ):
        score = torch.sigmoid(level_logits).flatten()
        top = min(model.topk_candidates, score.numel())
        if (score > model.score_thresh).sum() > top:
            margin = least(margin, gap(score, top) / (TEN * SCORE))
        else:
            margin = least(margin, (score - model.score_thresh).abs().min() / (TEN * SCORE))
            active = True
        value, index = score.topk(top)
        index = index[value > model.score_thresh]
        box = model.box_coder.decode_single(level_deltas[index // classes], level_anchors[index // classes])
        boxes.append(clip_boxes_to_image(box, size))
        scores.append(score[index])
        labels.append(index % classes)
    boxes, scores, labels = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
    kept = torch.ones(len(scores), dtype=torch.bool)
    for label in labels.unique():
        of_class = torch.where(labels == label)[0]
        of_class = of_class[scores[of_class].argsort(descending=True)]
        iou = torch.triu(box_iou(boxes[of_class], boxes[of_class]), diagonal=1)
        upper = torch.triu(torch.ones_like(iou, dtype=torch.bool), diagonal=1)
        if upper.any():
            margin = least(margin, (iou[upper] - model.nms_thresh).abs().min() / (TEN * BOX_IOU))
        score = scores[of_class]
        close = (iou > model.nms_thresh) & upper
        if close.any():
            margin = least(margin, (score[:, None] - score[None, :])[close].min() / (TEN * SCORE))
        for i in range(len(of_class)):
            if kept[of_class[i]]:
                kept[of_class[torch.where(iou[i] > model.nms_thresh)[0]]] = False
    left = scores[kept]
    margin = least(margin, gap(left, model.detections_per_img) / (TEN * SCORE))
    return margin, active, len(left) > model.detections_per_img
