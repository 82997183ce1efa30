"""Writes tiny images of kinds that foveal-image cannot write, and their RGB values as read by Pillow.

Writes crates/foveal-image/tests/fixtures/{cmyk,rotated,palette,truncated,progressive,restarts}.* and pictures.json.
Needs numpy, Pillow.
"""

import json
import pathlib

import numpy as np
from PIL import Image


def main():
    folder = pathlib.Path(__file__).parents[2] / "crates/foveal-image/tests/fixtures"
    blocks = np.zeros((16, 24, 3), np.uint8)
    blocks[:8, :8], blocks[:8, 8:16], blocks[:8, 16:] = (200, 30, 40), (30, 180, 60), (40, 50, 210)
    blocks[8:, :8], blocks[8:, 8:16], blocks[8:, 16:] = (250, 250, 250), (10, 10, 10), (128, 128, 128)
    rgb = Image.fromarray(blocks)
    rgb.convert("CMYK").save(folder / "cmyk.jpg", quality=100, subsampling=0)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90 degrees
    rgb.transpose(Image.ROTATE_90).save(folder / "rotated.jpg", quality=100, subsampling=0, exif=exif)
    rgb.quantize(6).save(folder / "palette.png")
    whole = (folder / "rotated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[:-40])
    # JPEG files of several scans and of restart intervals, with chroma at half the resolution.
    rough = np.kron(blocks[:14], np.ones((4, 3, 1))) + np.random.default_rng(0).normal(0, 20, (56, 72, 3))
    rough = Image.fromarray(rough.clip(0, 255).astype(np.uint8))
    rough.save(folder / "progressive.jpg", quality=85, subsampling=2, progressive=True)
    rough.save(folder / "restarts.jpg", quality=85, subsampling=2, restart_marker_blocks=3)
    values = {}
    for name in ["cmyk.jpg", "palette.png"]:
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        values[name] = [[int(v) for v in pixels[y, x]] for y in (4, 12) for x in (4, 12, 20)]
    values["rotated.jpg"] = [[int(v) for v in blocks[y, x]] for y in (4, 12) for x in (4, 12, 20)]
    (folder / "pictures.json").write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
