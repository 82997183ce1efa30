"""The programs that networks are compared with. They are chosen with --rivals."""

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Rival:
    """A program in one configuration: its name in reports, the modules it needs, and whether --isa can limit it."""

    name: str
    modules: tuple
    has_switch: bool = True

    def installed(self):
        return all(importlib.util.find_spec(module) for module in self.modules)


TORCH = ("torch", "torchvision")
# onnxruntime and ncnn choose their instruction set from the processor alone.
RIVALS = {
    "torchvision": Rival("torchvision", TORCH),
    "channels_last": Rival("torchvision, channels_last", TORCH),
    "compiled": Rival("torchvision, compiled", TORCH),
    "onnxruntime": Rival("onnxruntime", ("onnxruntime", "onnx"), has_switch=False),
    "openvino": Rival("OpenVINO", ("openvino", "onnx")),
    "ncnn": Rival("ncnn", ("ncnn", "pnnx"), has_switch=False),
}
TORCHVISION = ["torchvision", "channels_last", "compiled"]


def chosen(asked, isa):
    """The keys of the rivals to run, and a sentence about those that are left out. `asked` is None without --rivals.

    Raises ValueError for a rival that is unknown, not installed, or cannot be limited to `isa`."""
    if asked is None:
        installed = [key for key, rival in RIVALS.items() if rival.installed()]
        left = [RIVALS[key].name for key in installed if isa and not RIVALS[key].has_switch]
        told = f"Without a switch for the instruction set, and left out: {', '.join(left)}." if left else ""
        return [key for key in installed if RIVALS[key].name not in left], told
    for key in asked:
        if key not in RIVALS:
            raise ValueError(f"unknown rival {key}; known: {', '.join(RIVALS)}")
        if not RIVALS[key].installed():
            raise ValueError(f"{key} is not installed: it needs the Python modules {', '.join(RIVALS[key].modules)}")
        if isa and not RIVALS[key].has_switch:
            raise ValueError(f"{key} has no switch for the instruction set and cannot run with --isa")
    return asked, ""
