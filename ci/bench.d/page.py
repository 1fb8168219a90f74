"""The page: host, versions, commands and tables, in Markdown."""

import host
from figures import duration_ns, number, table

ABSENT = "Not measured in this run."
# Rungs in their order; others come after them.
RUNGS = ("eof_to_exit_ms", "exit_to_reaped_ms", "reaped_to_empty_ms", "empty_to_return_ms")
# Figures of teardown that have columns of their own; what is left are rungs.
OWN_COLUMNS = ("whole_ms", "each_ms", "ratio_to_floor", "ratio_to_one", "over_wait_ms")


def page(book, arguments, parts, loads, shown, root):
    flags = " --quick" if arguments.quick else ""
    if tuple(parts) != ("benches", "whole", "fuzz"):
        flags += "".join(f" --only {part}" for part in parts)
    sections = [f"# Benchmarks, {arguments.date}", head(root, flags, loads, arguments.quick)]
    for title, make in (
        ("Teardown", teardown),
        ("Many at once", at_once),
        ("What was left behind", left),
        ("Close by other means", lambda book, _: generic(book, "close")),
        ("Sessions", lambda book, _: generic(book, "sessions", is_cursor=False)),
        ("Cursors", lambda book, _: generic(book, "sessions", is_cursor=True)),
        ("A snapshot, by descriptors", snapshot),
        ("A snapshot, by processes", trees),
        ("The ledger", ledger),
        ("Lifecycles a second", churn),
        ("Whole runs", whole),
        ("What criterion measured", criterion),
    ):
        sections += [f"## {title}", make(book, shown) or ABSENT]
    return "\n\n".join(sections) + "\n"


def head(root, flags, loads, quick):
    lines = [f"Made by `ci/bench{flags}`."]
    if quick:
        lines.append("Few samples: this shows that everything works, and is not to compare with.")
    lines += [f"- {line}" for line in host.lines(root)]
    lines.append(f"- Load (1, 5, 15 minutes): {loads[0]} before, {loads[1]} after")
    lines.append(
        "\nWhat stands side by side was measured in turn, round by round; a ratio is that of one round, and "
        "tells more than the times. Figures are medians, unless the column says otherwise."
    )
    return "\n".join(lines)


def picture(shown, name, words):
    return f"![{words}]({shown[name]})\n\n" if name in shown else ""


def teardown(book, _):
    rows = []
    for server in book.values("server", bench="teardown", n=1):
        for subject in book.values("subject", bench="teardown", n=1, server=server):
            of = lambda figure: book.one(bench="teardown", n=1, server=server, subject=subject, figure=figure)
            whole, ratio, over = of("whole_ms"), of("ratio_to_floor"), of("over_wait_ms")
            if not whole:
                continue
            rungs = [
                f"{row['figure'].removesuffix('_ms').replace('_', ' ')} {number(row['median'])}"
                for row in sorted(book.of(bench="teardown", n=1, server=server, subject=subject), key=place)
                if row["figure"] not in OWN_COLUMNS and not row["figure"].startswith("left")
            ]
            rows.append([
                f"{server}: {subject}", number(whole["median"]), number(whole["p99"]),
                spread(ratio), number(over and over["max"]), "; ".join(rungs) or "-", whole["samples"],
            ])
    heads = ["server: closed by", "whole, ms", "p99", "to floor (p99)", "over its waits, at most", "rungs, ms", "rounds"]
    return rows and table(heads, rows)


def place(row):
    return RUNGS.index(row["figure"]) if row["figure"] in RUNGS else len(RUNGS)


def at_once(book, shown):
    many = sorted(n for n in book.values("n", bench="teardown", figure="whole_ms"))
    if not any(n > 1 for n in many):
        return None
    rows = []
    for server in book.values("server", bench="teardown", figure="whole_ms"):
        for subject in book.values("subject", bench="teardown", figure="whole_ms", server=server):
            of = lambda n, figure: book.one(bench="teardown", n=n, server=server, subject=subject, figure=figure)
            cells = []
            for n in many:
                whole, ratio = of(n, "whole_ms"), of(n, "ratio_to_one")
                cell = number(whole and whole["median"])
                cells.append(f"{cell} ({number(ratio['median'])})" if ratio else cell)
            if any(cell != "-" for cell in cells[1:]):
                rows.append([f"{server}: {subject}", *cells])
    heads = ["server: closed by", *(f"{n} at once, ms" for n in many)]
    words = "In brackets: of the time that one alone takes."
    return rows and f"{picture(shown, 'teardown', 'Teardown by servers at once')}{words}\n\n{table(heads, rows)}"


def left(book, _):
    rows = []
    for row in book.of(bench="teardown"):
        if row["figure"].startswith("left") and row["max"] > 0:
            what = row["figure"].removeprefix("left_")
            rows.append([f"{row['server']}: {row['subject']}", row["n"], f"{row['max']:.0f} {what}"])
    if not book.of(bench="teardown"):
        return None
    heads = ["server: closed by", "at once", "left, at most"]
    return table(heads, rows) if rows else "Nothing, by anybody."


def generic(book, bench, is_cursor=None):
    """A row for each subject, case and size, a column for each figure."""
    rows = [row for row in book.of(bench=bench) if is_cursor in (None, "cursor" in "".join(map(str, row.values())))]
    if not rows:
        return None
    figures = list(dict.fromkeys(row["figure"] for row in rows))
    cells = {}
    for row in rows:
        key = (row["server"], row["subject"], row["n"])
        told = number(row["median"])
        if row["figure"].startswith("ratio"):
            told = spread(row)
        elif row["samples"] > 1 and row["p99"] != row["median"]:
            told += f" ({number(row['p99'])})"
        cells.setdefault(key, {})[row["figure"]] = told
    heads = ["case: subject", "size", *(figure.replace("_", " ") for figure in figures)]
    body = [
        [f"{server}: {subject}" if server else subject, f"{n:,}", *(of.get(figure, "-") for figure in figures)]
        for (server, subject, n), of in cells.items()
    ]
    return "In brackets: the 99th percentile.\n\n" + table(heads, body)


def snapshot(book, shown):
    body = ways(book, "fds", "descriptors")
    if not body:
        return None
    words = (
        "Of each seven descriptors two are files, two ends of a pipe, two sockets and one an eventfd. *floor*: "
        "getdents, readlinkat and fstatat with buffers that are used again, and fdinfo for eventfds; nothing is "
        "kept. *look*: one pass of the probe, with the process, its threads and the search for it in /proc. "
        "*snapshot*: two looks that agree, and 0.2 ms between them. *screen*: the number of descriptors, and "
        "whether there is any process. *lsof* with its start; *psutil* without. In brackets: ratio to the floor.\n\n"
    )
    return picture(shown, "snapshot", "Snapshot by descriptors") + words + body


def ways(book, case, noun):
    sizes = sorted(book.values("n", bench="probe", server=case, figure="us"))
    rows = []
    for subject in book.values("subject", bench="probe", server=case, figure="us"):
        cells = []
        for n in sizes:
            of = lambda figure: book.one(bench="probe", server=case, subject=subject, n=n, figure=figure)
            time, ratio = of("us"), of("ratio_to_floor")
            cell = duration_ns(time["median"] * 1e3) if time else "-"
            cells.append(f"{cell} ({number(ratio['median'])})" if ratio and subject != "floor" else cell)
        rows.append([subject, *cells])
    return rows and table([f"{noun}:", *(f"{n:,}" for n in sizes)], rows)


def trees(book, _):
    body = ways(book, "tree", "processes")
    words = (
        "Ten descriptors each. *settle*: two looks at the processes alone that find nothing that is due. *floor* "
        "and *look* read one stat for every process there is, to see who is below whom.\n\n"
    )
    return body and words + body


def ledger(book, _):
    sizes = sorted({int(name.rsplit("/", 1)[1]) for name in book.estimates if name.startswith("ledger/")})
    rows = []
    for what in ("diff", "record"):
        told = [book.estimates.get(f"ledger/{what}/{n}") for n in sizes]
        rows.append([what, *(duration_ns(one[0]) if one else "-" for one in told)])
    words = (
        "One descriptor of a hundred is another. *diff*: what was born, died and changed. *record*: the ledger "
        "takes the snapshot in.\n\n"
    )
    return sizes and words + table(["", *(f"{n:,} descriptors" for n in sizes)], rows)


def churn(book, _):
    if not book.of(bench="churn"):
        return None
    names = {
        "case": "cases with a cell each (sentinel, cell, client, server)",
        "bare": "the same four processes started and awaited, nothing else",
        "cycle": "cycles within a cell: open, handshake, close",
        "call-cycle": "cycles within a life: a call",
        "screened-life": "lives in a cell that are screened only",
        "generated": "generated lifecycles in memory, beside the model",
        "generated-step": "their steps",
        "whole-life-in-memory": "a server added, called, removed, in memory, beside the model",
        "rmcp-over-duplex": "a bare client and server of rmcp's in memory: handshake and end",
    }
    rows = []
    for row in book.of(bench="churn", figure="per_second"):
        words = names.get(row["subject"], row["subject"]) + (f", {row['n']} at once" if row["n"] > 1 else "")
        rows.append([words, number(row["median"]), f"{number(row['min'])} to {number(row['max'])}"])
    for row in book.of(bench="fuzz"):
        rows.append([f"fuzz executions of `lifecycle`, {row['subject'].replace('-', ' ')}", number(row["median"]), "-"])
    told = table(["", "a second", "from, to"], rows)
    if not book.of(bench="fuzz"):
        told += "\n\nFuzz executions were not measured: it was not asked for, cargo-fuzz was absent, or the run was quick."
    for row in book.of(bench="churn", subject="case", figure="ratio_to_bare"):
        many = "one at a time" if row["n"] == 1 else f"{row['n']} at once"
        share = f"{100 * row['median']:.0f} % ({100 * row['min']:.0f} to {100 * row['max']:.0f})"
        told += f"\n\nCases with a cell each, {many}: {share} of bare starts and ends of the same processes."
    phases = book.of(bench="churn", subject="phase")
    if phases:
        body = [
            [row["figure"].removesuffix("_ms").lstrip("1234567_").replace("_", " "), number(row["median"]), number(row["p99"])]
            for row in phases
        ]
        told += "\n\nWhere the time of a case goes:\n\n" + table(["phase", "ms", "p99"], body)
    return told


def whole(book, _):
    runs = book.values("server", bench="whole")
    columns = [
        ("cases", "cases"), ("wall_s", "wall, s"), ("user_s", "user, s"), ("system_s", "system, s"),
        ("cases_per_second", "cases a second"), ("own_peak_mib", "scupper's peak, MiB"),
        ("largest_process_mib", "largest process, MiB"), ("steps_s", "steps, s"), ("drained_s", "waiting for ends, s"),
    ]
    rows = []
    for run in runs:
        of = lambda figure: book.one(bench="whole", server=run, figure=figure)
        rows.append([run, *(number(of(figure)["median"]) if of(figure) else "-" for figure, _ in columns)])
    words = (
        "CPU is that of all processes of the run. Steps, and waits for what had to end, are sums over cases, "
        "several of which run at once. A leak is waited for longer where the load average is high: some minutes of "
        "benchmarks before can double what a run of leaky scenarios takes. A case of the byte sweep is a life, and "
        "one of the campaign a lifecycle.\n\n"
    )
    return rows and words + table(["run", *(head for _, head in columns)], rows)


def criterion(book, _):
    rows = [
        [name, duration_ns(median), f"{duration_ns(low)} to {duration_ns(high)}"]
        for name, (median, low, high) in sorted(book.estimates.items())
    ]
    return rows and table(["benchmark", "median", "95 % interval"], rows)


def spread(row):
    return f"{number(row['median'])} ({number(row['p99'])})" if row else "-"
