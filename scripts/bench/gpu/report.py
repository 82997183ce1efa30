"""Makes Markdown tables of the results of run.py.

    python3 scripts/bench/gpu/report.py results.jsonl >> docs/src/benchmarks.md

A ratio is of two programs in the same call of run.py: foveal's images per second over torchvision's. Sections without
results are left out; without any results nothing is printed.
"""

import json
import statistics
import sys
from pathlib import Path

RIVAL_DEFAULT = "tf32"  # PyTorch's default on a GPU with TF32: in convolutions, not in matrix products
CONFIGS = {"f32": "f32", "tf32": "TF32 (default)", "bf16": "AMP bf16", "f16": "AMP f16"}


def read(path):
    """The lines, each with the number of its call of run.py."""
    lines, call = [], 0
    for text in Path(path).read_text().splitlines():
        line = json.loads(text)
        call += line["stage"] == "run" and line["case"] == "start"
        lines.append({**line, "call": call})
    return lines


def of(lines, stage):
    return [line for line in lines if line["stage"] == stage]


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


def number(value, digits=3):
    return "" if value is None else f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def machine(lines):
    """What was measured with: card, driver, date and versions."""
    starts = [line for line in of(lines, "run") if line["case"] == "start"]
    found = {line["case"]: line for line in of(lines, "features") if line["ok"]}
    reports = [line["report"] for line in lines if line.get("side") == "foveal" and line.get("ok")]
    card, rival, own = found.get("card", {}), found.get("rival", {}), found.get("environment", {})
    parts = [starts[-1]["date"]] if starts else []
    adapter = next((r["adapter"] for r in reports if r.get("adapter")), None) or card.get("name")
    parts += [adapter] if adapter else []
    if card.get("driver_version"):
        parts.append(f"NVIDIA driver {card['driver_version']}")
    parts += sorted({r["driver"] for r in reports if r.get("driver")})
    compilers = sorted({r["compiler"] for r in reports if r.get("compiler")})
    version = own.get("version", "foveal")
    parts.append(version + (f" (kernels in {', '.join(compilers)})" if compilers else ""))
    if rival:
        parts.append(f"torch {rival['torch']}, torchvision {rival['torchvision']}")
    text = ["; ".join(parts) + ".", ""]
    if any(start["tiny"] for start in starts):
        text = ["**A dry run with tiny cases: the times mean nothing.**", ""] + text
    return text


def rates(lines, stage):
    """For each case, from the last call in which both programs have timed turns: images per second and MiB of each side
    and configuration."""
    cases = {}
    for line in of(lines, stage):
        if line.get("ok") and line.get("turn", 0) > 0:
            side = cases.setdefault(line["case"], {}).setdefault(line["call"], {}).setdefault(
                (line["side"], line["config"]), {"rate": [], "memory": []})
            side["rate"].append(line["images_per_second"])
            side["memory"].append(line["report"].get("peak_device_mb", -1))
    found = {}
    for case, calls in cases.items():
        whole = [call for call, sides in calls.items() if len({side for side, _ in sides}) == 2]
        if whole:
            found[case] = {key: (statistics.median(v["rate"]), max(v["memory"]), len(v["rate"]))
                           for key, v in calls[max(whole)].items()}
    return found


def named(config):
    precision, *layout = config.split()
    return CONFIGS.get(precision, precision) + (", channels last" if layout else "")


def comparison(lines, stage, title):
    """Images per second of all configurations, and foveal's ratio to torchvision's default and to its fastest."""
    text = []
    # In a dry run, foveal's network is smaller than torchvision's.
    dry = any(line.get("tiny") for line in lines)
    for case, sides in rates(lines, stage).items():
        rivals = {config: value[0] for (side, config), value in sides.items() if side == "torchvision"}
        default, fastest = rivals.get(RIVAL_DEFAULT), max(rivals.values())
        rows = []
        for (side, config), (rate, memory, turns) in sorted(sides.items(), key=lambda item: (item[0][0], -item[1][0])):
            ours = side == "foveal"
            compared = ours and not dry
            ratios = [number(rate / default) if compared and default else "", number(rate / fastest) if compared else ""]
            rows.append([f"foveal, {config}" if ours else f"torchvision, {named(config)}", number(rate, 4), *ratios,
                         f"{memory:.0f} MiB" if memory >= 0 else "", str(turns)])
        if not text:
            text = [f"### {title}", ""]
        text += [f"{case.replace(' batch', ' px, batch')}:", "",
                 *table(["program", "images/s", "ratio to torchvision's default", "ratio to its fastest", "GPU memory",
                         "turns"], rows)]
    return text


def starts(lines):
    """Seconds of the first step, and the number of kernels of a step."""
    tuned = [line for line in of(lines, "tuning") if line["ok"]]
    rows = [[line["case"], number(line["first_step_seconds"]) + " s"] for line in tuned]
    text = ["### First step, with compiling and tuning", "", *table(["case", "seconds"], rows)] if rows else []
    counted = [line for line in of(lines, "overhead") if line["ok"] and line["turn"] > 0]
    rows = [[f"{line['case']} {line['config']}", number(statistics.median(line["ms"])) + " ms",
             str(line["report"]["blocks_per_step"]), str(line["report"]["operations_per_step"])] for line in counted]
    if rows:
        text += ["### A step with nearly no arithmetic", "",
                 *table(["case", "step", "fused kernels and single operations", "operations"], rows)]
    return text


def checks(lines):
    """Differences from the CPU, and the steps with a NaN."""
    rows = []
    for line in of(lines, "parity"):
        if line["device"] != "flex":
            shown = [number(line.get("first")), number(line.get("most"))] if "first" in line else ["", line["error"][:120]]
            rows.append([line["case"], line["precision"], *shown, "yes" if line["ok"] else "no"])
    text = ["### Differences from the CPU", "",
            *table(["case", "precision", "first step", "all steps", "within the limits"], rows)] if rows else []
    rows = [[line["case"], "yes" if line["ok"] else f"no: {line.get('error', line.get('message', ''))[:160]}"]
            for line in of(lines, "nan") + of(lines, "limits")]
    return text + (table(["check", "passed"], rows) if rows else [])


def trained(lines):
    rows = [[line["precision"], number(line["AP"]), number(line["AP50"]), f"{line['seconds']:.0f} s"]
            for line in of(lines, "quickstart") if line["ok"]]
    return ["### The quickstart", "", *table(["precision", "AP", "AP50", "training"], rows)] if rows else []


def kernels(lines, most=12):
    text = []
    for line in of(lines, "profile"):
        if line["ok"]:
            rows = [[f"`{row['kernel']}`", row["time"], row["count"], row["share"]] for row in line["kernels"][:most]]
            text += [f"### Kernels of one step, {line['case']}", "", *table(["kernel", "time", "launches", "share"], rows)]
    return text


def failures(lines):
    found = [line for line in lines if line.get("ok") is False and line["stage"] not in ("parity", "nan", "limits")]
    rows = [f"- {line['stage']}, {line['case']}" + (f", {line['side']} {line['config']}" if "side" in line else "")
            + f": {line.get('error', '')[:200]}" for line in found]
    return ["### Not measured", "", *rows, ""] if rows else []


def main():
    lines = read(sys.argv[1])
    sections = [comparison(lines, "train", "Training"), comparison(lines, "infer", "Inference with post-processing"),
                starts(lines), checks(lines), trained(lines), kernels(lines)]
    if any(sections):
        text = ["## GPU measurements", "", *machine(lines), *sum(sections, []), *failures(lines)]
        print("\n".join(text).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
