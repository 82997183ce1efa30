"""Detectors of torchvision some of whose class channels stand for no category: the background, unused ids."""

import torch

import margins
from retinanet import forward

# ln(0.05 / 0.95)
THRESHOLD_LOGIT = -2.9444390


@torch.no_grad()
def settle(model, images, masked, generator, least=0.01):
    """Shifts the class bias until both pictures have some dozens of candidates and no decision is near its edge."""
    states = [forward(model, [image]) for image in images]
    for state in states:
        state["logits"][..., masked] = -1e4
    # Only the highest logits are near the threshold: a cheap look at them first.
    highest = [state["logits"].flatten().topk(4000).values for state in states]
    best = 0.0
    for _ in range(5000):
        rank = int(torch.randint(20, 400, (1,), generator=generator))
        shift = THRESHOLD_LOGIT - float(highest[0][rank:rank + 2].mean())
        # A score's slope at the threshold is 0.0475.
        near = min(float((top + shift - THRESHOLD_LOGIT).abs().min()) for top in highest) * 0.0475
        if near < least * margins.TEN * margins.SCORE:
            continue
        margin = []
        for state in states:
            logits = state["logits"][0] + shift
            found = int((logits > THRESHOLD_LOGIT).sum())
            if not 5 <= found <= 3000:
                margin.append(0.0)
                break
            margin.append(margins.detecting(
                model, logits, state["deltas"][0], state["anchors"], state["level_sizes"],
                state["batch"].image_sizes[0])[0])
        if min(margin) >= least:
            model.head.classification_head.cls_logits.bias.add_(shift)
            return min(margin)
        best = max(best, min(margin))
    raise SystemExit(f"margin {best:.4f}: no shift leaves every decision clear")


@torch.no_grad()
def detections(model, image, masked):
    """torchvision's detections when the channels `masked` score nothing."""
    layer = model.head.classification_head.cls_logits
    classes = model.head.classification_head.num_classes
    kept = layer.weight.clone(), layer.bias.clone()
    for channel in masked:
        layer.weight.view(9, classes, *layer.weight.shape[1:])[:, channel] = 0
        layer.bias.view(9, classes)[:, channel] = -1e4
    found = model([image])[0]
    layer.weight.copy_(kept[0])
    layer.bias.copy_(kept[1])
    return found


@torch.no_grad()
def losses(model, images, targets):
    """Means of torchvision's two losses over images that are run one by one, with norms as in inference."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    each = [model([image], [target]) for image, target in zip(images, targets)]
    model.eval()
    mean = lambda key: float(sum(loss[key].double() for loss in each) / len(each))
    return mean("classification"), mean("bbox_regression")
