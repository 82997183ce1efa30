"""Writes the files of the cases: COCO results as of a detector on val2017, and a data set of sufficient length."""

import json
import math
import random
from pathlib import Path

IMAGES, CLASSES, WIDTH, HEIGHT = 5000, 80, 640, 480
OBJECTS, DETECTIONS = 7, 36  # per image, on average


def spread(rng, mean):
    """A random count with this mean and a long tail, like the number of objects in photographs."""
    return min(int(rng.expovariate(1 / mean) + 0.5), 100)


def box(rng):
    w = min(math.exp(rng.uniform(math.log(6), math.log(500))), WIDTH - 1)
    h = min(w * math.exp(rng.gauss(0, 0.4)), HEIGHT - 1)
    return [rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h), w, h]


def nudged(rng, bbox):
    x, y, w, h = bbox
    s = rng.choice([0.03, 0.1, 0.3])
    return [x + rng.gauss(0, s) * w, y + rng.gauss(0, s) * h, w * math.exp(rng.gauss(0, s)), h * math.exp(rng.gauss(0, s))]


def results_set(folder, seed=0):
    """Writes `truth.json` and `results.json` for `foveal score` and its rivals, unless both exist."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, results = folder / "truth.json", folder / "results.json"
    if truth.exists() and results.exists():
        return truth, results
    rng = random.Random(seed)
    # Some classes are common, most are rare.
    weights = [1 / (1 + rank) for rank in range(CLASSES)]
    digits = lambda bbox: [round(v, 3) for v in bbox]
    images, annotations, detections = [], [], []
    for image in range(1, IMAGES + 1):
        images.append({"id": image, "file_name": f"{image:012}.jpg", "width": WIDTH, "height": HEIGHT})
        kinds = rng.choices(range(1, CLASSES + 1), weights, k=6)
        objects = []
        for _ in range(spread(rng, OBJECTS)):
            bbox, crowd = box(rng), rng.random() < 0.01
            objects.append((bbox, rng.choice(kinds)))
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": objects[-1][1],
                                "bbox": digits(bbox), "area": bbox[2] * bbox[3] * rng.uniform(0.4, 1.0),
                                "iscrowd": int(crowd)})
        for _ in range(spread(rng, DETECTIONS)):
            if objects and rng.random() < 0.5:
                near, kind = rng.choice(objects)
                bbox, score = nudged(rng, near), rng.betavariate(3, 3)
                kind = kind if rng.random() < 0.9 else rng.choice(kinds)
            else:
                bbox, kind, score = box(rng), rng.choice(kinds), rng.betavariate(1, 6)
            detections.append({"image_id": image, "category_id": kind, "bbox": digits(bbox), "score": round(score, 6)})
    categories = [{"id": c, "name": f"class_{c}"} for c in range(1, CLASSES + 1)]
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    results.write_text(json.dumps(detections))
    return truth, results


def find_set(folder):
    """Finds the annotations and the images of a COCO folder."""
    folder = Path(folder)
    for annotations, images in [("annotations/train.json", "images"), ("annotations/train.json", "images/train"),
                                ("annotations/instances_train2017.json", "train2017"), ("train.json", "images/train")]:
        if (folder / annotations).exists() and (folder / images).is_dir():
            return folder / annotations, folder / images
    raise SystemExit(f"{folder}: contains no annotations/train.json with a folder images/")


def repeated_set(annotations, images, least, out):
    """Repeats the images of a set until there are `least`, so that start-up is a small part of a pass."""
    coco = json.loads(Path(annotations).read_text())
    present = [i for i in coco["images"] if (Path(images) / i["file_name"]).exists()]
    objects = {}
    for a in coco["annotations"]:
        objects.setdefault(a["image_id"], []).append(a)
    longer, boxes = [], []
    while present and len(longer) < least:
        for image in present:
            longer.append({**image, "id": len(longer) + 1})
            for a in objects.get(image["id"], []):
                kept = {k: a[k] for k in ("category_id", "bbox", "area", "iscrowd") if k in a}
                boxes.append({**kept, "id": len(boxes) + 1, "image_id": len(longer)})
    Path(out).write_text(json.dumps({"images": longer, "annotations": boxes, "categories": coco["categories"]}))
    return len(longer)
