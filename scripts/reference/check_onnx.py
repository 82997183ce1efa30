"""Checks ONNX exports in onnx.checker and onnxruntime against foveal.

    check_onnx.py FOVEAL CASES      (pip install onnx onnxruntime safetensors numpy pillow)

FOVEAL is the binary. CASES is a folder that the example `onnx_cases` (crates/foveal-detector/examples) wrote. The script
exports every model of the folder with the binary, checks the file with full shape inference, and runs it at every batch
and image size. Raw outputs must be within 1e-4 of foveal's (largest difference over largest value), or within 1e-2 with
half precision weights. With --nms, the detections must be those of foveal and of `foveal predict` at the network's input
size.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from safetensors.numpy import load_file

RAW, HALF = 1e-4, 1e-2
BOX, SCORE = 0.01, 1e-4  # pixels; probability


def export(foveal, checkpoint, path, *flags):
    subprocess.run([foveal, "export", checkpoint, "--format", "onnx", *flags, "-o", path], check=True)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    print(f"  {path.name}: opset {model.opset_import[0].version}, {len(model.graph.node)} nodes, checker ok")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options), {p.key: p.value for p in model.metadata_props}


def relative(found, reference):
    assert found.shape == reference.shape, (found.shape, reference.shape)
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def detections_agree(found, reference, what):
    """Rows x1, y1, x2, y2, score, class, image; rows whose scores differ by less than SCORE may swap."""
    assert found.shape == reference.shape, f"{what}: {len(found)} detections, expected {len(reference)}"
    free, worst_box, worst_score = list(range(len(found))), 0.0, 0.0
    for rank, row in enumerate(reference):
        boxes = np.abs(found[free, :4] - row[:4]).max(axis=1)
        scores = np.abs(found[free, 4] - row[4])
        same = (found[free, 5:] == row[5:]).all(axis=1) & (boxes <= BOX) & (scores <= SCORE)
        assert same.any(), f"{what}: nothing like {row}"
        at = int(same.argmax())
        worst_box, worst_score = max(worst_box, boxes[at]), max(worst_score, scores[at])
        place = free.pop(at)
        assert abs(found[place, 4] - found[rank, 4]) <= SCORE, f"{what}: {row} stands at {place}, expected {rank}"
    return worst_box, worst_score, len(found)


def predict(foveal, checkpoint, images, folder):
    """The detections of `foveal predict` in the images of a batch, without resizing."""
    batch, _, height, width = images.shape
    paths = []
    for i, image in enumerate(images):
        paths.append(str(Path(folder) / f"{i}.png"))
        Image.fromarray(np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)).save(paths[-1])
    sides = [f"--set=data.min_size={min(height, width)}", f"--set=data.max_size={max(height, width)}"]
    run = [foveal, "predict", checkpoint, *paths, "--json", "-", "--device", "flex", *sides]
    pictures = {p["file"]: p for p in json.loads(subprocess.run(run, check=True, capture_output=True).stdout)}
    rows = []
    for i, path in enumerate(paths):
        for d in pictures[path]["detections"]:
            x, y, w, h = d["bbox"]
            rows.append([x, y, x + w, y + h, d["score"], d["category_id"], i])
    return np.array(rows, dtype=np.float32).reshape(-1, 7)


def check(foveal, model):
    print(model.name)
    checkpoint = model / "checkpoint.safetensors"
    cases = load_file(model / "cases.safetensors")
    names = sorted({key.rsplit(".", 1)[0] for key in cases})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        raw, _ = export(foveal, checkpoint, path / "raw.onnx")
        half, _ = export(foveal, checkpoint, path / "half.onnx", "--half")
        nms, metadata = export(foveal, checkpoint, path / "nms.onnx", "--nms")
        ids = np.array(json.loads(metadata["category_ids"]))
        for name in names:
            images = cases[f"{name}.images"]
            worst = {}
            for kind, session, tolerance in [("raw", raw, RAW), ("half", half, HALF)]:
                for found, output in zip(session.run(["logits", "boxes"], {"images": images}), ["logits", "boxes"]):
                    worst[kind, output] = relative(found, cases[f"{name}.{output}"])
                    assert worst[kind, output] <= tolerance, (name, kind, output, worst)
            boxes, scores, classes, images_of = nms.run(
                ["boxes", "scores", "classes", "batch_index"], {"images": images})
            rows = np.concatenate([boxes, np.stack([scores, classes, images_of], axis=1)], axis=1)
            box, score, count = detections_agree(rows, cases[f"{name}.detections"], name)
            rows[:, 5] = ids[classes]
            detections_agree(rows, predict(foveal, checkpoint, images, folder), f"{name} predict")
            errors = ", ".join(f"{kind} {output} {value:.1e}" for (kind, output), value in worst.items())
            print(f"  {name}: {errors}; {count} detections, boxes {box:.1e} px, scores {score:.1e}")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    foveal, cases = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2])
    models = sorted(p for p in cases.iterdir() if p.is_dir())
    if not models:
        sys.exit(f"{cases}: no models")
    for model in models:
        check(foveal, model)
    print(f"{len(models)} models agree")


main()
