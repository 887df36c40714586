// Draws a load's curves from the JSON inside the page. Text enters through textContent only.
"use strict";
(() => {
  const L = JSON.parse(document.getElementById("load").textContent);
  const root = document.getElementById("figures");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const sig = (v) => (v === null || v === undefined ? "–" : v === 0 ? "0" : Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(+Number(v).toPrecision(3)));
  const palette = () => [css("--candidate"), css("--open"), css("--good"), css("--bad"), css("--reference")];

  function h(tag, attributes, ...children) {
    const e = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) e.setAttribute(key, value);
    for (const child of children.flat()) e.append(child instanceof Node ? child : String(child));
    return e;
  }
  const charts = [];
  function chart(title, config, wide) {
    const canvas = h("canvas", { role: "img", "aria-label": title });
    charts.push([canvas, config]);
    return h("div", { class: wide ? "card wide" : "card" }, h("h3", {}, title), h("div", { class: "chart" }, canvas));
  }
  const section = (title, note, ...cards) => {
    root.append(h("h2", {}, title));
    if (note) root.append(h("p", { class: "note" }, note));
    root.append(h("div", { class: "grid" }, cards.filter(Boolean)));
  };
  const line = (label, points, color, extra = {}) => ({ label, data: points, borderColor: color, backgroundColor: color, pointRadius: points.length < 2 ? 3 : 0, borderWidth: 2, ...extra });
  const axis = (title, extra = {}) => ({ title: { display: !!title, text: title, color: css("--soft") }, grid: { color: css("--line") }, ...extra, ticks: { color: css("--soft"), ...(extra.ticks || {}) } });
  const options = (x, y, legend = true) => ({ animation: false, responsive: true, maintainAspectRatio: false, parsing: false, scales: { x, y }, interaction: { mode: "nearest", axis: "x", intersect: false },
    plugins: { legend: { display: legend, labels: { color: css("--ink"), usePointStyle: true, pointStyle: "line", boxWidth: 28 } } } });

  const last = () => L.levels[L.levels.length - 1];
  const fit = (v) => +v.toPrecision(6);
  const timeUnit = (seconds) => (seconds > 7200 ? ["hours", 3600] : seconds > 300 ? ["minutes", 60] : ["seconds", 1]);

  function tiles() {
    const r = last(), peak = Math.max(0, ...r.series.map((p) => p.server_rss_mib)), tile = [];
    tile.push(["Throughput", sig(r.throughput_per_s) + " /s", r.rate > 0 ? `${sig(r.offered_per_s)} /s offered` : r.mode]);
    tile.push(["Median latency", sig(r.latency.p50_ms) + " ms", `p95 ${sig(r.latency.p95_ms)} ms`]);
    tile.push(["p99 latency", sig(r.latency.p99_ms) + " ms", `p99.9 ${sig(r.latency.p999_ms)} ms`]);
    tile.push(["Errors", sig(100 * r.error_rate) + " %", `of ${r.requests.toLocaleString("en")} requests`]);
    tile.push(["Generator", r.kept_up ? "kept up" : "fell behind", `${r.late_starts.toLocaleString("en")} late, ${r.unsent.toLocaleString("en")} unsent`]);
    if (peak > 0) tile.push(["Server's memory", sig(peak) + " MiB", "at most, resident"]);
    root.append(h("div", { class: "tiles" }, tile.map(([t, v, s]) => h("div", { class: "tile" }, h("small", {}, t), h("b", {}, v), h("small", {}, s)))));
  }

  function byTime() {
    const r = last();
    if (!r.series.length) return;
    const [unit, divisor] = timeUnit(r.seconds);
    const of = (key) => r.series.map((p) => ({ x: p.t_s / divisor, y: p[key] }));
    const x = () => axis(unit, { type: "linear", min: 0, max: fit(r.series[r.series.length - 1].t_s / divisor) });
    const failing = r.series.some((p) => p.errors > 0), seen = r.series.filter((p) => p.server_rss_mib > 0);
    const throughput = [line("good responses /s", of("throughput_per_s"), css("--candidate"))];
    if (failing) throughput.push(line("errors /s", r.series.map((p) => ({ x: p.t_s / divisor, y: p.errors / r.point_seconds })), css("--bad")));
    const cards = [
      chart("Throughput, per second", { type: "line", data: { datasets: throughput }, options: options(x(), axis("", { beginAtZero: true }), failing) }),
      chart("Latency, ms", { type: "line", data: { datasets: [line("p50", of("p50_ms"), css("--candidate")), line("p99", of("p99_ms"), css("--open"))] }, options: options(x(), axis("", { beginAtZero: true })) })];
    if (seen.length) {
      const memory = [line("resident", seen.map((p) => ({ x: p.t_s / divisor, y: p.server_rss_mib })), css("--candidate"))];
      const t = L.soak && L.soak.memory_mib;
      if (t && t.points > 3 && t.intercept !== null) {
        const end = r.series[r.series.length - 1].t_s;
        memory.push(line(`trend ${sig(t.slope_per_hour)} MiB/h`, [L.soak.settled_s, end].map((s) => ({ x: s / divisor, y: t.intercept + (t.slope_per_hour * s) / 3600 })), css("--bad"), { borderDash: [6, 4] }));
      }
      const values = seen.map((p) => p.server_rss_mib), low = Math.min(...values), high = Math.max(...values), margin = Math.max(1, high - low);
      cards.push(chart("Server's CPU, cores", { type: "line", data: { datasets: [line("cores", seen.map((p) => ({ x: p.t_s / divisor, y: p.server_cpu_cores })), css("--candidate"))] }, options: options(x(), axis("", { beginAtZero: true }), false) }),
        chart("Server's memory, MiB", { type: "line", data: { datasets: memory }, options: options(x(), axis("", { suggestedMin: Math.max(0, low - margin), suggestedMax: high + margin }), memory.length > 1) }));
    }
    section(L.levels.length > 1 ? `By time: ${r.mode}` : "By time", r.point_seconds > 1 ? `A point is ${r.point_seconds} seconds.` : "", ...cards);
  }

  function byPercentile() {
    const x = (q) => Math.log10(1 / (1 - q)), colors = palette();
    const datasets = [];
    L.levels.forEach((r, i) => {
      const name = L.levels.length > 1 ? r.mode : r.rate > 0 ? "from when it was due" : "latency";
      datasets.push(line(name, r.latency.percentiles.map(([q, ms]) => ({ x: x(q), y: ms })), colors[i % colors.length]));
      if (r.rate > 0 && L.levels.length === 1) datasets.push(line("from the send", r.service.percentiles.map(([q, ms]) => ({ x: x(q), y: ms })), css("--reference"), { borderDash: [6, 4] }));
    });
    const end = Math.max(1, ...datasets.flatMap((d) => d.data.map((p) => p.x)));
    const ticks = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999].filter((q) => x(q) <= end + 0.01);
    const config = { type: "line", data: { datasets }, options: options(axis("percentile", { type: "linear", min: 0, max: end,
      afterBuildTicks: (a) => { a.ticks = ticks.map((q) => ({ value: x(q) })); }, ticks: { autoSkip: false, callback: (v) => sig(100 * (1 - 10 ** -v)) === "0" ? "0" : String(+(100 * (1 - 10 ** -v)).toFixed(4)) } }),
      axis("ms", { beginAtZero: true }), datasets.length > 1) };
    section("Latency by percentile", "", chart("Latency, ms, up to the given percentage of the requests", config, true));
  }

  function levels() {
    if (L.levels.length < 2) return;
    const xs = L.levels.map((r) => (r.rate > 0 ? r.rate : r.concurrency)), label = L.levels[0].rate > 0 ? "rate, /s" : "concurrency";
    const of = (pick) => L.levels.map((r, i) => ({ x: xs[i], y: pick(r) })), x = () => axis(label, { type: "linear" });
    const dots = { pointRadius: 4 };
    section("By level", "",
      chart("Throughput, per second", { type: "line", data: { datasets: [line("throughput", of((r) => r.throughput_per_s), css("--candidate"), dots)] }, options: options(x(), axis("", { beginAtZero: true }), false) }),
      chart("Latency, ms", { type: "line", data: { datasets: [line("p50", of((r) => r.latency.p50_ms), css("--candidate"), dots), line("p99", of((r) => r.latency.p99_ms), css("--open"), dots)] }, options: options(x(), axis("", { beginAtZero: true })) }));
  }

  function figures() {
    const head = ["load", "requests", "/s", "mean", "p50", "p95", "p99", "p99.9", "max", "errors", "late"];
    const rows = L.levels.map((r) => [r.mode, r.requests.toLocaleString("en"), sig(r.throughput_per_s), ...["mean_ms", "p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms"].map((k) => sig(r.latency[k])),
      Object.values(r.errors).reduce((a, b) => a + b, 0).toLocaleString("en"), (r.late_starts + r.unsent).toLocaleString("en")]);
    const cells = (tag, row) => h("tr", {}, row.map((cell, i) => h(tag, i ? { class: "n" } : {}, cell)));
    const cards = [h("div", { class: "card wide scroll" }, h("h3", {}, "Latency in ms"), h("table", {}, h("thead", {}, cells("th", head)), h("tbody", {}, rows.map((row) => cells("td", row)))))];
    const errors = L.levels.flatMap((r) => Object.entries(r.errors).map(([kind, count]) => [count.toLocaleString("en"), kind, r.error_texts[kind] || ""]));
    if (errors.length) cards.push(h("div", { class: "card wide scroll" }, h("h3", {}, "Errors"), h("table", {}, h("tbody", {}, errors.map(([n, kind, text]) => h("tr", {}, h("td", { class: "n" }, n), h("td", {}, kind), h("td", { class: "soft" }, text)))))));
    if (L.soak) {
      const trends = [["memory, MiB", L.soak.memory_mib], ["p50, ms", L.soak.p50_ms], ["p99, ms", L.soak.p99_ms], ["throughput, /s", L.soak.throughput_per_s]];
      cards.push(h("div", { class: "card wide scroll" }, h("h3", {}, "Trends"),
        h("p", { class: "note" }, `Theil–Sen slopes over ${sig(L.soak.judged_s)} s after ${sig(L.soak.settled_s)} s to settle, with 95 % intervals; p of Mann and Kendall, widened for resemblance between neighbours.`),
        h("table", {}, h("thead", {}, cells("th", ["figure", "per hour", "from", "to", "p", "points"])), h("tbody", {}, trends.map(([name, t]) => cells("td", [name, sig(t.slope_per_hour), sig(t.low), sig(t.high), sig(t.p), t.points]))))));
    }
    section("Figures", "", ...cards);
  }

  let drawn = [];
  function draw() {
    root.textContent = "";
    drawn.forEach((c) => c.destroy());
    charts.length = 0;
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    tiles(); levels(); byTime(); byPercentile(); figures();
    drawn = charts.map(([canvas, config]) => new Chart(canvas, config));
  }
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
