"""Writes crates/foveal-weights/tests/fixtures/layouts.json: features of a narrow ResNet-50 in two conventions,
torchvision's and MSRA's.

The weights are a formula of name and index, which the test also contains, so no weight file is needed. MSRA's network has
its strides on the 1x1 convolutions, and its input is BGR in 0..255 minus Detectron2's PIXEL_MEAN. The weights of its stem
are divided by 64, so that its activations have the usual size. Needs torch, torchvision.
"""

import json
import math
import pathlib

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

OUT = pathlib.Path(__file__).parents[2] / "crates/foveal-weights/tests/fixtures/layouts.json"
WIDTH, SIDE = 4, 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PIXEL_MEAN = [103.530, 116.280, 123.675]  # Detectron2's default, BGR


class NarrowResNet50(ResNet):
    def __init__(self):
        nn.Module.__init__(self)
        self._norm_layer, self.groups, self.base_width, self.dilation = nn.BatchNorm2d, 1, 64, 1
        self.inplanes = WIDTH
        self.conv1 = nn.Conv2d(3, WIDTH, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(Bottleneck, WIDTH, 3)
        self.layer2 = self._make_layer(Bottleneck, WIDTH * 2, 4, stride=2)
        self.layer3 = self._make_layer(Bottleneck, WIDTH * 4, 6, stride=2)
        self.layer4 = self._make_layer(Bottleneck, WIDTH * 8, 3, stride=2)

    def c5(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def fill(model):
    """Weights computed by a formula; `t` counts the tensors in the order of their names."""
    state = {name: tensor for name, tensor in sorted(model.state_dict().items()) if "num_batches" not in name}
    for t, (name, tensor) in enumerate(state.items()):
        wave = torch.sin(0.37 * torch.arange(tensor.numel(), dtype=torch.float64) + 1.7 * t).reshape(tensor.shape)
        if tensor.dim() == 4:
            wave = wave * math.sqrt(2 / tensor[0].numel())
        elif name.endswith("running_var"):
            wave = 1 + 0.4 * wave
        elif name.endswith("weight"):
            wave = (0.5 if "bn3" in name else 1) + 0.2 * wave
        else:
            wave = 0.2 * wave
        tensor.copy_(wave)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    c, y, x = torch.meshgrid(torch.arange(3), torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    pixels = ((37 * c + 5 * y + 3 * x + x * y % 17) % 256).float()
    column = lambda values: torch.tensor(values).view(1, 3, 1, 1)
    model = NarrowResNet50().eval()
    fill(model)
    torchvision = model.c5((pixels[None] / 255 - column(MEAN)) / column(STD))
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    model.conv1.weight.div_(64)
    msra = model.c5(pixels[None].flip(1) - column(PIXEL_MEAN))
    values = lambda t: [float(f"{v:.7g}") for v in t.flatten().tolist()]
    OUT.write_text(json.dumps({"torchvision": values(torchvision), "msra": values(msra)}) + "\n")
    print(f"{OUT.name}: {OUT.stat().st_size} bytes, features {torchvision.abs().mean():.3f} and {msra.abs().mean():.3f}")


if __name__ == "__main__":
    main()
