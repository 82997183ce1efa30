"""Pictures and a class bias with which no decision of a detector's post-processing is near its edge.

Two implementations that are both right differ by rounding, and where a decision hangs on less than that, both answers
are right: one detection more or fewer says nothing then. So a comparison that counts detections needs inputs whose
every decision stands clear by a multiple of that rounding. Ten times is asked for: `check_import` measures by how much
scores and IoUs of the two do differ on the very pictures, and fails where SCORE or IOU is less than ten times that.

The decisions are four: score above the threshold or not, the cut after a level's best pairs, suppression, the cut
after the best detections. Of suppression it is enough, and much less than that every two boxes are clear, that
1. two kept boxes of a class overlap by at most the threshold less IOU, whichever of them comes first;
2. each suppressed box has a kept one of its class whose score is higher by SCORE or more and that overlaps it by the
   threshold plus IOU or more.
Then whoever errs by less keeps the same boxes. By induction down his own order: a suppressed box comes after its keeper
of (2), which he has kept, and is suppressed; a kept box meets only kept ones before it, and (1) lets it live.
"""

import torch
from torchvision.ops import box_iou, clip_boxes_to_image

from retinanet import forward

# What decisions stand clear by. Rounding was at most 2e-6 of a score and 4e-5 of an IoU in the runs so far.
SCORE, IOU = 5e-5, 1e-3
# Pairs above the threshold in the first picture that are tried, and detections that a picture needs to say something.
CANDIDATES, FEWEST = range(20, 1000), 5
SHIFTS, PICTURES = 60, 40


class Answer:
    """A network's answer for one picture, as far as post-processing can look: the best pairs of each level."""

    @torch.no_grad()
    def __init__(self, model, image, masked):
        state = forward(model, [image])
        logits, sizes = state["logits"][0], state["level_sizes"]
        logits[:, masked] = -1e4
        classes = logits.shape[1]
        self.model, self.logits, self.labels, self.boxes = model, [], [], []
        for level, deltas, anchors in zip(*(t.split(sizes) for t in (logits, state["deltas"][0], state["anchors"]))):
            # One more than are taken: the first that the cut leaves out.
            value, index = level.flatten().topk(min(model.topk_candidates + 1, level.numel()))
            boxes = model.box_coder.decode_single(deltas[index // classes], anchors[index // classes])
            self.logits.append(value.double())
            self.labels.append(index % classes)
            self.boxes.append(clip_boxes_to_image(boxes, state["batch"].image_sizes[0]))

    def detections(self, shift):
        """Detections with the class bias shifted; None where a decision is not clear."""
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
    """Which boxes of one class suppression keeps; None where that is not clear."""
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
    """Draws a picture of each kind and shifts the model's class bias until all decisions are clear; the pictures.

    `draws` are functions that draw a picture [3, height, width] u8.
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
    raise SystemExit(f"no decision-clear pictures in {PICTURES} attempts")
