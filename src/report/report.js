// Draws the report's figures from the JSON inside the page. Text enters through textContent only.
"use strict";
(() => {
  const R = JSON.parse(document.getElementById("report").textContent);
  const root = document.getElementById("figures");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const fix = (v, d) => (v === null || v === undefined ? "NaN" : Number(v).toFixed(d));
  const pct = (v, d = 2) => (v === null ? "–" : fix(100 * v, d) + " %");
  const sci = (v) => (v === null ? "NaN" : v === 0 ? "0" : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e5 ? String(+v.toPrecision(4)) : v.toExponential(2));
  const bytes = (v) => (v < 1024 ? v + " B" : v < 1048576 ? fix(v / 1024, 1) + " KiB" : fix(v / 1048576, 2) + " MiB");
  const rate = (v) => (v >= 1000 ? Math.round(v).toLocaleString("en") : fix(v, 1));
  const short = (s, n) => (s.length > n ? "…" + s.slice(1 - n) : s);
  const base = (path) => path.split("/").pop();

  function h(tag, attributes, ...children) {
    const e = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) e.setAttribute(key, value);
    for (const child of children.flat()) e.append(child instanceof Node ? child : String(child));
    return e;
  }
  const table = (head, rows, cls = "") =>
    h("div", { class: "scroll" }, h("table", { class: cls },
      h("thead", {}, h("tr", {}, head.map((t) => h("th", t.startsWith(">") ? { class: "n" } : {}, t.replace(">", ""))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) =>
        h("td", head[i].startsWith(">") ? { class: "n" } : {}, cell)))))));
  const section = (title, note, ...cards) => {
    root.append(h("h2", {}, title));
    if (note) root.append(h("p", { class: "note" }, note));
    root.append(h("div", { class: "grid" }, cards.filter(Boolean)));
  };
  const card = (title, ...body) => h("div", { class: "card" }, h("h3", {}, title), body);
  const wide = (e) => (e.classList.add("wide"), e);

  const charts = [];
  function chart(title, config, height) {
    const canvas = h("canvas", { role: "img", "aria-label": title });
    const box = h("div", { class: "chart" }, canvas);
    if (height) box.style.height = height + "px";
    charts.push([canvas, config]);
    return card(title, box);
  }
  const sides = (a, b) => [
    { label: "original", data: a, backgroundColor: css("--reference"), borderColor: css("--reference") },
    { label: "candidate", data: b, backgroundColor: css("--candidate"), borderColor: css("--candidate") }];
  const axis = (title, extra = {}) => ({ title: { display: !!title, text: title, color: css("--soft") },
    ticks: { color: css("--soft"), ...(extra.ticks || {}) }, grid: { color: css("--line") }, ...Object.fromEntries(Object.entries(extra).filter(([k]) => k !== "ticks")) });
  const options = (x, y, more = {}) => ({ animation: false, responsive: true, maintainAspectRatio: false, scales: { x, y },
    plugins: { legend: { labels: { color: css("--ink"), boxWidth: 12 } }, ...(more.plugins || {}) }, ...Object.fromEntries(Object.entries(more).filter(([k]) => k !== "plugins")) });

  function tiles() {
    const p = R.performance, a = R.accuracy, items = [];
    if (a.classifier) items.push(["Top-1 accuracy", pct(a.candidate.accuracy), `original ${pct(a.reference.accuracy)}`]);
    else if (R.outputs.length) items.push(["Output cosine", fix(R.outputs[0].cosine_mean, 4), `worst sample ${fix(R.outputs[0].cosine_min, 4)}`]);
    items.push(["Median latency", fix(p.candidate.warm.p50_ms, 3) + " ms", `original ${fix(p.reference.warm.p50_ms, 3)} ms · ${p.speedup > 0 ? fix(p.speedup, 2) + "× as fast" : p.speed_note}`]);
    const last = p.throughput[p.throughput.length - 1];
    if (last) items.push([`Throughput, batch ${last.batch}`, rate(last.candidate_per_s) + " /s", `original ${rate(last.reference_per_s)} /s${last.steady ? ` · ${fix(last.candidate_per_s / last.reference_per_s, 2)}×` : ""}`]);
    items.push(["File", bytes(R.candidate.file_bytes), `original ${bytes(R.reference.file_bytes)} · ${pct(R.candidate.file_bytes / R.reference.file_bytes, 1)}`]);
    items.push(["Peak memory", bytes(p.candidate.peak_bytes), `original ${bytes(p.reference.peak_bytes)}`]);
    root.append(h("div", { class: "tiles" }, items.map(([t, v, s]) => h("div", { class: "tile" }, h("small", {}, t), h("b", {}, v), h("small", {}, s)))));
  }

  function heat(title, key, rows) {
    const names = new Map(rows.map((r) => [r.index, r.name])), labels = rows.map((r) => r.index);
    const cells = new Map(R.accuracy.confusion.map((c) => [c.label + "," + c.predicted, c[key]]));
    const support = new Map(rows.map((r) => [r.index, r.support]));
    const body = labels.map((label) => h("tr", {}, h("th", { title: names.get(label) }, short(names.get(label), 14)), labels.map((p) => {
      const n = cells.get(label + "," + p) || 0, share = n / support.get(label);
      const td = h("td", { title: `${names.get(label)} taken for ${names.get(p)}: ${n}` }, n || "·");
      td.style.background = n ? `rgba(var(${label === p ? "--heat" : "--heat-bad"}), ${(label === p ? 0.08 + 0.5 * share : Math.min(0.85, 0.1 + 2.5 * share)).toFixed(3)})` : "";
      if (!n) td.className = "soft";
      return td;
    })));
    return card(title, h("div", { class: "scroll" }, h("table", { class: "heat" },
      h("thead", {}, h("tr", {}, h("th", {}, "true \\ said"), labels.map((l) => h("th", { title: names.get(l) }, names.get(l).slice(0, 5))))), h("tbody", {}, body))));
  }

  function accuracy() {
    const a = R.accuracy;
    const outputs = card("Outputs against the original's", table(["output", ">cosine", ">worst", ">SQNR dB", ">MSE", ">max |Δ|", ">KL", "KL of"],
      R.outputs.map((o) => [h("code", {}, o.name), fix(o.cosine_mean, 5), fix(o.cosine_min, 5), fix(o.sqnr_db, 1), sci(o.mse), sci(o.max_abs), sci(o.kl_mean), o.kl_of])));
    const cases = a.edge_cases.length && a.classifier ? (a.rows.length <= 20 ? wide : (e) => e)(chart("Spoiled samples, top-1 %", { type: "bar",
      data: { labels: ["as they are", ...a.edge_cases.map((e) => `${e.name} (${e.samples})`)],
        datasets: sides([a.reference.accuracy, ...a.edge_cases.map((e) => e.reference_accuracy)].map((v) => 100 * v), [a.candidate.accuracy, ...a.edge_cases.map((e) => e.candidate_accuracy)].map((v) => 100 * v)) },
      options: options(axis(""), axis("top-1 %", { beginAtZero: true, max: 100 })) }, 240)) : null;
    if (!a.classifier) {
      const spoiled = a.edge_cases.length ? card("Spoiled samples", table(["samples with", ">number", ">cosine"], a.edge_cases.map((e) => [e.name, e.samples, fix(e.cosine, 5)]))) : null;
      section("Agreement of the outputs", a.note, wide(outputs), spoiled && wide(spoiled));
      return;
    }
    const note = `${a.samples.toLocaleString("en")} samples. Original ${pct(a.reference.accuracy)} (95 % interval ${pct(a.reference.accuracy_low)} to ${pct(a.reference.accuracy_high)}), candidate ` +
      `${pct(a.candidate.accuracy)} (${pct(a.candidate.accuracy_low)} to ${pct(a.candidate.accuracy_high)}). Same prediction on ${pct(a.agreement)}; right only in the original ${a.only_reference_right}, ` +
      `only in the candidate ${a.only_candidate_right} (McNemar p = ${sci(a.mcnemar_p)}). Macro F1 ${fix(a.reference.macro_f1, 4)} and ${fix(a.candidate.macro_f1, 4)}.`;
    const lost = (r) => r.reference_recall - r.candidate_recall;
    const shown = a.rows.length <= 40 ? a.rows : [...a.rows].sort((x, y) => lost(y) - lost(x)).slice(0, 40);
    const minority = a.rows.filter((r) => r.minority).map((r) => r.name);
    const perClass = wide(chart("Recall per class %" + (shown.length < a.rows.length ? " (the 40 that lost most)" : "") + (minority.length && minority.length < 6 ? `, fewest samples: ${minority.join(", ")}` : ""),
      { type: "bar", data: { labels: shown.map((r) => (r.minority ? "▾ " : "") + short(r.name, 18)), datasets: sides(shown.map((r) => 100 * r.reference_recall), shown.map((r) => 100 * r.candidate_recall)) },
        options: options(axis("", { ticks: { autoSkip: false, maxRotation: 60 } }), axis("recall %", { beginAtZero: true, max: 100 })) }, 320));
    const classes = wide(card("Per class", table(["class", ">samples", ">recall", ">→", ">precision", ">→", ">F1", ">→", ">McNemar p"], shown.map((r) => {
      const d = 100 * lost(r);
      return [r.name + (r.minority ? " (fewest)" : ""), r.support, pct(r.reference_recall, 1), h("span", { class: d > 1 ? "bad" : d < -1 ? "good" : "" }, pct(r.candidate_recall, 1)),
        pct(r.reference_precision, 1), pct(r.candidate_precision, 1), fix(r.reference_f1, 3), fix(r.candidate_f1, 3), sci(r.mcnemar_p)];
    }))));
    const rows = a.rows.length <= 20 ? a.rows : null;
    const top = rows ? null : card("Most frequent confusions", table(["true", "said", ">original", ">candidate"], a.confusion.filter((c) => c.label !== c.predicted)
      .sort((x, y) => y.candidate - x.candidate).slice(0, 20).map((c) => [String(c.label), String(c.predicted), c.reference, c.candidate])));
    section("Accuracy", note, perClass, wide(outputs), cases, top, rows && heat("Confusion, original", "reference", rows), rows && heat("Confusion, candidate", "candidate", rows), classes);
  }

  function layers() {
    const l = R.layers, n = l.layers.length;
    if (!n) return;
    const color = (x) => (x.layer === l.origin ? css("--bad") : x.layer === l.worst ? css("--open") : css("--candidate"));
    const note = `${n} values of the candidate's plan on ${l.samples} samples, in the order of execution` + (l.unmatched ? `; ${l.unmatched} more have no counterpart in the original` : "") +
      `. Worst layer: ${l.worst}, cosine ${fix(l.worst_cosine, 4)}.` + (l.origin ? ` The error starts at ${l.origin}, which loses ${fix(l.origin_lost_db, 0)} dB.` : " No layer loses 10 dB and falls below 20 dB.");
    const plot = (title, data, y, more = {}) => wide(chart(title, { type: "bar", data: { labels: l.layers.map((x) => short(x.layer, 26)), datasets: [{ data, backgroundColor: l.layers.map(color) }] },
      options: options(axis("", { ticks: { autoSkip: n > 60, maxRotation: 70, minRotation: n > 12 ? 55 : 0 } }), axis(y, more), { plugins: { legend: { display: false }, tooltip: { callbacks: { title: (i) => l.layers[i[0].dataIndex].layer } } } }) }, 330));
    const rows = [...l.layers].sort((x, y) => (x.sqnr_db ?? -999) - (y.sqnr_db ?? -999)).slice(0, 12);
    section("Layer by layer", note, plot("Signal to noise, dB (more is closer to the original)", l.layers.map((x) => x.sqnr_db), "SQNR dB"),
      plot("1 − cosine similarity (less is closer)", l.layers.map((x) => (x.cosine === null ? 1 : Math.max(1e-9, 1 - x.cosine))), "1 − cosine", { type: "logarithmic" }),
      wide(card("The furthest from the original", table(["layer", "operator", "value", ">cosine", ">SQNR dB", ">lost dB", ">max |Δ|", ">KL", ">NaN/Inf", "held as"],
        rows.map((x) => [x.layer, x.op, h("code", {}, short(x.value, 34)), fix(x.cosine, 5), fix(x.sqnr_db, 1), fix(x.lost_db, 1), sci(x.max_abs), sci(x.kl), x.candidate_nonfinite, x.integer ? "codes" : "floats"])))));
  }

  function performance() {
    const p = R.performance, rows = [];
    for (const [what, f] of [["cold", (m) => m.cold], ["warm", (m) => m.warm]])
      for (const [who, m] of [["original", p.reference], ["candidate", p.candidate]])
        rows.push([`${who}, ${what}`, f(m).runs.toLocaleString("en"), ...["p50_ms", "p95_ms", "p99_ms", "min_ms", "max_ms"].map((k) => fix(f(m)[k], 3))]);
    const note = `Batch ${p.batch}, ${p.threads} thread${p.threads === 1 ? "" : "s"}, ${p.rounds} interleaved rounds in separate processes. Candidate / original: ${fix(p.ratio, 3)} ` +
      `(${fix(100 * R.policy.performance.confidence, 0)} % bootstrap interval ${fix(p.ratio_low, 3)} to ${fix(p.ratio_high, 3)}). Cold: opening the plan to the first result in a fresh process.`;
    const line = (m, name, key) => ({ label: name, data: m.warm.percentiles_ms.map((y, x) => ({ x, y })), borderColor: css(key), backgroundColor: css(key), pointRadius: 0, borderWidth: 2 });
    const ends = [...p.reference.warm.percentiles_ms.slice(0, 100), ...p.candidate.warm.percentiles_ms.slice(0, 100)];
    const bars = (title, a, b) => chart(title, { type: "bar", data: { labels: ["original", "candidate"], datasets: [{ data: [a / 1048576, b / 1048576], backgroundColor: [css("--reference"), css("--candidate")] }] },
      options: options(axis("MiB", { beginAtZero: true }), axis(""), { indexAxis: "y", plugins: { legend: { display: false } } }) }, 130);
    section("Speed and size", note,
      chart("Warm latency by percentile, ms", { type: "line", data: { datasets: [line(p.reference, "original", "--reference"), line(p.candidate, "candidate", "--candidate")] },
        options: options(axis("percentile", { type: "linear", min: 0, max: 100 }), axis("ms", { beginAtZero: true, suggestedMax: Math.max(...ends) * 1.05, max: Math.max(...ends) * 1.1 }), { interaction: { mode: "index", intersect: false } }) }),
      chart("Throughput, samples per second", { type: "bar", data: { labels: p.throughput.map((t) => "batch " + t.batch), datasets: sides(p.throughput.map((t) => t.reference_per_s), p.throughput.map((t) => t.candidate_per_s)) },
        options: options(axis(""), axis("per second", { beginAtZero: true })) }),
      bars("ONNX file, MiB", R.reference.file_bytes, R.candidate.file_bytes), bars("Peak memory above the process's start, MiB", p.reference.peak_bytes, p.candidate.peak_bytes),
      wide(card("Latency, ms", table(["", ">runs", ">p50", ">p95", ">p99", ">min", ">max"], rows))));
  }

  function stability() {
    const s = R.stability, mark = (bad, text) => h("span", { class: bad ? "bad" : "" }, text);
    const side = (e) => [mark(e.output_nan + e.output_inf, e.output_nan + e.output_inf ? `${e.output_nan} NaN, ${e.output_inf} Inf` : "finite"), e.nan, e.inf, e.denormal, e.saturated, e.first_nonfinite || "–"];
    const extremes = card("Extreme inputs", table(["input", "model", "output", ">NaN", ">Inf", ">denormal", ">saturated codes", "first NaN/Inf in layer"],
      s.extremes.flatMap((e) => [[e.name + (e.judged ? "" : " (reported only)"), "original", ...side(e.reference)], ["", "candidate", ...side(e.candidate)]])));
    const equal = (ok, relative) => (ok ? h("span", { class: "good" }, "same bits") : `differs by ${sci(relative)}`);
    const variations = card("The same samples again", table(["computed", "original", "candidate"], s.variations.map((v) => [v.what, equal(v.reference_equal, v.reference_relative), equal(v.candidate_equal, v.candidate_relative)])));
    const share = (c) => (100 * c.saturated) / Math.max(1, c.elements), top = s.saturation.filter((c) => c.saturated).slice(0, 12);
    const saturation = top.length ? chart("Codes at the end of their range on real samples, %", { type: "bar", data: { labels: top.map((c) => short(c.layer, 26)), datasets: [{ data: top.map(share), backgroundColor: css("--candidate") }] },
      options: options(axis("%", { beginAtZero: true }), axis(""), { indexAxis: "y", plugins: { legend: { display: false } } }) }, 60 + 26 * top.length)
      : card("Saturation", h("p", { class: "note" }, s.saturation.length ? "No integer layer saturates on real samples." : "The candidate has no integer layers."));
    section("Numerical stability", "Counts are over the values of all layers.", wide(extremes), variations, saturation);
  }

  function engine() {
    const e = R.engine;
    if (!e || !e.done) return;
    const error = (v) => (v === null ? h("span", { class: "bad" }, "NaN, infinity or an integer") : sci(v));
    const rows = e.candidate.flatMap((c, i) => [[c.input, "original", e.reference[i]], ["", "candidate", c]].map(([input, who, r]) =>
      [input, who, r.values, error(r.step_error), r.step || "–", r.output ? error(r.output_error) : "–", r.output ? sci(r.output_bound) : "–"]));
    section("Engine against reference", `Both plans on ${e.candidate.length} inputs, ${e.samples} of them samples, against plain loops in double precision (${fix(e.seconds, 0)} s). A step is given what the plan gave it, ` +
      `an output comes from the model as its file has it. Differences over the largest value.`, wide(card("Largest differences", table(["input", "model", ">values", ">step", "layer", ">output", ">allowed"], rows))));
  }

  function simulation() {
    const s = R.simulation;
    if (!s || !s.done) return;
    const c = s.comparison, r = s.replay, k = s.soak;
    const quantiles = ["p50_ms", "p95_ms", "p99_ms"], shades = ["55", "99", "ff"];
    const loads = wide(chart("Latency of the served candidate by load, ms", { type: "bar", data: { labels: s.loads.map((l) => l.name),
      datasets: quantiles.map((q, i) => ({ label: q.slice(0, 3), data: s.loads.map((l) => l[q]), backgroundColor: css("--candidate") + shades[i] })) },
      options: options(axis(""), axis("ms", { beginAtZero: true })) }, 240));
    const loadTable = wide(card("Load", table(["load", ">requests", ">errors", ">per second", ">p50 ms", ">p95 ms", ">p99 ms"], s.loads.map((l) =>
      [l.name + (l.kept_up ? "" : " (the generator did not keep up)"), l.requests, h("span", { class: l.errors ? "bad" : "" }, l.errors), rate(l.throughput_per_s), fix(l.p50_ms, 3), fix(l.p95_ms, 3), fix(l.p99_ms, 3)]))));
    const soak = k.t_s.length > 1 ? chart(`Soak, ${fix(k.seconds, 0)} s: the server's memory, MiB`, { type: "line",
      data: { datasets: [{ label: "resident", data: k.t_s.map((x, i) => ({ x, y: k.memory_mib[i] })), borderColor: css("--candidate"), backgroundColor: css("--candidate"), pointRadius: 2, borderWidth: 2 }] },
      options: options(axis("s", { type: "linear" }), axis("MiB", { beginAtZero: true }), { plugins: { legend: { display: false } } }) }) : null;
    const latency = chart("A/B: both models served in turns, ms", { type: "bar", data: { labels: ["median", "p99"], datasets: sides([c.reference_p50_ms, c.reference_p99_ms], [c.candidate_p50_ms, c.candidate_p99_ms]) },
      options: options(axis(""), axis("ms", { beginAtZero: true })) });
    const mark = (v) => h("span", { class: "mark " + v }, v);
    const rows = [["median latency", c.rounds + " rounds", fix(c.reference_p50_ms, 3) + " ms", fix(c.candidate_p50_ms, 3) + " ms", `ratio ${fix(c.ratio, 3)} (${fix(c.ratio_low, 3)} to ${fix(c.ratio_high, 3)}), U = ${sci(c.mann_whitney_u)}`, sci(c.mann_whitney_p), "–"],
      ["p99 latency", c.requests / 2, fix(c.reference_p99_ms, 3) + " ms", fix(c.candidate_p99_ms, 3) + " ms", `ratio ${fix(c.p99_ratio, 2)} (${fix(c.p99_ratio_low, 2)} to ${fix(c.p99_ratio_high, 2)})`, "–", mark(c.latency)]];
    if (c.labels) rows.push(["top-1 accuracy", c.samples, pct(c.reference_accuracy), pct(c.candidate_accuracy), `right only in the original ${c.only_reference_right}, only in the candidate ${c.only_candidate_right}`, sci(c.mcnemar_p), mark(c.accuracy)]);
    const note = "The candidate behind a server of its own, before release." + (r.compared ? ` Replay of ${r.requests} requests (${r.source ? short(r.source, 60) : "test samples"}): ` +
      (r.classes ? `same top-1 as the original on ${pct(r.agreement)}, ` : "") + `largest difference of an output ${sci(r.max_difference)}.` : "") +
      (k.slope_low === null ? " The soak was too short for a trend of the memory." : ` Memory over the soak: ${sci(k.slope_mib_per_hour)} MiB an hour (95 % interval ${sci(k.slope_low)} to ${sci(k.slope_high)}).`);
    section("Simulated before release", note, loads, loadTable, soak, latency, wide(card("A/B comparison", table(["figure", ">n", ">original", ">candidate", "statistic", ">p", "verdict"], rows))));
  }

  // Epoch 0 is post-training quantisation, before any training.
  function training() {
    const t = R.training, alone = R.page === "training";
    if (!t || !(t.done || t.note)) return;
    if (!t.done) return section("Training", t.note);
    const r = t.result, o = t.options, e = r.epochs, a = r.agreement;
    const bits = `W${o.weight_bits}A${o.activation_bits}`, top1 = r.labels ? "top-1" : "same class as the original";
    const minutes = (s) => (s < 120 ? fix(s, s < 10 ? 1 : 0) + " s" : fix(s / 60, 1) + " min");
    const count = (n) => n.toLocaleString("en");
    if (alone) {
      const lost = 100 * (r.float_accuracy - r.accuracy);
      const items = [[`QAT ${bits}, ${top1}`, pct(r.accuracy), r.labels ? `${fix(Math.abs(lost), 2)} points ${lost < 0 ? "above" : "below"} FP32` : "on the test split"]];
      if (r.labels) items.push(["FP32", pct(r.float_accuracy), "the original"]);
      items.push([`PTQ ${bits}`, pct(r.ptq_accuracy), "before training"], ["File", bytes(r.bytes), `original ${bytes(r.float_bytes)} · ${pct(r.bytes / r.float_bytes, 1)}`],
        ["An epoch", minutes(r.seconds_per_epoch), `${count(r.train_samples)} samples · ${minutes(r.seconds)} in all`]);
      root.append(h("div", { class: "tiles" }, items.map(([what, v, s]) => h("div", { class: "tile" }, h("small", {}, what), h("b", {}, v), h("small", {}, s)))));
    }
    const labels = e.map((x) => x.epoch), best = (x) => (x.epoch === r.best_epoch ? 6 : e.length > 60 ? 0 : 2.5);
    const line = (name, key, data, more = {}) => ({ label: name, data, borderColor: css(key), backgroundColor: css(key), borderWidth: 2, pointRadius: e.map(best), tension: 0, ...more });
    const legend = { display: true, labels: { color: css("--ink"), usePointStyle: true, pointStyle: "line" } };
    const plot = (title, y, sets, height, more = {}) => chart(title, { type: "line", data: { labels, datasets: sets },
      options: options(axis("epoch", { ticks: { maxTicksLimit: 12 } }), axis(y, more), { interaction: { mode: "index", intersect: false }, plugins: { legend: { ...legend, display: sets.length > 1 } } }) }, height);
    const percent = (key) => e.map((x) => (x[key] === null ? null : 100 * x[key])), dashed = { borderDash: [5, 4], pointRadius: 0 };
    const accuracies = [line("held out", "--candidate", percent("held_out_accuracy"))];
    if (e.some((x) => x.accuracy !== null)) accuracies.unshift(line("training, augmented", "--reference", percent("accuracy"), dashed));
    const note = `Quantisation-aware training to ${bits}. ` + (alone ? "" : `Training ended: ${r.stopped}. `) + `Epoch 0 is post-training quantisation as training found it; the large point is the epoch that was kept.`;
    const rate = o.learning_rate > 0 ? sci(o.learning_rate) + " at most" : "as optimiser and bits want it";
    const facts = (rows) => h("div", { class: "scroll" }, h("table", { class: "facts" }, h("tbody", {}, rows.map(([k, v]) => h("tr", {}, h("th", {}, k), h("td", {}, v))))));
    const loss = { labels: "cross entropy with the labels", distillation: `distillation from the original, temperature ${o.temperature}`,
      mixed: `${fix(100 * o.distillation_weight, 0)} % distillation from the original (temperature ${o.temperature}), ${fix(100 * (1 - o.distillation_weight), 0)} % cross entropy with the labels` }[o.loss];
    const how = card("How it was trained", facts([["bits", `${bits}, ${o.profile} profile, ${r.quantized_nodes} of ${r.nodes} nodes on integers`], ["loss", loss],
      ["optimiser", `${o.optimizer === "sgd" ? `SGD, momentum ${o.momentum}` : "AdamW"}, weight decay ${o.weight_decay}`], ["learning rate", `${rate}: rising over the first ${fix(100 * o.warmup, 0)} % of the steps, then a cosine to 0`],
      ["samples", `${count(r.train_samples)} trained on, ${count(r.held_out_samples)} held out, batches of ${o.batch}`],
      ["epochs", `${e.length ? e[e.length - 1].epoch : 0} of ${o.epochs}, the best was ${r.best_epoch}; ${minutes(r.seconds_per_epoch)} an epoch, ${minutes(r.seconds)} in all`], ["seed", String(o.seed)]]));
    const size = (b) => (b ? bytes(b) + (r.float_bytes ? ` (${pct(b / r.float_bytes, 1)})` : "") : "–");
    const methods = card("What it brought", table(["bits", "method", `>${top1}`, ">file"], [["FP32", "original", r.labels ? pct(r.float_accuracy) : "–", bytes(r.float_bytes)],
      [bits, "PTQ", pct(r.ptq_accuracy), size(r.ptq_bytes)], [bits, "QAT", h("b", {}, pct(r.accuracy)), size(r.bytes)]]), h("p", { class: "note" }, `${count(r.test_samples)} samples of the test split, as executed.`));
    const shown = a.disagreements.slice(0, 10), unequal = a.samples - a.equal;
    const agreed = wide(card("Simulation against execution", h("p", { class: "note" }, `The same class on ${count(a.equal)} of ${count(a.samples)} test samples. ` +
      (a.elements ? `Integer tensors: ${a.unequal_elements ? count(a.unequal_elements) : "none"} of ${count(a.elements)} elements differ (${a.tensors} tensors, ${a.compared_samples} samples)${a.first_unequal ? `, first in ${a.first_unequal}` : ""}. ` : "") +
      (unequal ? `Largest margin of a disagreement ${sci(a.largest_margin)}; one step of the output is ${sci(a.output_step)}.` : "")),
      shown.length ? table(["sample", ">label", ">simulated", ">executed", ">margin"], shown.map((d) => [d.sample, d.label < 0 ? "–" : d.label, d.simulated, d.executed, sci(d.margin)])) : "",
      a.disagreements.length > shown.length || unequal > shown.length ? h("p", { class: "note" }, `and ${count(Math.max(unequal, a.disagreements.length) - shown.length)} more`) : ""));
    section("Training", note, plot("Loss", "loss", [line("training", "--reference", e.map((x) => x.loss), dashed), line("held out", "--candidate", e.map((x) => x.held_out_loss))]),
      plot(r.labels ? "Accuracy, %" : "Same class as the original, %", "%", accuracies), methods, how,
      wide(plot("Learning rate at the end of each epoch", "", [line("learning rate", "--soft", e.map((x) => x.learning_rate), { pointRadius: 0 })], 130, { beginAtZero: true })), a.samples ? agreed : null);
  }

  function provenance() {
    const model = (name, m) => [[name, h("code", {}, m.path)], ["", `${m.precision}, ${m.nodes} nodes, ${m.parameters.toLocaleString("en")} parameters`], ["SHA-256", h("code", {}, m.sha256)], ["plan's choices", h("code", {}, m.plan_digest)]];
    const plain = (rows) => h("div", { class: "scroll" }, h("table", { class: "facts" }, h("tbody", {}, rows.map(([k, v]) => h("tr", {}, h("th", {}, k), h("td", {}, v))))));
    section("What was judged", "", wide(card("Provenance", plain([...model("original", R.reference), ...model("candidate", R.candidate),
      ["data", h("code", {}, R.data.path)], ["digest", h("code", {}, R.data.digest)], ["samples", `${R.data.judged_samples} of the ${R.data.test_samples} in the test split; inputs from ${sci(R.data.minimum)} to ${sci(R.data.maximum)}`],
      ...R.data.warnings.map((w) => ["warning", w]), ["policy", R.policy_path ? h("code", {}, R.policy_path) : "defaults"], ["digest", h("code", {}, R.policy_digest)],
      ["machine", `${R.cpu} (${R.cpu_features})`], ["made by", `${R.tool}, ${R.date}, in ${fix(R.seconds, 0)} s`], ["probes", `${R.probe_count} samples with the candidate's outputs are in the JSON report`]]))));
  }

  let drawn = [];
  function draw() {
    root.textContent = "";
    drawn.forEach((c) => c.destroy());
    charts.length = 0;
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    if (R.page === "training") training();
    else for (const part of [tiles, accuracy, layers, performance, stability, engine, simulation, training, provenance]) part();
    drawn = charts.map(([canvas, config]) => new Chart(canvas, config));
  }
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
