// The status page: asks for status.json every two seconds, and draws what has changed since. Names come from files and
// requests, so they are only ever set as text.
"use strict";

const EVERY = 2000; // milliseconds between two questions
const KEPT = 300; // answers: ten minutes
const SHORTEST = 60; // seconds that a chart shows at least
const CHARTS = [
  // title, unit, [what of each interval, its name]
  ["Requests", "/s", [["ok", "OK"], ["failed", "other"]]],
  ["Latency", "ms", [["p50", "p50"], ["p99", "p99"]]],
  ["Candidates", "/s", [["candidates", ""]]],
  ["Waiting", "ms", [["queue", "of work"]]],
  ["Refused at admission", "/s", [["refused", ""]]],
  ["Exposures not logged", "/s", [["dropped", ""]]],
];
const answers = []; // totals of the last KEPT answers

const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });
const share = (part, whole) => (whole ? `${number((100 * part) / whole, 2)} %` : "");
const samples = (status, name) => status.metrics.filter((sample) => sample.name === `scorer_${name}`);
const total = (found) => found.reduce((sum, sample) => sum + sample.value, 0);
const element = (name, text = "", className = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};

function totals(status) {
  const requests = samples(status, "requests_total");
  const buckets = new Map();
  for (const { labels, value } of samples(status, "request_seconds_bucket")) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + value);
  }
  return {
    at: status.now,
    ok: total(requests.filter((sample) => sample.labels.code === "OK")),
    failed: total(requests.filter((sample) => sample.labels.code !== "OK")),
    candidates: total(samples(status, "candidates_total")),
    refused: total(samples(status, "rejected_total")),
    dropped: total(samples(status, "exposures_dropped_total")),
    queue: total(samples(status, "queue_milliseconds")),
    buckets,
  };
}

// The quantile of what came between two answers, in milliseconds: linear inside a bucket, as Prometheus has it.
function quantile(before, after, q) {
  const bounds = [...after.buckets.keys()].sort((a, b) => a - b);
  const up_to = bounds.map((bound) => after.buckets.get(bound) - (before.buckets.get(bound) ?? 0));
  const all = up_to.at(-1) ?? 0;
  if (all <= 0) return null;
  const i = up_to.findIndex((count) => count >= q * all);
  const low = i > 0 ? bounds[i - 1] : 0;
  if (bounds[i] === Infinity) return 1000 * low;
  const below = i > 0 ? up_to[i - 1] : 0;
  return 1000 * (low + ((bounds[i] - low) * (q * all - below)) / (up_to[i] - below));
}

function intervals() {
  return answers.slice(1).map((after, i) => {
    const before = answers[i];
    const seconds = Math.max(after.at - before.at, 1e-3);
    const rate = (name) => Math.max(0, after[name] - before[name]) / seconds;
    const rates = Object.fromEntries(["ok", "failed", "candidates", "refused", "dropped"].map((n) => [n, rate(n)]));
    const [p50, p99] = [0.5, 0.99].map((q) => quantile(before, after, q));
    return { at: after.at, queue: after.queue, p50, p99, ...rates };
  });
}

function chart([title, unit, lines], past) {
  const figure = element("figure");
  const caption = element("figcaption");
  caption.append(element("b", `${title}, ${unit}`));
  const values = lines.flatMap(([what]) => past.map((one) => one[what]).filter((value) => value !== null));
  const top = Math.max(...values, 0) || 1;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  for (const y of [1, 50, 99]) {
    const line = document.createElementNS(svg.namespaceURI, "line");
    Object.entries({ x1: 0, x2: 100, y1: y, y2: y }).forEach(([key, value]) => line.setAttribute(key, value));
    svg.append(line);
  }
  const end = past.at(-1)?.at ?? 0;
  const span = Math.max(SHORTEST, end - (past.at(0)?.at ?? end));
  lines.forEach(([what, name], i) => {
    const className = i ? "second" : "first";
    const points = past.filter((one) => one[what] !== null);
    const drawn = document.createElementNS(svg.namespaceURI, "polyline");
    const place = (one) => `${100 - (100 * (end - one.at)) / span},${99 - (98 * one[what]) / top}`;
    drawn.setAttribute("points", points.map(place).join(" "));
    drawn.setAttribute("class", className);
    svg.append(drawn);
    const last = points.at(-1);
    caption.append(element("span", `${name} ${last ? number(last[what], 1) : "–"}`.trim(), className));
  });
  svg.setAttribute("aria-label", caption.textContent);
  const ends = element("div", "", "ends");
  ends.append(element("span", `${number(span / 60, 1)} min ago`), element("span", `up to ${number(top, 1)}`), element("span", "now"));
  figure.append(caption, svg, ends);
  return figure;
}

// head: names of columns, those of numbers begin with #. rows: of texts; one that begins with ! is bad.
function table(id, head, rows, nothing) {
  const is_number = head.map((name) => name.startsWith("#"));
  const top = element("tr");
  head.forEach((name, i) => top.append(element("th", name.replace("#", ""), is_number[i] ? "number" : "")));
  const body = rows.map((cells) => {
    const row = element("tr");
    cells.forEach((cell, i) => {
      const text = String(cell);
      const bad = text.startsWith("!") && !is_number[i];
      row.append(element("td", bad ? text.slice(1) : text, is_number[i] ? "number" : bad ? "bad" : ""));
    });
    return row;
  });
  if (!rows.length) {
    const row = element("tr");
    row.append(element("td", nothing, "nothing"));
    body.push(row);
  }
  document.getElementById(id).replaceChildren(...(rows.length ? [top] : []), ...body);
}

function grouped(found, names) {
  const groups = new Map();
  for (const sample of found) {
    const key = JSON.stringify(names.map((name) => sample.labels[name] ?? ""));
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  return [...groups].map(([key, group]) => [JSON.parse(key), group]);
}

function tables(status) {
  const of_package = ["model", "version"];
  const requests = samples(status, "requests_total").filter((sample) => sample.value > 0);
  table(
    "requests",
    ["scenario", "model", "version", "#OK", "#other", "codes"],
    grouped(requests, ["scenario", ...of_package]).map(([labels, group]) => {
      const ok = total(group.filter((sample) => sample.labels.code === "OK"));
      const others = group.filter((sample) => sample.labels.code !== "OK");
      const codes = others.map((sample) => `${sample.labels.code} ${number(sample.value)}`).join(", ");
      return [...labels, number(ok), number(total(others)), codes];
    }),
    "none yet",
  );
  table(
    "packages",
    ["model", "version", "labels", "#candidates"],
    status.packages.map(({ model, version, labels }) => {
      const mine = (sample) => sample.labels.model === model && sample.labels.version === version;
      return [model, version, labels.join(", "), number(total(samples(status, "candidates_total").filter(mine)))];
    }),
    "none is loaded yet",
  );
  table(
    "experiments",
    ["experiment", "layer", "variant", "sets", "buckets", "#answers"],
    status.experiments.map(({ experiment, layer, variant, sets, buckets }) => {
      const mine = (sample) => sample.labels.experiment === experiment && sample.labels.variant === variant;
      const answered = total(samples(status, "assignments_total").filter(mine));
      return [experiment, layer, variant, sets, buckets, number(answered)];
    }),
    "no experiments file is served",
  );
  table("routes", ["scenario", "route"], status.routes.map(({ scenario, route }) => [scenario, route]), "");
  const unknown = grouped(samples(status, "oov_ids_total"), [...of_package, "feature"]);
  const looked_up = new Map(grouped(samples(status, "ids_total"), [...of_package, "feature"]).map(([k, g]) => [k.join("\n"), total(g)]));
  table(
    "unknown",
    ["model", "version", "feature", "#ids", "#unknown", "#share"],
    unknown.map(([labels, group]) => {
      const ids = looked_up.get(labels.join("\n")) ?? 0;
      return [...labels, number(ids), number(total(group)), share(total(group), ids)];
    }),
    "nothing was looked up yet",
  );
  table(
    "changes",
    ["when", "by", "result", "stage", "#seconds", "reason"],
    status.changes.map((one) => {
      const result = one.result === "refused" ? "!refused" : one.result;
      return [new Date(one.at * 1000).toLocaleString(), one.by, result, one.stage, number(one.seconds, 1), one.reason];
    }),
    "none yet",
  );
}

function summary(status) {
  const hours = (status.now - status.started) / 3600;
  const since = hours < 1 ? `${number(hours * 60)} min` : `${number(hours, 1)} h`;
  const restarts = Object.entries(status.restarts).map(([cause, times]) => `${times} by ${cause}`);
  const ended = restarts.length ? `; workers that ended unasked: ${restarts.join(", ")}` : "";
  const changing = status.changing ? "; a change is being made" : "";
  return `${status.workers.serving} of ${status.workers.wanted} workers serve, up ${since}${ended}${changing}`;
}

async function ask() {
  const trouble = document.getElementById("trouble");
  try {
    const answer = await fetch("status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(`status.json: ${answer.status}`);
    const status = await answer.json();
    answers.push(totals(status));
    answers.splice(0, answers.length - KEPT - 1);
    document.getElementById("summary").textContent = summary(status);
    const past = intervals();
    document.getElementById("charts").replaceChildren(...CHARTS.map((one) => chart(one, past)));
    tables(status);
    trouble.hidden = true;
    document.body.dataset.asked = answers.length;
  } catch (failure) {
    trouble.textContent = `The server does not answer (${failure.message}); what is below was so at ${
      answers.length ? new Date(answers.at(-1).at * 1000).toLocaleTimeString() : "no time yet"
    }.`;
    trouble.hidden = false;
  }
  setTimeout(ask, EVERY);
}

ask();
