"""Builds a narrow RetinaNet from torchvision's modules, with seeded weights whose scores are spread.

Module names are torchvision's (`backbone.body`, `backbone.fpn`, `head`). The widths of the body are
`width * (1, 2, 4, 8)` in place of `64 * (1, 2, 4, 8)`.
"""

from functools import partial

import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d


class NarrowResNet18(ResNet):
    def __init__(self, width):
        nn.Module.__init__(self)
        self._norm_layer, self.groups, self.base_width, self.dilation = FrozenBatchNorm2d, 1, 64, 1
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(BasicBlock, width, 2)
        self.layer2 = self._make_layer(BasicBlock, width * 2, 2, stride=2)
        self.layer3 = self._make_layer(BasicBlock, width * 4, 2, stride=2)
        self.layer4 = self._make_layer(BasicBlock, width * 8, 2, stride=2)


def build(spec, seed):
    """The model of a fixture. `spec` is the dictionary that goes into the fixture's metadata."""
    torch.manual_seed(seed)
    width, channels = spec["width"], spec["fpn_channels"]
    backbone = BackboneWithFPN(
        NarrowResNet18(width),
        {"layer2": "0", "layer3": "1", "layer4": "2"},
        [width * 2, width * 4, width * 8],
        channels,
        extra_blocks=LastLevelP6P7(channels if spec["p6_from"] == "p5" else width * 8, channels),
    )
    anchors = _default_anchorgen()
    norm = partial(nn.GroupNorm, spec["head_groups"]) if spec["head_norm"] == "group" else None
    head = RetinaNetHead(channels, anchors.num_anchors_per_location()[0], spec["classes"], norm_layer=norm)
    head.regression_head._loss_type = spec["box_loss"]
    model = RetinaNet(
        backbone, spec["classes"], anchor_generator=anchors, head=head,
        **{key: spec[key] for key in (
            "min_size", "max_size", "score_thresh", "nms_thresh", "detections_per_img", "topk_candidates",
        )},
    )
    randomise(model)
    return model


def randomise(model):
    """Weights that keep activations near 1, and norms that are not the identity."""
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.2)
            module.bias.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)


@torch.no_grad()
def spread(model, images, logit_mean, logit_std, delta_std):
    """Rescales the last convolution of each head so that its outputs have this standard deviation on these images."""
    batch, _ = model.transform(images)
    features = list(model.backbone(batch.tensors).values())
    head = model.head
    for last, key, std in (
        (head.classification_head.cls_logits, "cls_logits", logit_std),
        (head.regression_head.bbox_reg, "bbox_regression", delta_std),
    ):
        last.bias.zero_()
        last.weight.mul_(std / head(features)[key].std())
        last.bias.normal_(0, 0.1 * std)
    logits = head(features)["cls_logits"]
    head.classification_head.cls_logits.bias.add_(logit_mean - logits.mean())
