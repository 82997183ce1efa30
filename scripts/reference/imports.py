"""Fixtures of importing: tests/fixtures/import_{v1,v2}.pth and what torchvision makes of them.

Narrow detectors with class channels that stand for no category: 0, the background, and 2. `import_v1.pth` is a legacy
file with the names of old torchvision under a `model` wrapper, `import_v2.pth` a plain zip file of today. The
.safetensors beside each holds a picture and torchvision's detections with those two channels masked. Needs torch,
torchvision, numpy, safetensors.
"""

import json

import torch
from safetensors.torch import save_file

from masking import detections, settle
from narrow import build, spread
from retinanet import FIXTURES, FOLDER, picture

CLASSES, MASKED, SEED = 4, [0, 2], 3


def old_names(state):
    """As torchvision named them before 0.14."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "head" and parts[2] == "conv":
            parts = [*parts[:3], str(2 * int(parts[3])), parts[5]]
        elif parts[:2] == ["backbone", "fpn"] and parts[2] != "extra_blocks":
            parts = [*parts[:4], parts[5]]
        renamed[".".join(parts)] = tensor
    return renamed


def main():
    torch.set_num_threads(1)
    for name in ("v1", "v2"):
        generator = torch.Generator().manual_seed(SEED)
        spec = {**FIXTURES[name], "classes": CLASSES, "fpn_channels": 8, "min_size": 80, "max_size": 150,
                "score_thresh": 0.05, "topk_candidates": 40}
        model = build(spec, SEED).eval()
        pixels = picture(60, 100, generator)
        image = pixels.float() / 255
        spread(model, [image], logit_mean=-3.0, logit_std=1.5, delta_std=0.3)
        margin = settle(model, [image], MASKED, generator)
        found = detections(model, image, MASKED)
        path = FOLDER / f"import_{name}.pth"
        if name == "v1":
            torch.save({"model": old_names(model.state_dict()), "epoch": 3}, path, _use_new_zipfile_serialization=False)
        else:
            torch.save(model.state_dict(), path)
        tensors = {
            "image": pixels.permute(1, 2, 0).contiguous(), "boxes": found["boxes"], "scores": found["scores"],
            "labels": found["labels"].to(torch.int32),
        }
        save_file(tensors, FOLDER / f"import_{name}.safetensors", metadata={"fixture": json.dumps(
            {"seed": SEED, "margin": round(margin, 3), "groups": spec["head_groups"]})})
        for made in (path, path.with_suffix(".safetensors")):
            made.chmod(0o644)
        print(f"{path.name}: {path.stat().st_size} bytes, {len(found['scores'])} detections, margin {margin:.2f}")


if __name__ == "__main__":
    main()
