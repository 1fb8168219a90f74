"""How it grows, as pictures: teardown by servers at once, snapshot by descriptors, sweep by sessions."""

import svg


def write(book, folder, date):
    """Writes those that there are figures for. Gives back {name: file}."""
    shown = {}
    for name, make in (("teardown", teardown), ("snapshot", snapshot), ("sweep", sweep)):
        drawn = make(book)
        path = folder / f"{date}-{name}.svg"
        if drawn:
            path.write_text(drawn)
            shown[name] = path.name
        else:
            path.unlink(missing_ok=True)
    return shown


def line(book, **wanted):
    """Medians by n, from one to many."""
    return sorted((row["n"], row["median"]) for row in book.of(**wanted) if row["n"] > 0 and row["median"] > 0)


def drawn(title, x_label, y_label, series):
    # One point is no growth.
    series = {name: points for name, points in series.items() if len(points) > 1}
    return svg.chart(title, x_label, y_label, series) if series else None


def teardown(book):
    wanted = {"bench": "teardown", "server": "plain", "figure": "whole_ms"}
    series = {one: line(book, subject=one, **wanted) for one in book.values("subject", **wanted)}
    return drawn("Teardown of well-behaved servers", "servers closed at once", "ms, median", series)


def snapshot(book):
    wanted = {"bench": "probe", "server": "fds", "figure": "us"}
    names = {"look": "scupper, one look", "snapshot": "scupper, stable", "procfs": "procfs crate"}
    series = {names.get(one, one): line(book, subject=one, **wanted) for one in book.values("subject", **wanted)}
    return drawn("A process and its descriptors", "descriptors", "µs, median", series)


def sweep(book):
    wanted = {"bench": "sessions", "server": "sweep-idle"}
    names = [one for one in book.values("figure", **wanted) if one.endswith("_us")]
    series = {one.removesuffix("_us"): line(book, figure=one, **wanted) for one in names}
    return drawn("A sweep of idle sessions", "sessions", "µs, median", series)
