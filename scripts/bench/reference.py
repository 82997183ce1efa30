"""The file of `foveal bench --outputs`: images, outputs and weights of the network that foveal times."""

import functools
import json

import numpy as np


@functools.cache
def read(path):
    """The tensors of a safetensors file of f32 numbers, by name."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
    values = np.memmap(path, dtype=np.uint8, mode="r", offset=start)
    header.pop("__metadata__", None)
    assert all(tensor["dtype"] == "F32" for tensor in header.values()), f"{path}: expected f32 numbers"
    return {name: values[slice(*tensor["data_offsets"])].view(np.float32).reshape(tensor["shape"])
            for name, tensor in header.items()}


def apart(path, logits, deltas):
    """The largest difference between a program's outputs and foveal's, relative to the largest output of its kind."""
    tensors, found = read(path), []
    for name, values in (("logits", logits), ("deltas", deltas)):
        expected = tensors[name]
        if not np.isfinite(values).all():
            return float("inf")
        found.append(float(np.abs(values.reshape(expected.shape) - expected).max() / np.abs(expected).max()))
    return max(found)
