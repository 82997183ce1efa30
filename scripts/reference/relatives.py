"""Features and gradients of narrow ResNeXt and wide ResNet bodies: crates/foveal-weights/tests/fixtures/relatives.json.

The networks are torchvision's ResNet class with its own groups and width per group, on a stem of 16 channels instead of 64.
The weights are the formula of layouts.py, which the test has as well, so that no weight file is needed. The loss is the sum
of C5 times a wave. Every STEP-th value of C3, C4, C5 and of some gradients is stored, and every value of the gradients of
some norms, whose statistics are fixed (evaluation mode) and whose scale and shift are trained. Needs torch, torchvision.
"""

import json
import pathlib

import torch
from layouts import MEAN, STD, fill
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

OUT = pathlib.Path(__file__).parents[2] / "crates/foveal-weights/tests/fixtures/relatives.json"
WIDTH, SIDE, STEP = 16, 64, 37
NETWORKS = {  # groups, width per group, depths: torchvision's constructors
    "resnext50_32x4d": (32, 4, [3, 4, 6, 3]),
    "resnext101_64x4d": (64, 4, [3, 4, 23, 3]),
    "wide_resnet50_2": (1, 128, [3, 4, 6, 3]),
}
GRADIENTS = [
    "conv1.weight",
    "layer1.0.conv2.weight",
    "layer2.0.conv2.weight",
    "layer2.0.downsample.0.weight",
    "layer4.2.conv2.weight",
    "layer4.2.conv3.weight",
]
NORM_GRADIENTS = [
    "bn1.weight",
    "bn1.bias",
    "layer1.0.bn2.weight",
    "layer2.0.downsample.1.weight",
    "layer2.0.downsample.1.bias",
]


class Narrow(ResNet):
    def __init__(self, groups, width_per_group, depths):
        nn.Module.__init__(self)
        self._norm_layer, self.groups, self.base_width, self.dilation = nn.BatchNorm2d, groups, width_per_group, 1
        self.inplanes = WIDTH
        self.conv1 = nn.Conv2d(3, WIDTH, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for i, depth in enumerate(depths):
            setattr(self, f"layer{i + 1}", self._make_layer(Bottleneck, WIDTH << i, depth, stride=1 if i == 0 else 2))

    def stages(self, x):
        c2 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return {"c3": c3, "c4": c4, "c5": self.layer4(c4)}


def main():
    torch.set_num_threads(1)
    c, y, x = torch.meshgrid(torch.arange(3), torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    pixels = ((37 * c + 5 * y + 3 * x + x * y % 17) % 256).float()
    column = lambda values: torch.tensor(values).view(1, 3, 1, 1)
    image = (pixels[None] / 255 - column(MEAN)) / column(STD)
    thin = lambda t, step=STEP: [float(f"{v:.7g}") for v in t.detach().flatten()[::step].tolist()]
    found = {}
    for name, arguments in NETWORKS.items():
        model = Narrow(*arguments).eval()
        with torch.no_grad():
            fill(model)
        maps = model.stages(image)
        wave = torch.sin(0.37 * torch.arange(maps["c5"].numel(), dtype=torch.float64)).reshape(maps["c5"].shape)
        (maps["c5"] * wave.float()).sum().backward()
        gradients = {key: thin(model.get_parameter(key).grad) for key in GRADIENTS}
        norms = {key: thin(model.get_parameter(key).grad, 1) for key in NORM_GRADIENTS}
        features = {key: thin(value) for key, value in maps.items()}
        found[name] = {**features, "gradients": gradients, "norm_gradients": norms}
        print(name, {key: f"{value.abs().mean():.3f}" for key, value in maps.items()})
    OUT.write_text(json.dumps(found) + "\n")
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
