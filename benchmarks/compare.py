#!/usr/bin/env python3
"""compare.py A.json B.json: names what got worse from A to B beyond noise (the spreads both saw). Exit 1 if any."""
import json
import sys

LOWER_IS_BETTER = {"cpu_us_per_request", "p99_us", "ratio", "resident_bytes_each", "milliseconds",
                   "spawn_and_finish_ns", "yield_ns"}
HIGHER_IS_BETTER = {"requests_per_s", "operations_per_s"}


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    before, after = (json.load(open(path))["results"] for path in sys.argv[1:])
    worse = 0
    for name in before:
        if name not in after:
            print(f"gone: {name}")
            continue
        noise = max(0.05, before[name].get("spread", 0) + after[name].get("spread", 0))
        for figure, old in before[name].items():
            new = after[name].get(figure)
            if not new or not old or figure not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
                continue
            change = new / old if figure in LOWER_IS_BETTER else old / new
            # Tail latency on a shared machine is noisier than its spread in CPU time says.
            if change > 1 + noise * (3 if figure == "p99_us" else 1):
                worse += 1
                print(f"worse: {name}: {figure} {old} -> {new} ({change:.2f} times, noise {noise:.2f})")
    print(f"{worse} regressions beyond noise")
    raise SystemExit(1 if worse else 0)


if __name__ == "__main__":
    main()
