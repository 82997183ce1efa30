"""torchvision detectors with class channels that have no category: the background and unused ids."""

import torch


@torch.no_grad()
def detections(model, image, masked):
    """torchvision's detections when the channels `masked` have a score of zero."""
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
    """Means of torchvision's two losses over images that run one by one, with norms in inference mode."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    each = [model([image], [target]) for image, target in zip(images, targets)]
    model.eval()
    mean = lambda key: float(sum(loss[key].double() for loss in each) / len(each))
    return mean("classification"), mean("bbox_regression")
