"""Runs the cases in pairs. scripts/bench/compare calls this script and describes the options."""

import argparse
import os
import statistics
import sys
from pathlib import Path

import report
import rivals
from cases import CASES, measure
from sides import ISAS, Failed, Foveal, Worker


def parse():
    cores = len(os.sched_getaffinity(0))
    p = argparse.ArgumentParser(prog="compare")
    p.add_argument("--foveal", required=True, help=argparse.SUPPRESS)
    p.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    p.add_argument("--pairs", type=int, default=10)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--only", type=lambda text: text.split(","), default=list(CASES))
    p.add_argument("--threads", type=int, default=cores)
    p.add_argument("--device", default="flex")
    p.add_argument("--freeze", type=int, default=0, choices=range(6))
    p.add_argument("--rivals", type=lambda text: text.split(","))
    p.add_argument("--isa", choices=list(ISAS))
    p.add_argument("--before", type=Path)
    p.add_argument("--data", type=Path)
    p.add_argument("--out", type=Path)
    p.add_argument("--list", action="store_true")
    options = p.parse_args()
    unknown = [name for name in options.only if name not in CASES]
    if unknown or min(options.pairs, options.steps, options.threads) < 1:
        p.error(f"unknown case {unknown[0]}; known: {', '.join(CASES)}" if unknown else "--pairs, --steps and --threads must be at least 1")
    try:
        options.rivals, options.left_out = rivals.chosen(options.rivals, options.isa)
    except ValueError as error:
        p.error(f"--rivals: {error}")
    options.cache = options.cache.resolve()
    options.data = options.data and options.data.resolve()
    options.out = options.out or options.cache / "bench"
    return options


def say(case, pair, count, values):
    ours = statistics.median(values["foveal"])
    others = ", ".join(f"{rival} {statistics.median(f):.4g} (ratio {ours / statistics.median(f):.3f})"
                       for rival, f in values.items() if rival != "foveal")
    print(f"{case.name} {pair}/{count}: foveal {ours:.4g} {case.unit}, {others}", file=sys.stderr, flush=True)


def main():
    options = parse()
    if options.list:
        print("\n".join(CASES))
        return 0
    cores = sorted(os.sched_getaffinity(0))
    if options.threads < len(cores):
        os.sched_setaffinity(0, cores[: options.threads])
    load = round(os.getloadavg()[0], 2)
    if load > 0.5:
        print(f"compare: warning: the machine is busy (load {load}); the results are not valid", file=sys.stderr)
    isa = Foveal(options.foveal, options).peak()[0]
    if options.isa and isa.replace("-", "").lower() != options.isa:
        print(f"compare: --isa {options.isa}: foveal uses {isa}; does this binary know FOVEAL_ISA?", file=sys.stderr)
        return 1

    def sides(options):
        return Foveal(options.foveal, options), options.before and Foveal(options.before, options), isa

    with Worker(options) as worker:
        versions = worker.ask("versions")
    found = {"foveal": sides(options)[0].run("--version")[0].split()[-1], "isa": isa, "versions": versions, "load": load}
    measured, failed, table = [], [], ""
    for name in options.only:
        try:
            result = measure(CASES[name], options, sides, say)
            if result is None:
                print(f"compare: {name} is skipped: no rival takes part", file=sys.stderr)
                continue
            measured.append(result)
            # Written after each case, so that an interrupted run keeps its results.
            table = report.write(measured, options, found)
        except Failed as error:
            failed.append(name)
            print(f"compare: {name} failed: {error}", file=sys.stderr)
    if measured:
        print(table)
        print(f"written: {options.out / 'bench.json'}, {options.out / 'bench.md'}", file=sys.stderr)
    if failed:
        print(f"compare: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


sys.exit(main())
