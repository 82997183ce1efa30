#!/usr/bin/env python3
"""Writes crates/foveal-eval/tests/fixtures/coco_eval.json: small ground truths, detections, and the metrics that
pycocotools computes from them (version 2.0.11 in the last run; needs numpy). Run it without arguments; the seed is fixed.

The case `mixed` combines everything: ids with gaps and out of order, crowds, all area ranges, images without objects,
classes without objects, quantised scores. Each of the other cases isolates one of these.
"""
import contextlib, copy, io, json, pathlib
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OUT = pathlib.Path(__file__).parents[2] / "crates/foveal-eval/tests/fixtures/coco_eval.json"
KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def quiet(f, *args):
    with contextlib.redirect_stdout(io.StringIO()):
        return f(*args)


def box(rng, width, height, low, high):
    w, h = np.exp(rng.uniform(np.log(low), np.log(high), 2)).clip(2, [width - 1, height - 1])
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return [round(float(v), 2) for v in (x, y, w, h)]


def jitter(rng, b, amount):
    x, y, w, h = b
    d = rng.normal(0, amount, 4)
    return [round(float(v), 2) for v in (x + d[0] * w, y + d[1] * h, w * np.exp(d[2]), h * np.exp(d[3]))]


def make(seed, images, categories, used, objects, crowd=0.0, empty=0.0, low=6, high=300, levels=None, extra=2, copies=2,
         mask_area=True):
    """`used`: the categories of the objects; `levels`: number of different scores; `extra`: false alarms per image."""
    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": c, "name": f"class {c}"} for c in categories]}
    detections = []
    score = lambda: round(float(rng.uniform(0.05, 1)), 3) if levels is None else float(rng.integers(1, levels + 1)) / levels
    for image in images:
        truth["images"].append({"id": image, "file_name": f"{image}.jpg", "width": 400, "height": 300})
        count = 0 if rng.uniform() < empty else int(rng.integers(1, objects + 1))
        for _ in range(count):
            b, c = box(rng, 400, 300, low, high), int(rng.choice(used))
            is_crowd = int(rng.uniform() < crowd)
            part = rng.uniform(0.4, 1) if mask_area else 1
            truth["annotations"].append({"id": 0, "image_id": image, "category_id": c, "bbox": b,
                                         "area": round(float(b[2] * b[3] * part), 3), "iscrowd": is_crowd})
            for _ in range(int(rng.integers(0, copies + 1)) + 3 * is_crowd):
                said = c if rng.uniform() < 0.9 else int(rng.choice(categories))
                detections.append({"image_id": image, "category_id": said, "score": score(),
                                   "bbox": jitter(rng, b, float(rng.choice([0.01, 0.05, 0.15])))})
        for _ in range(int(rng.integers(0, extra + 1))):
            detections.append({"image_id": image, "category_id": int(rng.choice(categories)), "score": score(),
                               "bbox": box(rng, 400, 300, low, high)})
    order = rng.permutation(len(truth["annotations"]))
    truth["annotations"] = [truth["annotations"][i] for i in order]
    for i, a in enumerate(truth["annotations"]):
        a["id"] = 1000 - 3 * i if i < 300 else 1000 + i
    detections = [detections[i] for i in rng.permutation(len(detections))]
    return truth, detections


def measure(truth, detections):
    gt = COCO()
    gt.dataset = copy.deepcopy(truth)
    quiet(gt.createIndex)
    if detections:
        dt = quiet(gt.loadRes, copy.deepcopy(detections))
    else:  # loadRes fails on an empty list, which means an empty set of annotations
        dt = COCO()
        dt.dataset = dict(copy.deepcopy(truth), annotations=[])
        quiet(dt.createIndex)
    e = COCOeval(gt, dt, "bbox")
    for step in (e.evaluate, e.accumulate, e.summarize):
        quiet(step)
    mean = lambda p: float(p[p > -1].mean()) if (p > -1).any() else -1.0
    precision = e.eval["precision"]  # [thresholds, recalls, categories, areas, limits]
    classes = {str(c): {"AP": mean(precision[:, :, k, 0, 2]), "AP50": mean(precision[0, :, k, 0, 2])}
               for k, c in enumerate(e.params.catIds)}
    return dict(zip(KEYS, map(float, e.stats))) | {"per_category": classes}


def cases():
    gaps = [90, 3, 17, 44, 1, 8]
    yield "mixed", make(1, [900, 12, 7, 10**12, 33, 5, 41, 60, 2, 77, 401, 18, 19, 20], gaps, gaps[:4], 8, 0.15, 0.2, levels=20)
    yield "crowds", make(2, range(1, 9), [1, 2], [1, 2], 6, crowd=0.5, low=20)
    yield "only_crowds", make(3, range(1, 4), [1, 2], [1], 3, crowd=1.0, low=40)
    yield "ties", make(4, [5, 3, 9, 1, 7], [1, 2, 3], [1, 2, 3], 8, levels=2, low=20, high=120)
    yield "over_100", make(5, [1, 2], [4], [4], 60, low=8, high=60, copies=4, extra=40)
    yield "one_size", make(6, range(10, 16), [1, 2], [1, 2], 5, low=40, high=80, mask_area=False)
    yield "no_detections", (make(7, range(1, 4), [1, 2, 3], [1, 2], 4)[0], [])
    yield "no_objects", (lambda t, d: (dict(t, annotations=[]), d))(*make(8, range(1, 4), [1, 2], [1, 2], 3))


def main():
    result = []
    for name, (truth, detections) in cases():
        per_image = max([0, *np.unique([(d["image_id"], d["category_id"]) for d in detections], axis=0, return_counts=True)[1]]) if detections else 0
        assert name != "over_100" or per_image > 100, per_image
        result.append({"name": name, "truth": truth, "detections": detections, "expected": measure(truth, detections)})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    rows = lambda values: "[\n" + ",\n".join(json.dumps(v) for v in values) + "]"
    OUT.write_text("[" + ",\n".join(
        f'{{"name": "{c["name"]}",\n"expected": {json.dumps(c["expected"])},\n"truth": {{' +
        ",\n".join(f'"{k}": {rows(v)}' for k, v in c["truth"].items()) +
        f'}},\n"detections": {rows(c["detections"])}}}' for c in result) + "]\n")
    for c in result:
        print(c["name"], len(c["truth"]["annotations"]), len(c["detections"]), [round(c["expected"][k], 3) for k in KEYS])
    print(OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
