"""Computes golden values for the resizing of foveal-image with torchvision's detection transform and Pillow's filter.

Writes crates/foveal-image/tests/fixtures/resize.json. The filter is the antialiased bilinear one.
The image is a formula (see `picture`), so only samples of the results are stored. Needs torch, torchvision, numpy, Pillow.
"""

import json
import pathlib

import numpy as np
import torch
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SAMPLES = 60  # positions per case


def picture(width, height):
    """[height, width, 3] u8: pixel (x, y, c) = (x*x*7 + y*37 + x*y*3 + c*53) mod 256."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * x * 7 + y * 37 + x * y * 3 + c * 53) % 256).astype(np.uint8)


def main():
    rng = np.random.default_rng(0)
    cases = []
    # (width, height, min_size, max_size): smaller, larger, capped by max_size, unchanged, one pixel short, large
    for width, height, lo, hi in [
        (61, 40, 24, 400), (23, 17, 32, 400), (90, 20, 64, 100), (48, 64, 48, 64), (427, 640, 300, 500),
        (500, 333, 800, 1333), (1030, 771, 800, 1333), (1, 7, 5, 9),
    ]:
        data = picture(width, height)
        transform = GeneralizedRCNNTransform(lo, hi, MEAN, STD)
        tensor = torch.from_numpy(data).permute(2, 0, 1).float().div(255)
        image = transform.resize(transform.normalize(tensor), None)[0].numpy()
        to_height, to_width = image.shape[1:]
        pil = np.asarray(Image.fromarray(data).resize((to_width, to_height), Image.BILINEAR))
        ys, xs = rng.integers(0, to_height, SAMPLES), rng.integers(0, to_width, SAMPLES)
        cs = rng.integers(0, 3, SAMPLES)
        cases.append({
            "width": width, "height": height, "min_size": lo, "max_size": hi,
            "to_width": to_width, "to_height": to_height,
            "samples": [
                {"x": int(x), "y": int(y), "c": int(c), "torchvision": float(image[c, y, x]), "pil": int(pil[y, x, c])}
                for x, y, c in zip(xs, ys, cs)
            ],
        })
    sizes = []
    for _ in range(400):
        width, height = (int(v) for v in rng.integers(1, 2000, 2))
        lo = int(rng.integers(100, 900))
        hi = lo + int(rng.integers(0, 800))
        shape = transform_size(width, height, lo, hi)
        sizes.append([width, height, lo, hi, shape[0], shape[1]])
    path = pathlib.Path(__file__).parents[2] / "crates/foveal-image/tests/fixtures/resize.json"
    path.write_text(json.dumps({"cases": cases, "sizes": sizes}) + "\n")


def transform_size(width, height, lo, hi):
    """(width, height) as computed by torch on a one-channel image. Sides that vanish become one pixel."""
    scale = min(lo / min(width, height), hi / max(width, height))
    if min(int(width * scale), int(height * scale)) == 0:
        return max(int(width * scale), 1), max(int(height * scale), 1)
    out = torch.nn.functional.interpolate(
        torch.zeros(1, 1, height, width), scale_factor=scale, mode="bilinear", recompute_scale_factor=True, align_corners=False)
    return out.shape[3], out.shape[2]


if __name__ == "__main__":
    main()
