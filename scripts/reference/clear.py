"""Finds images and a class bias for which no decision of a detector's post-processing is near its edge.

Two correct implementations differ by rounding. If a decision depends on less than that, both answers are correct, and one
detection more or fewer means nothing. A comparison that counts detections therefore needs inputs for which every decision
is clear by a multiple of the rounding. The multiple here is ten: `check_import` measures how much the scores and IoUs of
the two implementations differ on these images, and fails if SCORE or IOU is less than ten times that difference.

There are four decisions: the score threshold, the cut after the best pairs of a level, suppression, and the cut after the
best detections. For suppression, two conditions are enough. They are weaker than a clear decision for every two boxes:
1. Two kept boxes of a class overlap by at most the threshold minus IOU, whichever of them comes first.
2. Each suppressed box has a kept box of its class (its keeper) whose score is higher by SCORE or more, and which overlaps
   it by the threshold plus IOU or more.
Then every implementation with smaller errors keeps the same boxes. The proof is by induction in the order of its scores: a
suppressed box comes after its keeper of condition 2, which was kept, and is suppressed. A kept box is compared only with
kept boxes before it, and condition 1 keeps it.
"""

import torch
from torchvision.ops import box_iou, clip_boxes_to_image

from retinanet import forward

# The margins of decisions. In the runs so far, rounding changed a score by at most 2e-6 and an IoU by at most 4e-5.
SCORE, IOU = 5e-5, 1e-3
# The numbers of pairs above the threshold in the first image that are tried, and the fewest detections of an image.
CANDIDATES, FEWEST = range(20, 1000), 5
SHIFTS, PICTURES = 60, 40


class Answer:
    """A network's output for one image, reduced to what post-processing uses: the best pairs of each level."""

    @torch.no_grad()
    def __init__(self, model, image, masked):
        state = forward(model, [image])
        logits, sizes = state["logits"][0], state["level_sizes"]
        logits[:, masked] = -1e4
        classes = logits.shape[1]
        self.model, self.logits, self.labels, self.boxes = model, [], [], []
        for level, deltas, anchors in zip(*(t.split(sizes) for t in (logits, state["deltas"][0], state["anchors"]))):
            # One more than are selected, to include the first one that the cut removes.
            value, index = level.flatten().topk(min(model.topk_candidates + 1, level.numel()))
            boxes = model.box_coder.decode_single(deltas[index // classes], anchors[index // classes])
            self.logits.append(value.double())
            self.labels.append(index % classes)
            self.boxes.append(clip_boxes_to_image(boxes, state["batch"].image_sizes[0]))

    def detections(self, shift):
        """The number of detections with a shifted class bias, or None if a decision is not clear."""
        model, chosen = self.model, []
        for logits, labels, boxes in zip(self.logits, self.labels, self.boxes):
            score, top = torch.sigmoid(logits + shift), model.topk_candidates
            if (score > model.score_thresh).sum() > top:
                if score[top - 1] - score[top] < SCORE:
                    return None
                taken = slice(0, top)
            else:
                if (score - model.score_thresh).abs().min() < SCORE:
                    return None
                taken = score > model.score_thresh
            chosen.append((score[taken], labels[taken], boxes[taken]))
        scores, labels, boxes = (torch.cat(parts) for parts in zip(*chosen))
        left = []
        for label in labels.unique():
            of_class = torch.where(labels == label)[0]
            kept = survivors(scores[of_class], boxes[of_class], model.nms_thresh)
            if kept is None:
                return None
            left.append(scores[of_class][kept])
        left = torch.cat([*left, scores[:0]]).sort(descending=True).values
        limit = model.detections_per_img
        if len(left) > limit and left[limit - 1] - left[limit] < SCORE:
            return None
        return min(len(left), limit)


def survivors(scores, boxes, threshold):
    """The boxes of one class that suppression keeps, or None if that is not clear."""
    iou, kept = box_iou(boxes, boxes), []
    for i in scores.argsort(descending=True).tolist():
        if not kept or not bool((iou[i, kept] > threshold).any()):
            kept.append(i)
    if (iou[kept][:, kept].fill_diagonal_(0) > threshold - IOU).any():
        return None
    keeper = (scores[kept, None] - scores[None] >= SCORE) & (iou[kept] >= threshold + IOU)
    suppressed = torch.ones(len(scores), dtype=torch.bool)
    suppressed[kept] = False
    return kept if bool(keeper.any(dim=0)[suppressed].all()) else None


def settle(model, draws, masked, generator):
    """Draws one image per function and shifts the model's class bias until all decisions are clear. Returns the images.

    `draws` are functions that draw an image [3, height, width] u8.
    """
    threshold = torch.logit(torch.tensor(model.score_thresh, dtype=torch.float64))
    for _ in range(PICTURES):
        pixels = [draws[0]()]
        first = Answer(model, pixels[0].float() / 255, masked)
        best = torch.cat(first.logits).sort(descending=True).values
        ranks = torch.randint(CANDIDATES.start, CANDIDATES.stop, (SHIFTS,), generator=generator)
        shifts = [float(threshold - best[rank:rank + 2].mean()) for rank in ranks]
        shifts = [shift for shift in shifts if (first.detections(shift) or 0) >= FEWEST]
        for draw in draws[1:]:
            for _ in range(PICTURES if shifts else 0):
                pixels.append(draw())
                other = Answer(model, pixels[-1].float() / 255, masked)
                agreed = [shift for shift in shifts if (other.detections(shift) or 0) >= FEWEST]
                if agreed:
                    shifts = agreed
                    break
                pixels.pop()
            else:
                shifts = []
        if shifts:
            with torch.no_grad():
                model.head.classification_head.cls_logits.bias.add_(shifts[0])
            return pixels
    raise SystemExit(f"no images with clear decisions in {PICTURES} attempts")
