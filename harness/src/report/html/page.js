"use strict";
(() => {
  const { words, cases } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const word = (number) => words[number];

  // Elements. Whatever is said becomes a text node, so that nothing of it is markup.
  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
      else if (value == null || (value === false && !name.startsWith("aria-"))) continue;
      else node.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
    }
    node.append(...children.flat().filter((child) => child != null && child !== false));
    return node;
  };
  const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  const duration = (ms) =>
    ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 999.5 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(ms < 99950 ? 1 : 0)} s`;
  const cut = (text, room) => {
    const most = Math.max(0, Math.floor(room / 5.8));
    return text.length <= most ? text : most < 4 ? "" : `${text.slice(0, most - 1)}…`;
  };

  // The table.
  const order = { invalid: 5, unknown: 4, failed: 3, leak: 2, clean: 1 };
  const marks = { red: 2, dark: 1, ok: 0 };
  const all = cases.map((one, at) => {
    const id = word(one.id);
    const titles = one.more && one.more.findings ? one.more.findings.map((found) => word(found.title)) : [];
    const wrong = one.wrong == null ? "" : word(one.wrong);
    return { ...one, at, name: id, said: wrong, search: [id, wrong, ...titles].join("\n").toLowerCase() };
  });
  const columns = [
    { name: "Case", value: (one) => one.name },
    { name: "Verdict", value: (one) => marks[one.mark] * 10 + order[one.verdict], first: -1 },
    { name: "Kinds", value: (one) => (one.kinds || []).join(), wide: true },
    { name: "Took", value: (one) => one.took, number: true, wide: true, first: -1 },
    { name: "End took", value: (one) => (one.end ? one.end[1] : -1), number: true, first: -1 },
  ];
  const PAGE = 100;
  const state = { text: "", verdict: "", kind: "", group: null, column: 1, way: -1, shown: PAGE, open: new Set() };
  const table = byId("case-table");
  const body = el("tbody");

  const isWanted = (one) =>
    one.search.includes(state.text) &&
    (!state.verdict || (state.verdict === "red" ? one.mark !== "ok" : one.verdict === state.verdict)) &&
    (!state.kind || (one.kinds || []).includes(state.kind)) &&
    (state.group == null || (one.groups || []).includes(state.group));

  const wanted = () => {
    const { value } = columns[state.column];
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return all.filter(isWanted).sort((a, b) => state.way * compare(value(a), value(b)) || a.at - b.at);
  };

  const row = (one) => {
    const isOpen = state.open.has(one.at);
    const toggle = el("button", {
      type: "button", class: "case", id: `case-${one.at}`, "aria-expanded": isOpen,
      "aria-controls": isOpen ? `detail-${one.at}` : null,
      on: { click: () => { isOpen ? state.open.delete(one.at) : state.open.add(one.at); draw(); byId(`case-${one.at}`).focus(); } },
    }, one.name);
    const verdict = one.expected ? `${one.verdict}, ${one.expected}` : one.verdict;
    const colour = one.mark === "ok" ? "clean" : one.mark === "red" ? "leak" : "unknown";
    const line = el("tr", {},
      el("th", { scope: "row" }, toggle, one.said && el("span", { class: "wrong" }, one.said)),
      el("td", { class: `verdict-of ${colour}` }, verdict),
      el("td", { class: "wide" }, (one.kinds || []).join(", ")),
      el("td", { class: "number wide" }, duration(one.took)),
      el("td", { class: "number" }, one.end ? duration(one.end[1]) : ""));
    if (!isOpen) return [line];
    const inside = el("td", { colspan: columns.length });
    queueMicrotask(() => inside.append(...detail(one, inside)));
    return [line, el("tr", { class: "detail", id: `detail-${one.at}` }, inside)];
  };

  const draw = () => {
    const rows = wanted();
    body.replaceChildren(...rows.slice(0, state.shown).flatMap(row));
    byId("filter-count").textContent = rows.length === all.length ? `${all.length} cases` : `${rows.length} of ${all.length} cases`;
    const more = byId("more");
    more.hidden = rows.length <= state.shown;
    more.replaceChildren(el("button", { type: "button", on: { click: () => { state.shown += 5 * PAGE; draw(); } } },
      `Show more (${Math.max(0, rows.length - state.shown)} left)`));
    const only = byId("filter-group");
    only.hidden = state.group == null;
    const cause = state.group == null ? null : document.querySelector(`#finding-${state.group} .title`);
    only.textContent = cause ? `Only: ${cut(cause.textContent, 260)} ✕` : "";
    table.querySelectorAll("thead th").forEach((head, at) => {
      if (at === state.column) head.setAttribute("aria-sort", state.way < 0 ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
      head.querySelector("span").textContent = at === state.column ? (state.way < 0 ? " ↓" : " ↑") : "";
    });
  };

  const narrow = (change) => { Object.assign(state, change, { shown: PAGE }); draw(); };
  const sortBy = (at) => narrow({
    way: at === state.column ? -state.way : columns[at].first || 1, column: at,
  });
  const options = (select, name, counts) => {
    const option = ([value, number]) => el("option", { value }, `${value === "red" ? "all that is red" : value} (${number})`);
    select.append(el("option", { value: "" }, `all ${name}`), ...[...counts].map(option));
  };
  const tally = (lists) => {
    const counts = new Map();
    for (const list of lists) for (const value of list) counts.set(value, (counts.get(value) || 0) + 1);
    return new Map([...counts].sort());
  };

  const start = () => {
    if (!all.length) return;
    table.append(
      el("thead", {}, el("tr", {}, columns.map((column, at) =>
        el("th", { scope: "col", class: `${column.number ? "number" : ""} ${column.wide ? "wide" : ""}`.trim() || null },
          el("button", { type: "button", on: { click: () => sortBy(at) } }, column.name, el("span", { "aria-hidden": "true" })))))),
      body);
    table.setAttribute("aria-label", "Cases");
    const red = all.filter((one) => one.mark !== "ok").length;
    options(byId("filter-verdict"), "verdicts", [...(red ? [["red", red]] : []), ...tally(all.map((one) => [one.verdict]))]);
    options(byId("filter-kind"), "kinds", tally(all.map((one) => one.kinds || [])));
    byId("filter-text").addEventListener("input", (event) => narrow({ text: event.target.value.trim().toLowerCase() }));
    byId("filter-verdict").addEventListener("change", (event) => narrow({ verdict: event.target.value }));
    byId("filter-kind").addEventListener("change", (event) => narrow({ kind: event.target.value }));
    byId("filter-group").addEventListener("click", () => { narrow({ group: null }); byId("filter-text").focus(); });
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    for (const button of document.querySelectorAll("button.only")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        clear({ group: Number(button.dataset.group) });
        byId("cases").scrollIntoView();
        byId("filter-group").focus();
      });
    }
    byId("filters").hidden = table.hidden = false;
    draw();
    ends();
    addEventListener("hashchange", follow);
    follow();
  };
  const clear = (change) => {
    for (const id of ["filter-text", "filter-verdict", "filter-kind"]) byId(id).value = "";
    narrow({ text: "", verdict: "", kind: "", group: null, ...change });
  };

  // A link to a case opens it.
  const follow = () => {
    if (!location.hash.startsWith("#case=")) return;
    let id = location.hash.slice("#case=".length);
    try { id = decodeURIComponent(id); } catch { /* It was not encoded. */ }
    const one = all.find((other) => other.name === id);
    if (!one) return;
    state.open.add(one.at);
    if (isWanted(one)) draw(); else clear({});
    const at = wanted().indexOf(one);
    if (at >= state.shown) { state.shown = at + 1; draw(); }
    byId(`case-${one.at}`).scrollIntoView();
    byId(`case-${one.at}`).focus({ preventScroll: true });
  };

  // What opens below a case.
  const pairs = (list) => el("dl", {}, list.filter(([, said]) => said != null && said !== "")
    .flatMap(([name, said]) => [el("dt", {}, name), el("dd", {}, said)]));
  const lines = (numbers) => el("ul", {}, numbers.map((number) => el("li", {}, word(number))));

  const detail = (one, inside) => {
    const { more } = one;
    if (!more) return [el("p", { class: "quiet" }, "The rest of this case is in the JSON report.")];
    const room = Math.max(300, inside.clientWidth - 32);
    const parts = [el("p", {}, word(more.why))];
    if (more.steps.length) parts.push(timeline(more, room));
    if (more.growth) parts.push(growth(more));
    for (const found of more.findings || []) parts.push(finding(found));
    if (more.failure) {
      const [at, message, output] = more.failure;
      parts.push(el("h3", { class: "failed" }, `Failed at ${word(at)}`), el("p", {}, word(message)));
      if (output.length) parts.push(el("pre", {}, output.map(word).join("\n")));
    }
    for (const [name, list] of [["Not as expected", more.unmet], ["Could not be looked at", more.unreadable], ["Notes", more.notes]]) {
      if (list) parts.push(el("h3", {}, name), lines(list));
    }
    parts.push(el("h3", {}, "Steps and figures"), steps(more), pairs([
      ...(more.figures || []).map(([name, value]) => [word(name).replace(/_ms$/, "").replaceAll("_", " "),
        word(name).endsWith("_ms") ? duration(value) : String(value)]),
      ["ended by", one.end && `${word(one.end[0])}, after ${duration(one.end[1])}`],
      ["file", more.file == null ? null : word(more.file)], ["era", word(more.era)], ["containment", more.tier], ["cycles", more.cycles || null],
      ["repeat", el("code", {}, word(more.repeat).replace("\u0001", one.name))]]));
    return parts;
  };

  const finding = (found) => el("div", { class: `finding ${found.class === "leak" ? "red" : "amber"}` },
    el("span", { class: "tag" }, `${found.class}.${found.kind}`), el("span", { class: "title" }, word(found.title)),
    found.evidence && el("pre", {}, found.evidence.map(word).join("\n")),
    pairs([["born", word(found.born)], ["due", word(found.due)], ["culprit", word(found.culprit)],
      ["held by", found.holders && lines(found.holders)], ["help", word(found.help)],
      ["rule", found.rule == null ? null : word(found.rule)], ["made at", found.site == null ? null : word(found.site)],
      ["known", found.known == null ? null : `accepted because: ${word(found.known)}`]]));

  const steps = (more) => el("div", { class: "scroll" }, el("table", { class: "steps" },
    el("thead", {}, el("tr", {}, ["Step", "", "Began", "Took"].map((name, at) => el("th", { scope: "col", class: at > 1 && "number" }, name)))),
    el("tbody", {}, more.steps.map(([place, name, from, took]) => el("tr", {},
      el("td", {}, word(place)), el("th", { scope: "row" }, word(name)),
      el("td", { class: "number" }, duration(from)), el("td", { class: "number" }, duration(took)))))));

  // Steps along the time, and above them a bar for each life.
  const OFF = 26;
  const scale = (list, end, room, isTrue) => {
    const least = isTrue ? 0 : Math.min(88, (room - OFF) / (1.5 * list.length));
    const pieces = [];
    let now = 0;
    const spans = [];
    for (const [, , from, took] of list) {
      if (from > now) pieces.push([now, from, 0]);
      now = Math.max(now, from);
      spans.push(pieces.push([now, Math.max(now, from + took), least]) - 1);
      now = Math.max(now, from + took);
    }
    if (end > now) pieces.push([now, end, 0]);
    const left = room - OFF - pieces.reduce((sum, piece) => sum + piece[2], 0);
    const whole = Math.max(end, now, 0.1);
    let x = 0;
    for (const piece of pieces) {
      piece.push(x);
      x += piece[2] + (left * (piece[1] - piece[0])) / whole;
      piece.push(x);
    }
    // Where two pieces meet, the one that ends there or the one that begins.
    const place = (ms, isEnd) => {
      const hit = pieces.filter(([from, to]) => from <= ms && ms <= to);
      const piece = isEnd ? hit[0] : hit[hit.length - 1];
      if (!piece) return x;
      const [from, to, , left, right] = piece;
      return to > from ? left + ((right - left) * (ms - from)) / (to - from) : isEnd ? right : left;
    };
    return [place, spans.map((at) => pieces[at].slice(3))];
  };

  const timeline = (more, room) => {
    const FEW = 24;
    const mode = { isTrue: false, isWhole: more.bars.length <= FEW + 4 };
    const box = el("div");
    const press = (name, label) => {
      const button = el("button", { type: "button", "aria-pressed": mode[name], on: { click: () => {
        mode[name] = !mode[name];
        button.setAttribute("aria-pressed", mode[name]);
        render();
      } } }, label);
      return button;
    };
    const render = () => box.replaceChildren(picture(more, room, mode.isTrue, mode.isWhole ? more.bars : more.bars.slice(0, FEW)));
    const tools = el("div", { class: "tools" }, press("isTrue", "true to time"),
      !mode.isWhole && [" ", press("isWhole", `all ${more.bars.length} bars`)]);
    render();
    return el("div", {}, tools, el("h3", {}, "Timeline"), box,
      more.unseen ? el("p", { class: "quiet" }, `${more.unseen} more things came and went.`) : null);
  };

  const picture = (more, room, isTrue, bars) => {
    const list = more.steps.filter(([place]) => !word(place).includes("."));
    const [x, spans] = scale(list, more.end, room, isTrue);
    const edge = room - OFF;
    const marks = [];
    const rules = [];
    let y = 2;
    const held = new Set();
    for (const [number, from, to, at] of bars) {
      const found = at < 0 ? null : (more.findings || [])[at];
      const colour = at < 0 ? "" : found && found.class !== "leak" ? "odd" : "bad";
      const begin = Math.min(x(from, true), edge - 4);
      const stop = to < 0 ? edge : Math.max(x(to, true), begin + 3);
      const label = word(number);
      const isLate = begin > room / 2;
      const say = (text, top, style) => svg("text", { x: isLate ? Math.min(room, stop) : begin, y: top, class: style, "text-anchor": isLate ? "end" : "start" },
        cut(text, isLate ? Math.min(room, stop) : room - begin));
      const group = svg("g", {}, svg("title", {}, label), say(label, y + 11, colour));
      const piece = (left, right, style) =>
        group.append(svg("rect", { x: left, y: y + 15, width: Math.max(0, right - left), height: 6, class: `bar ${style}` }));
      if (colour) {
        // Until it was due it had a right to be there.
        const due = found ? Math.max(begin, Math.min(x(found.due_ms), edge)) : begin;
        piece(begin, due, `${colour} pale`);
        piece(due, edge, colour);
        group.append(svg("path", { d: `M${edge} ${y + 15}h12v-3l8 6-8 6v-3h-12z`, class: `bar ${colour}` }));
        if (found) group.append(svg("line", { x1: due, x2: due, y1: y + 12, y2: y + 24, class: "due" }, svg("title", {}, `due at ${word(found.due)}`)));
      } else piece(begin, stop, "");
      y += 25;
      if (found && found.holders && !held.has(at)) {
        held.add(at);
        group.append(say(`held by ${found.holders.map(word).join("; ")}`, y + 9, "dim"));
        y += 14;
      }
      marks.push(group);
    }
    y += 6;
    for (const [at, [place, name, from, took]] of list.entries()) {
      const [left, right] = [spans[at][0], Math.max(spans[at][1], spans[at][0] + 1)];
      rules.push(svg("line", { x1: left, x2: left, y1: 0, y2: y, class: "rule" }));
      const title = word(place) === "end" ? "end" : `${word(place)} ${word(name)}`;
      marks.push(svg("g", {}, svg("title", {}, `${title}: from ${duration(from)}, ${duration(took)}`),
        svg("rect", { x: left, y, width: right - left, height: 20, class: "step" }),
        svg("text", { x: left + 4, y: y + 14 }, cut(title, right - left - 4)),
        svg("text", { x: left + 2, y: y + 33, class: "dim" }, cut(duration(from), right - left - 2))));
    }
    const leaked = bars.filter((bar) => bar[3] >= 0).length;
    return svg("svg", { class: "timeline", width: room, height: y + 40, viewBox: `0 0 ${room} ${y + 40}`, role: "img",
      "aria-label": `${list.length} steps in ${duration(more.end)}, ${bars.length} lives, ${leaked} of them left behind` }, rules, marks);
  };

  // How many there were after each cycle.
  const amount = (kind, number) =>
    kind !== "memory" ? String(number) : number < 1024 ? `${number} KiB` : `${(number / 1024).toFixed(1)} MiB`;
  const growth = (more) => {
    const isFlat = ([, , points]) => points.every(([, number]) => number === points[0][1]);
    const flat = more.growth.filter(isFlat).map(([kind, , points]) => `${kind} ${amount(kind, points[0][1])}`);
    const plot = ([kind, place, points]) => {
      const [width, height] = [260, 96];
      const cycles = points.map((point) => point[0]);
      const numbers = points.map((point) => point[1]);
      const [first, last] = [cycles[0], cycles[cycles.length - 1]];
      const most = Math.max(...numbers);
      const least = Math.min(...numbers);
      const at = ([cycle, number]) =>
        `${(2 + ((width - 4) * (cycle - first)) / Math.max(1, last - first)).toFixed(1)},${(height - 18 - ((height - 34) * (number - least)) / Math.max(1, most - least)).toFixed(1)}`;
      const said = `${kind}: ${amount(kind, numbers[0])} after cycle ${first}, ${amount(kind, numbers[numbers.length - 1])} after ${last}`;
      return el("figure", {}, svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said },
        [16, height - 18].map((y) => svg("line", { x1: 0, x2: width, y1: y, y2: y, class: "rule" })),
        svg("text", { x: 2, y: 11, class: "dim" }, amount(kind, most)),
        svg("text", { x: 2, y: height - 5, class: "dim" }, amount(kind, least)),
        svg("text", { x: width, y: height - 5, class: "dim", "text-anchor": "end" }, `cycle ${last}`),
        svg("polyline", { points: points.map(at).join(" "), class: "curve" })),
        el("figcaption", {}, said, el("br"), `step ${word(place)}`));
    };
    return el("div", {}, el("h3", {}, "Alive after each cycle"),
      el("div", { class: "plots" }, more.growth.filter((one) => !isFlat(one)).map(plot)),
      flat.length ? el("p", { class: "quiet" }, `the same after every cycle: ${flat.join(", ")}`) : null);
  };

  // How long ends took, by what ended them.
  const ends = () => {
    const ROWS = 14;
    const DOTS = 300;
    const rungs = new Map();
    for (const one of all) {
      if (!one.end) continue;
      const name = word(one.end[0]);
      rungs.set(name, [...(rungs.get(name) || []), one]);
    }
    const rows = [...rungs].sort((a, b) => b[1].length - a[1].length).slice(0, ROWS);
    if (!rows.length) return;
    byId("teardown").hidden = false;
    const box = byId("teardown-plot");
    const width = Math.max(300, box.clientWidth);
    const values = rows.flatMap(([, list]) => list.map((one) => Math.max(0.1, one.end[1])));
    const low = Math.floor(Math.log10(values.reduce((a, b) => Math.min(a, b))));
    const high = Math.max(low + 1, Math.ceil(Math.log10(values.reduce((a, b) => Math.max(a, b)))));
    const x = (ms) => 8 + ((width - 16) * (Math.log10(Math.max(0.1, ms)) - low)) / (high - low);
    const parts = [];
    const bottom = rows.length * 44 + 6;
    for (let power = low; power <= high; power += 1) {
      parts.push(svg("line", { x1: x(10 ** power), x2: x(10 ** power), y1: 0, y2: bottom, class: "rule" }),
        svg("text", { x: x(10 ** power), y: bottom + 14, class: "dim", "text-anchor": power === low ? "start" : power === high ? "end" : "middle" },
          duration(10 ** power)));
    }
    rows.forEach(([name, list], at) => {
      const y = at * 44;
      const sorted = [...list].sort((a, b) => a.end[1] - b.end[1]);
      const median = sorted[Math.floor((sorted.length - 1) / 2)].end[1];
      const slowest = sorted[sorted.length - 1].end[1];
      const count = sorted.length === 1 ? "1 case" : `${sorted.length} cases, median ${duration(median)}`;
      parts.push(svg("text", { x: 0, y: y + 14 }, cut(`${name} — ${count}, slowest ${duration(slowest)}`, width)));
      const stride = Math.max(1, sorted.length / DOTS);
      for (let n = 0; n < sorted.length; n += stride) {
        const one = sorted[sorted.length - 1 - Math.floor(n)];
        parts.push(svg("circle", { cx: x(one.end[1]), cy: y + 27 + ((one.at * 7) % 9) - 4, r: 3.5, class: `dot ${one.mark === "ok" ? "" : "bad"}` },
          svg("title", {}, `${one.name}: ${duration(one.end[1])}`)));
      }
      parts.push(svg("line", { x1: x(median), x2: x(median), y1: y + 19, y2: y + 35, class: "median" }));
    });
    box.append(svg("svg", { width, height: bottom + 20, viewBox: `0 0 ${width} ${bottom + 20}`, role: "img",
      "aria-label": `How long ends took, by ${rows.length} rungs` }, parts));
    if (rungs.size > ROWS) box.append(el("p", { class: "quiet" }, `and ${rungs.size - ROWS} more`));
  };

  start();
})();
