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


def middle(pairs, side):
    return statistics.median(statistics.median(p[side]) for p in pairs)


def summarise(case, pairs):
    """One row of the report for each rival, and one for the best rival of each group."""
    rivals = list(case.turns)[1:]
    rows = [(rival, rival) for rival in rivals]
    for group, members in case.groups.items():
        members = [rival for rival in members if rival in rivals]
        if members:
            best = (max if case.higher else min)(members, key=lambda rival: middle(pairs, rival))
            rows.append((group, best))
    return [row(case, pairs, name, rival) for name, rival in rows]


def row(case, pairs, name, rival):
    r, target = ratios(pairs, rival), case.targets.get(name)
    median = statistics.median(r)
    met = None if target is None else (median >= target if case.higher else median <= target)
    return {"case": case.name, "rival": name if name == rival else f"{name}: {rival}", "unit": case.unit,
            "foveal": middle(pairs, "foveal"), "other": middle(pairs, rival), "min": min(r), "median": median,
            "max": max(r), "target": target, "met": met, "pairs": len(r)}


def peak(peaks):
    """The medians of the pairs' peaks on one thread and on all threads."""
    one, every = (statistics.median(column) for column in zip(*peaks))
    return {"one_thread": round(one, 1), "all_threads": round(every, 1)}


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


def instruction_set(isa, options):
    """What foveal uses, and whether --isa or FOVEAL_ISA forced it."""
    forced = options.isa or os.environ.get("FOVEAL_ISA")
    return {"used": isa, "forced": bool(forced), "rivals_forced": bool(options.isa)}


def isa_text(isa):
    if not isa["forced"]:
        return f"{isa['used']}, the best of this processor"
    return f"{isa['used']}, forced " + ("on all sides" if isa["rivals_forced"] else "for foveal alone")


def markdown(report, table, cases):
    m, v = report["machine"], report["versions"]
    lines = [
        "# foveal and other programs on one machine", "",
        f"{report['date']}: {m['cpu']}, {m['threads']} of {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}; "
        f"instruction set {isa_text(report['instruction_set'])}; load at the start {m['load']}. foveal {report['foveal']} on `{report['device']}`; "
        + ", ".join(f"{name} {version}" for name, version in v.items()) + ".", "",
        "`scripts/bench/compare` wrote this report. A pair is a turn of foveal and a turn of the other program, on the same "
        "threads. A turn is the median of its steps, without warm-up. The ratio is foveal's value over the other's. Below "
        "1, foveal takes less; for images/s, above 1, foveal is faster. Both programs have networks, boxes and anchors of "
        "the same shapes (torchvision's v1) and random weights. Anchors and matches are computed before the clock "
        "starts. The peak is the largest rate of f32 multiply-adds in registers on foveal's instruction set, measured in "
        "each pair.", *([report["left_out"]] if report["left_out"] else []), "",
        "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD),
        *("| " + " | ".join(row) + " |" for row in table[1:]), "",
    ]
    for case, most in cases:
        told = " ".join(n if isinstance(n, str) else ", ".join(f"{k}: {x}" for k, x in n.items()) + "." for n in case.notes)
        rates = f"Peak {most['one_thread']:.4g} GFLOP/s on one thread, {most['all_threads']:.4g} on all."
        lines.append(f"- `{case.name}`: {case.what}. {rates} {told}".rstrip())
    return "\n".join(lines) + "\n"


def write(measured, options, found):
    """Writes bench.json and bench.md into the output folder, and returns the table as text. `found` has the version of
    foveal, its instruction set, the versions of the rivals, and the load at the start."""
    rows = [(row, case.higher) for case, pairs, _ in measured for row in summarise(case, pairs)]
    table = [HEAD] + [cells(row, higher) for row, higher in rows]
    report = {
        "date": datetime.date.today().isoformat(), "machine": {**machine(options.threads), "load": found["load"]},
        "instruction_set": instruction_set(found["isa"], options), "left_out": options.left_out,
        "foveal": found["foveal"], "device": options.device, "versions": found["versions"],
        "settings": {"pairs": options.pairs, "steps": options.steps, "freeze": options.freeze, "rivals": options.rivals,
                     "isa": options.isa, "before": str(options.before) if options.before else None,
                     "data": str(options.data) if options.data else "shapes"},
        "ratios": [row for row, _ in rows],
        "cases": [{"case": c.name, "what": c.what, "unit": c.unit, "notes": c.notes, "pairs": pairs,
                   "peak_gflops": peak(peaks), "peaks_gflops": peaks} for c, pairs, peaks in measured],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "bench.md").write_text(markdown(report, table, [(c, peak(peaks)) for c, _, peaks in measured]))
    return plain(table)
