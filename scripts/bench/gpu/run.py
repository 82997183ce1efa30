"""Measures foveal on a machine with a GPU, and torchvision beside it. Runs from the folder that pack made.

    python3 run.py --out $OUT [--seconds 3600] [--stages features,parity,...]

The folder needs neither a network nor Rust. Each result is appended to OUT/results.jsonl at once; a case that fails or
misses its deadline is a line too, and the next one goes on. A later call with the same OUT appends to the same file.
report.py makes a table of it.
"""

import argparse
import datetime
import json
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from place import ERRORS, HERE, Place, described
from stages import STAGES


def shape(text):
    size, batch = text.split("x")
    return int(size), int(batch)


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="the folder for results.jsonl and logs")
    p.add_argument("--seconds", type=float, default=3600, help="seconds that all stages may take together")
    p.add_argument("--stages", default=",".join(STAGES), help=f"the stages to run, of {', '.join(STAGES)}")
    p.add_argument("--stage-seconds", type=float, help="seconds that each stage may take (default: by stage)")
    p.add_argument("--shapes", type=shape, nargs="+", metavar="SIZExBATCH", help="the cases of train and infer, as 800x8")
    p.add_argument("--hold", type=Path, help="a file: no turn is timed while it exists")
    p.add_argument("--device", default="vulkan", help="foveal's device")
    p.add_argument("--rival-device", default="cuda", help="PyTorch's device")
    p.add_argument("--precisions", default="f32,f16", help="foveal's precisions")
    p.add_argument("--python", help="the Python that has torch (default: the one that runs this)")
    p.add_argument("--foveal", type=Path, help="another binary than that of the folder")
    p.add_argument("--work", type=Path, help="a folder for temporary files (default: a new one, which is removed)")
    p.add_argument("--rounds", type=int, default=3, help="timed turns of each configuration")
    p.add_argument("--tune-seconds", type=float, default=600, help="deadline of a turn that may tune kernels")
    p.add_argument("--turn-seconds", type=float, default=60, help="deadline of any other turn")
    p.add_argument("--quickstart-seconds", type=float, default=300, help="deadline of the quickstart")
    p.add_argument("--tiny", action="store_true",
                   help="tiny cases, to test the programs on a machine without a GPU; the times mean nothing")
    options = p.parse_args()
    options.stages = options.stages.split(",")
    options.precisions = options.precisions.split(",")
    options.backbone = "resnet18" if options.tiny else "resnet50"
    options.rounds = 1 if options.tiny else options.rounds
    unknown = [name for name in options.stages if name not in STAGES]
    if unknown:
        p.error(f"unknown stage {unknown[0]}; known: {', '.join(STAGES)}")
    return options


def main():
    options = parse()
    # Ends the programs too when this one is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    temporary = None
    if options.work is None:
        temporary = options.work = Path(tempfile.mkdtemp(prefix="foveal-gpu-"))
    try:
        return stages(options)
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def stages(options):
    place = Place(options)
    packed = HERE / "pack.json"
    place.results.add("run", "start", date=datetime.date.today().isoformat(), tiny=options.tiny, device=options.device,
                      rival_device=options.rival_device, stages=options.stages, seconds=options.seconds,
                      pack=json.loads(packed.read_text()) if packed.exists() else None, python=platform.python_version(),
                      system=platform.platform())
    for name in options.stages:
        if place.budget.is_used_up(whole=True):
            place.results.add("run", name, ok=False, error="skipped: the time is used up")
            continue
        stage, seconds = STAGES[name]
        place.budget.stage(options.stage_seconds or (options.seconds if options.tiny else seconds))
        started = time.monotonic()
        try:
            stage(place)
            place.results.add("run", name, ok=True, seconds=time.monotonic() - started)
        except ERRORS as error:
            place.results.add("run", name, ok=False, seconds=time.monotonic() - started, error=described(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
