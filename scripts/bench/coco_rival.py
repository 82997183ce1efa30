"""Computes COCO metrics with another tool, in a process of its own.

    coco_rival.py pycocotools|faster_coco_eval ANNOTATIONS RESULTS

Prints one line of JSON: the seconds for importing, for loading both files, and for evaluating and accumulating; and AP.
"""

import contextlib
import json
import sys
import time


def main():
    tool, annotations, results = sys.argv[1:]
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        if tool == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval as Eval
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as Eval
        imported = time.perf_counter()
        truth = COCO(annotations)
        found = truth.loadRes(results)
        loaded = time.perf_counter()
        evaluation = Eval(truth, found, iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        done = time.perf_counter()
    print(json.dumps({"import": imported - started, "load": loaded - imported, "evaluate": done - loaded,
                      "AP": float(evaluation.stats[0])}))


main()
