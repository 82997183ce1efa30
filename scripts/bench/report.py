"""Computes the ratios of the pairs and writes the report."""

import datetime
import json
import os
import platform
import statistics
from pathlib import Path


def ratios(pairs, rival):
    """foveal's median over the rival's, for each pair."""
    return [statistics.median(p["foveal"]) / statistics.median(p[rival]) for p in pairs]


def machine(threads):
    model = next((l.split(":", 1)[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines()
                  if l.startswith("model name")), platform.processor())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "memory_gib": round(memory, 1),
            "system": platform.platform(), "load": round(os.getloadavg()[0], 2)}


def summarise(case, pairs):
    """One row of the report for each rival."""
    rows = []
    for rival in list(case.turns)[1:]:
        r, target = ratios(pairs, rival), case.targets.get(rival)
        median = statistics.median(r)
        met = None if target is None else (median >= target if case.higher else median <= target)
        middle = lambda side: statistics.median(statistics.median(p[side]) for p in pairs)
        rows.append({"case": case.name, "rival": rival, "unit": case.unit, "foveal": middle("foveal"),
                     "other": middle(rival), "min": min(r), "median": median, "max": max(r), "target": target, "met": met,
                     "pairs": len(r)})
    return rows


HEAD = ["case", "rival", "foveal", "rival's", "unit", "min", "median", "max", "target", "met", "pairs"]


def cells(row, higher):
    sign = ">=" if higher else "<="
    target = "" if row["target"] is None else f"{sign} {row['target']:.3g}"
    met = {None: "", True: "yes", False: "no"}[row["met"]]
    return [row["case"], row["rival"], f"{row['foveal']:.4g}", f"{row['other']:.4g}", row["unit"], f"{row['min']:.3f}",
            f"{row['median']:.3f}", f"{row['max']:.3f}", target, met, str(row["pairs"])]


def plain(table):
    widths = [max(len(r[i]) for r in table) for i in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in table)


def markdown(report, table, cases):
    m, v = report["machine"], report["versions"]
    lines = [
        "# foveal and other programs on one machine", "",
        f"{report['date']}: {m['cpu']}, {m['threads']} of {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}; "
        f"load at the start {m['load']}. foveal {report['foveal']} on `{report['device']}`; "
        + ", ".join(f"{name} {version}" for name, version in v.items()) + ".", "",
        "`scripts/bench/compare` wrote this report. A pair is a turn of foveal and a turn of the other program, on the same "
        "threads. A turn is the median of its steps, without warm-up. The ratio is foveal's value over the other's. Below "
        "1, foveal takes less; for images/s, above 1, foveal is faster. Both programs have networks, boxes and anchors of "
        "the same shapes (torchvision's v1) and random weights. Anchors and matches are computed before the clock "
        "starts.", "",
        "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD),
        *("| " + " | ".join(row) + " |" for row in table[1:]), "",
    ]
    for case in cases:
        told = " ".join(n if isinstance(n, str) else ", ".join(f"{k}: {x}" for k, x in n.items()) + "." for n in case.notes)
        lines.append(f"- `{case.name}`: {case.what}. {told}".rstrip())
    return "\n".join(lines) + "\n"


def write(measured, options, version, versions, load):
    """Writes bench.json and bench.md into the output folder, and returns the table as text."""
    rows = [(row, case.higher) for case, pairs in measured for row in summarise(case, pairs)]
    table = [HEAD] + [cells(row, higher) for row, higher in rows]
    report = {
        "date": datetime.date.today().isoformat(), "machine": {**machine(options.threads), "load": load},
        "foveal": version, "device": options.device, "versions": versions,
        "settings": {"pairs": options.pairs, "steps": options.steps, "freeze": options.freeze,
                     "channels_last": options.channels_last, "data": str(options.data) if options.data else "shapes"},
        "ratios": [row for row, _ in rows],
        "cases": [{"case": c.name, "what": c.what, "unit": c.unit, "notes": c.notes, "pairs": p} for c, p in measured],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "bench.md").write_text(markdown(report, table, [case for case, _ in measured]))
    return plain(table)
