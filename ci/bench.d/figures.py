"""Reads what the benchmarks have written down: files of figures, and criterion's estimates."""

import json
import math


class Book:
    """Every figure of the last runs: dictionaries with bench, subject, server, n, figure, samples, median,
    p99, min, max."""

    def __init__(self, rows, estimates):
        self.rows = rows
        # By the name of a benchmark: median in nanoseconds, with its interval.
        self.estimates = estimates

    @classmethod
    def read(cls, target):
        rows = []
        for path in sorted((target / "bench/figures").glob("*.ndjson")):
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # the run was ended in the middle of a line
                # Where a benchmark speaks of cases, not of servers.
                row["server"] = str(row.get("server", row.get("case", "")))
                rows.append(row)
        estimates = {}
        folder = target / "criterion"
        for path in sorted(folder.glob("**/new/estimates.json")):
            name = str(path.parent.parent.relative_to(folder))
            median = json.loads(path.read_text())["median"]
            between = median["confidence_interval"]
            estimates[name] = (median["point_estimate"], between["lower_bound"], between["upper_bound"])
        return cls(rows, estimates)

    def of(self, **wanted):
        """Rows that have all of these."""
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]

    def one(self, **wanted):
        """The row that has all of these, or none."""
        found = self.of(**wanted)
        return found[-1] if found else None

    def values(self, key, **wanted):
        """Different values in the order in which they were measured."""
        return list(dict.fromkeys(row[key] for row in self.of(**wanted)))


def write(target, name, rows):
    """Begins a file of figures anew. Each row is (subject, server, n, figure, samples)."""
    folder = target / "bench/figures"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.ndjson").open("w") as file:
        for subject, server, n, figure, samples in rows:
            samples = sorted(samples)
            middle = (samples[(len(samples) - 1) // 2] + samples[len(samples) // 2]) / 2
            p99 = samples[math.ceil(len(samples) * 0.99) - 1]
            row = {"bench": name, "subject": subject, "server": server, "n": n, "figure": figure}
            row |= {"samples": len(samples), "median": middle, "p99": p99, "min": samples[0], "max": samples[-1]}
            file.write(json.dumps(row) + "\n")


def number(value):
    """Three significant digits, thousands apart."""
    if value is None or isinstance(value, float) and not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def duration_ns(value):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value)} ns"


def table(heads, rows):
    """A table in Markdown; its first column is words, the others are figures."""
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
