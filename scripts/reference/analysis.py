#!/usr/bin/env python3
"""Writes crates/foveal-eval/tests/fixtures/analysis.json: small ground truths and detections, and what other programs
compute from them. Needs numpy, pycocotools (2.0.11 in the last run) and tidecv (1.0.1; `pip install tidecv`). Run it
without arguments; the seed is fixed.

- The kinds of errors come from tidecv. Detections that tidecv ignores because they lie on a crowd region are taken out
  first, since tidecv would count them as errors.
- Class table, curves, calibration, sizes and objects in an image come from numpy over COCOeval.evalImgs and COCOeval.eval.
- The confusion matrix and the likely label errors come from loops over pycocotools.mask.iou.
- Intervals come from a paired bootstrap over images in numpy, in which an image drawn n times counts n times.
"""
import copy, json, pathlib
import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tidecv import TIDE, Data

from coco_eval import make, quiet

OUT = pathlib.Path(__file__).parents[2] / "crates/foveal-eval/tests/fixtures/analysis.json"
SIDES = [20.0, 64.0]  # size bands of the user
GROUPS = [(1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, None)]
DRAWS, BATCHES = 4000, 20
PRECISION = 0.75


def opened(truth, detections):
    gt = COCO()
    gt.dataset = copy.deepcopy(truth)
    quiet(gt.createIndex)
    return gt, quiet(gt.loadRes, copy.deepcopy(detections))


def evaluated(truth, detections, bands=(), images=None):
    e = COCOeval(*opened(truth, detections), "bbox")
    e.params.areaRng = [[0, 1e10], *bands]
    e.params.areaRngLbl = [str(i) for i in range(len(e.params.areaRng))]
    if images is not None:
        e.params.imgIds = images
    quiet(e.evaluate)
    quiet(e.accumulate)
    return e


def mean(values):
    values = np.asarray(values, float)
    return float(values[values > -1].mean()) if (values > -1).any() else None


def three(e, area):
    p, r = e.eval["precision"][:, :, :, area, 2], e.eval["recall"][:, :, area, 2]
    return {"AP": mean(p), "AP50": mean(p[0]), "AR": mean(r)}


def outcomes(e, category):
    """Scores and hits at IoU 0.5 of the detections that are not ignored, best first; and the number of objects."""
    rows = [x for x in e.evalImgs if x and x["category_id"] == category and x["aRng"] == [0, 1e10]]
    rows.sort(key=lambda x: x["image_id"])
    scores = np.concatenate([x["dtScores"] for x in rows] or [[]])
    hits = np.concatenate([x["dtMatches"][0] > 0 for x in rows] or [[]]).astype(bool)
    kept = ~np.concatenate([x["dtIgnore"][0] for x in rows] or [[]]).astype(bool)
    scores, hits = scores[kept], hits[kept]
    order = np.argsort(-scores, kind="mergesort")
    return scores[order], hits[order], int(sum((np.asarray(x["gtIgnore"]) == 0).sum() for x in rows))


def points(scores, hits, objects):
    """(threshold, precision, recall, F1) at each different score, best first."""
    out = []
    for t in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= t
        p = hits[kept].mean()
        r = hits[kept].sum() / objects if objects else 0.0
        out.append((t, float(p), float(r), float(2 * p * r / (p + r)) if p + r else 0.0))
    return out


def point(p):
    return p and dict(zip(["threshold", "precision", "recall", "f1"], p))


def class_table(truth, e):
    names = {c["id"]: c["name"] for c in truth["categories"]}
    rows = []
    for k, c in enumerate(e.params.catIds):
        scores, hits, objects = outcomes(e, c)
        ps = [p for p in points(scores, hits, objects) if p[3] > 0]
        best = max(ps, key=lambda p: p[3], default=None)  # the first of equal ones
        precise = [p for p in ps if p[1] >= PRECISION]
        precision = e.eval["precision"][:, :, k, 0, 2]
        rows.append({"id": c, "name": names[c], "objects": objects, "detections": len(scores), "AP": mean(precision),
                     "AP50": mean(precision[0]), "AP75": mean(precision[5]), "AR": mean(e.eval["recall"][:, k, 0, 2]),
                     "best_f1": point(best), "precise": point(precise[-1]) if precise else None})
    return rows


def curves(e):
    scores_at = np.arange(101) / 100
    out = []
    for k, c in enumerate(e.params.catIds):
        scores, hits, objects = outcomes(e, c)
        if not objects:
            continue
        rows = []
        for t in scores_at:
            kept = hits[scores >= t]
            p, r = (kept.mean() if len(kept) else 0.0), kept.sum() / objects
            rows.append((p, r, 2 * p * r / (p + r) if p + r else 0.0))
        p, r, f = map(list, zip(*rows))
        out.append({"id": c, "precision_at_recall": list(e.eval["precision"][0, :, k, 0, 2]), "precision": p, "recall": r,
                    "f1": f})
    keys = ["precision_at_recall", "precision", "recall", "f1"]
    return {"per_category": out, "mean": {k: list(np.mean([c[k] for c in out], axis=0)) for k in keys}}


def ece(scores, hits):
    where = np.minimum((scores * 10).astype(int), 9)
    bins = []
    for b in range(10):
        s, h = scores[where == b], hits[where == b]
        bins.append({"low": b / 10, "high": (b + 1) / 10, "count": len(s), "score": s.mean() if len(s) else 0.0,
                     "accuracy": h.mean() if len(h) else 0.0})
    gaps = np.array([abs(b["score"] - b["accuracy"]) for b in bins])
    counts = np.array([b["count"] for b in bins])
    return float((gaps * counts).sum() / counts.sum()), float(gaps.max()), bins


def calibration(e):
    each = [(c, *outcomes(e, c)[:2]) for c in e.params.catIds]
    total, worst, bins = ece(np.concatenate([s for _, s, _ in each]), np.concatenate([h for _, _, h in each]))
    return {"ece": total, "mce": worst, "detections": sum(len(s) for _, s, _ in each), "bins": bins,
            "per_category": [{"id": c, "ece": ece(s, h)[0]} for c, s, h in each if len(s)]}


def by_image(truth, detections):
    for image in sorted(i["id"] for i in truth["images"]):
        objects = [a for a in truth["annotations"] if a["image_id"] == image]
        found = sorted((d for d in detections if d["image_id"] == image), key=lambda d: -d["score"])
        ious = np.zeros((len(found), len(objects)))
        if found and objects:
            ious = mask.iou([d["bbox"] for d in found], [a["bbox"] for a in objects], [a["iscrowd"] for a in objects])
        yield image, objects, found, ious


def confusion(truth, detections, thresholds):
    counts = {}
    add = lambda t, d: counts.__setitem__((t, d), counts.get((t, d), 0) + 1)
    for _, objects, found, ious in by_image(truth, detections):
        taken = set()
        for d, row in zip(found, ious):
            if d["score"] < (thresholds[d["category_id"]] or 0):
                continue
            free = [(iou, -g) for g, iou in enumerate(row) if iou >= 0.5 and not objects[g]["iscrowd"] and g not in taken]
            if free:
                g = -max(free)[1]
                taken.add(g)
                add(objects[g]["category_id"], d["category_id"])
            elif not any(a["iscrowd"] and a["category_id"] == d["category_id"] and iou >= 0.5 for a, iou in zip(objects, row)):
                add(None, d["category_id"])
        for g, a in enumerate(objects):
            if g not in taken and not a["iscrowd"]:
                add(a["category_id"], None)
    return [{"truth": t, "detected": d, "count": n} for (t, d), n in counts.items()]


def label_errors(truth, detections, thresholds):
    out = []
    for image, objects, found, ious in by_image(truth, detections):
        sure = [thresholds[d["category_id"]] is not None and d["score"] >= thresholds[d["category_id"]] for d in found]
        for d, row, s in zip(found, ious, sure):
            if s and (row < 0.1).all():
                out.append({"kind": "no_object", "image_id": image, "annotation_id": None,
                            "detected_category_id": d["category_id"], "score": d["score"]})
        for g, a in enumerate(objects):
            if a["iscrowd"]:
                continue
            on = [i for i in range(len(found)) if ious[i, g] >= 0.5]
            if not on:
                out.append({"kind": "never_found", "image_id": image, "annotation_id": a["id"],
                            "detected_category_id": None, "score": None})
            on = [i for i in on if sure[i]]
            if on and all(found[i]["category_id"] != a["category_id"] for i in on):
                out.append({"kind": "other_class", "image_id": image, "annotation_id": a["id"],
                            "detected_category_id": found[on[0]]["category_id"], "score": found[on[0]]["score"]})
    return out


def tide(truth, detections):
    def run(detections):
        gt, dt = Data("gt", max_dets=10**6), Data("dt", max_dets=10**6)
        for image in truth["images"]:
            gt.add_image(image["id"], str(image["id"])), dt.add_image(image["id"], str(image["id"]))
        for a in truth["annotations"]:
            (gt.add_ignore_region if a["iscrowd"] else gt.add_ground_truth)(a["image_id"], a["category_id"], a["bbox"])
        for d in detections:
            dt.add_detection(d["image_id"], d["category_id"], d["score"], d["bbox"])
        return TIDE().evaluate(gt, dt, mode=TIDE.BOX), dt
    _, dt = run(detections)
    kept = [d for d, a in zip(detections, dt.annotations) if a["used"] is not None]
    result, _ = run(kept)
    names = {"Cls": "class", "Loc": "location", "Both": "both", "Dupe": "duplicate", "Bkg": "background", "Miss": "missed"}
    deltas, counts = result.fix_main_errors(), result.count_errors()
    total = sum(deltas.values())
    out = {names[k.short_name]: {"count": counts[k], "delta_ap": v / 100, "share": v / total} for k, v in deltas.items()}
    return {"ap50": result.ap / 100, **out, "on_crowd": len(detections) - len(kept)}


def resampled(e, bands):
    """The arrays that a bootstrap needs: for each area range and category the detections and the objects by image."""
    images = sorted(e.params.imgIds)
    index = {image: i for i, image in enumerate(images)}
    out = []
    for area in [[0, 1e10], *bands]:
        for c in e.params.catIds:
            rows = [x for x in e.evalImgs if x and x["category_id"] == c and x["aRng"] == area]
            rows.sort(key=lambda x: x["image_id"])
            objects = np.zeros(len(images))
            for x in rows:
                objects[index[x["image_id"]]] = (np.asarray(x["gtIgnore"]) == 0).sum()
            cat = lambda key, axis: np.concatenate([x[key] for x in rows], axis=axis) if rows else np.zeros((10, 0))
            scores = np.concatenate([x["dtScores"] for x in rows] or [[]])
            where = np.concatenate([[index[x["image_id"]]] * len(x["dtScores"]) for x in rows] or [[]]).astype(int)
            order = np.argsort(-scores, kind="mergesort")
            out.append((where[order], cat("dtMatches", 1)[:, order] > 0, cat("dtIgnore", 1)[:, order].astype(bool), objects))
    return out


def metrics_of(arrays, classes, counts, recalls=np.linspace(0, 1, 101)):
    """AP, AP50, AP75, AR of each class on all sizes, then AP of each other area range."""
    values = []
    for where, matched, ignored, objects in arrays:
        n = (objects * counts).sum()
        if n == 0:
            values.append([np.nan] * 4)
            continue
        copies = np.repeat(np.arange(len(where)), counts[where].astype(int))
        m, g = matched[:, copies], ignored[:, copies]
        tp, fp = np.cumsum(m & ~g, axis=1), np.cumsum(~m & ~g, axis=1)
        aps = []
        for t in range(10):
            rc, pr = tp[t] / n, tp[t] / np.maximum(tp[t] + fp[t], 1)
            pr = np.maximum.accumulate(pr[::-1])[::-1]
            at = np.searchsorted(rc, recalls, side="left")
            aps.append(np.where(at < len(pr), pr[np.minimum(at, len(pr) - 1)] if len(pr) else 0, 0).mean())
        values.append([np.mean(aps), aps[0], aps[5], (tp[:, -1] / n).mean() if len(copies) else 0.0])
    values = np.array(values).reshape(-1, classes, 4)
    with np.errstate(all="ignore"):
        means = np.nanmean(values, axis=1)
    whole = [means[0, 0], means[0, 1], means[0, 2], means[0, 3], *means[1:, 0]]
    return np.concatenate([whole, values[0].ravel()])


def bootstrap(truth, first, second):
    coco = [[0, 32**2], [32**2, 96**2], [96**2, 1e10]]
    es = [evaluated(truth, d, coco) for d in (first, second)]
    arrays = [resampled(e, coco) for e in es]
    categories = es[0].params.catIds
    images = len(truth["images"])
    keys = ["AP", "AP50", "AP75", "AR100", "APs", "APm", "APl"]
    keys = [[None, k] for k in keys] + [[c, k] for c in categories for k in ["AP", "AP50", "AP75", "AR"]]
    rng = np.random.default_rng(5)
    of = lambda counts: [metrics_of(a, len(categories), counts) for a in arrays]
    whole = of(np.ones(images))
    drawn = np.array([of(np.bincount(rng.integers(0, images, images), minlength=images)) for _ in range(DRAWS)])

    def ends(values):  # [draws] -> ends, and the standard deviations of the ends times the root of the number of draws
        values = values[~np.isnan(values)]
        low, high = np.quantile(values, [0.025, 0.975])
        parts = np.array([np.quantile(p, [0.025, 0.975]) for p in np.array_split(values, BATCHES)])
        return float(low), float(high), [float(s) for s in parts.std(axis=0) * np.sqrt(len(values) / BATCHES)]

    rows = []
    for i, (category, key) in enumerate(keys):
        if np.isnan(whole[0][i]):
            continue
        one, both = ends(drawn[:, 0, i]), ends(drawn[:, 1, i] - drawn[:, 0, i])
        rows.append({"category": category, "key": key, "value": whole[0][i], "low": one[0], "high": one[1], "spread": one[2],
                     "difference": whole[1][i] - whole[0][i], "difference_low": both[0], "difference_high": both[1],
                     "difference_spread": both[2]})
    return {"draws": DRAWS, "metrics": rows}


def unique_scores(detections):
    """The same detections with different scores in nearly the same order."""
    scores = np.round(np.linspace(0.05, 0.995, len(detections)), 5)
    order = np.argsort([d["score"] for d in detections], kind="mergesort")
    for rank, i in enumerate(order):
        detections[i]["score"] = float(scores[rank])
    assert len(set(scores)) == len(detections)
    return detections


def worse(detections, seed):
    """A second set of detections: some lost, boxes moved, scores changed."""
    rng = np.random.default_rng(seed)
    kept = [copy.deepcopy(d) for d in detections if rng.uniform() > 0.15]
    for d in kept:
        d["bbox"] = [round(float(v + rng.normal(0, 2)), 2) if i < 2 else v for i, v in enumerate(d["bbox"])]
        d["score"] = round(float(np.clip(d["score"] + rng.normal(0, 0.1), 0.01, 0.99)), 5)
    return kept


def cases():
    t, d = make(21, range(1, 41), [1, 2, 3, 7], [1, 2, 3, 7], 7, low=10, high=200, copies=3)
    yield "plain", t, unique_scores(d), True
    t, d = make(22, range(100, 130), [5, 2, 9, 4], [5, 2, 9], 9, crowd=0.15, empty=0.2, low=10, high=150)
    d = [x for x in d if x["category_id"] != 4]  # a class with neither objects nor detections
    yield "crowds", t, unique_scores(d), True
    t, d = make(23, range(1, 21), [1, 2, 3], [1, 2], 12, crowd=0.05, levels=8, low=10, high=150)
    yield "ties", t, d, False


def main():
    result = []
    for name, truth, detections, distinct in cases():
        e = evaluated(truth, detections)
        table = class_table(truth, e)
        thresholds = {r["id"]: r["best_f1"] and r["best_f1"]["threshold"] for r in table}
        edges = [0, *[s * s for s in SIDES], 1e10]
        bands = [[0, 32**2], [32**2, 96**2], [96**2, 1e10], *[list(b) for b in zip(edges, edges[1:])]]
        sized = evaluated(truth, detections, bands)
        sizes = []
        for i, band in enumerate(bands):
            objects = sum((np.asarray(x["gtIgnore"]) == 0).sum() for x in sized.evalImgs if x and x["aRng"] == band)
            sizes.append({"min_area": band[0], "max_area": band[1], "objects": int(objects), **three(sized, i + 1)})
        counts = {i["id"]: sum(a["image_id"] == i["id"] and not a["iscrowd"] for a in truth["annotations"])
                  for i in truth["images"]}
        groups = []
        for low, high in GROUPS:
            images = [i for i, n in counts.items() if low <= n and (high is None or n <= high)]
            found = [d for d in detections if d["image_id"] in set(images)]
            of = three(evaluated(truth, found, images=images), 0) if images else {"AP": None, "AP50": None, "AR": None}
            groups.append({"min_objects": low, "max_objects": high, "images": len(images), **of})
        expected = {"classes": table, "sizes": sizes, "objects_per_image": groups, "calibration": calibration(e),
                    "curves": curves(e), "confusion": confusion(truth, detections, thresholds),
                    "label_errors": label_errors(truth, detections, thresholds)}
        if distinct:
            expected["tide"] = tide(truth, detections)
        case = {"name": name, "sides": SIDES, "precision": PRECISION, "expected": expected, "truth": truth,
                "detections": detections}
        if name == "plain":
            case["other"] = worse(detections, 3)
            expected["bootstrap"] = bootstrap(truth, detections, case["other"])
        result.append(case)
        print(name, len(truth["annotations"]), len(detections), expected.get("tide"))
        for row in table:
            print("   ", row)
    OUT.write_text("[" + ",\n".join(json.dumps(c, default=lambda v: int(v) if isinstance(v, np.integer) else float(v)) for c in result) + "]\n")
    print(OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
