"""Writes the fixtures for importing: tests/fixtures/import_{v1,v2}.pth and torchvision's detections with these weights.

The detectors are narrow. Two of their class channels have no category: 0, the background, and 2. `import_v1.pth` is a legacy
file with the names of old torchvision under a `model` wrapper. `import_v2.pth` is a current zip file without a wrapper. The
.safetensors file beside each contains an image and torchvision's detections with those two channels masked. Needs torch,
torchvision, numpy, safetensors.
"""

import json

import torch
from safetensors.torch import save_file

import margins
from masking import detections
from narrow import build, spread
from retinanet import FIXTURES, FOLDER, forward, picture

CLASSES, MASKED, SEED = 4, [0, 2], 3
# ln(0.05 / 0.95)
THRESHOLD_LOGIT = -2.9444390


def old_names(state):
    """The names that torchvision used before 0.14."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "head" and parts[2] == "conv":
            parts = [*parts[:3], str(2 * int(parts[3])), parts[5]]
        elif parts[:2] == ["backbone", "fpn"] and parts[2] != "extra_blocks":
            parts = [*parts[:4], parts[5]]
        renamed[".".join(parts)] = tensor
    return renamed


@torch.no_grad()
def settle(model, images, masked, generator, least=0.01):
    """Shifts the class bias until the images have some dozens of candidates and no decision is near its edge."""
    states = [forward(model, [image]) for image in images]
    for state in states:
        state["logits"][..., masked] = -1e4
    # Only the highest logits are near the threshold, so check these first, which is cheap.
    highest = [state["logits"].flatten().topk(4000).values for state in states]
    best = 0.0
    for _ in range(5000):
        rank = int(torch.randint(20, 400, (1,), generator=generator))
        shift = THRESHOLD_LOGIT - float(highest[0][rank:rank + 2].mean())
        # The slope of a score at the threshold is 0.0475.
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
    raise SystemExit(f"margin {best:.4f}: no shift makes all decisions clear")


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
