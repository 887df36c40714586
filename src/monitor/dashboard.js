// Polls /api/status and /api/series once a second and redraws. The series are kept here by name and extended by what
// came since the last point; a server that started anew (another start_ms) empties them. All text from the server goes
// in as textContent.
'use strict';
(() => {
  const $ = (id) => document.getElementById(id);
  const el = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  };
  const add = (parent, ...children) => (parent.append(...children), parent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
  const known = (v) => typeof v === 'number' && Number.isFinite(v);
  const list = (v) => Array.isArray(v) ? v : [];

  // Numbers for people.
  const grouped = (v, digits) => v.toLocaleString('en-US', {minimumFractionDigits: digits, maximumFractionDigits: digits});
  const digitsOf = (v) => Math.abs(v) >= 100 || v === 0 ? 0 : Math.abs(v) >= 10 ? 1 : 2;
  const short = (v, unit = '') => Number(v.toPrecision(3)).toLocaleString('en-US') + unit;
  const count = (v) => !known(v) ? '–' : v >= 1e6 ? grouped(v / 1e6, 2) + ' M' : grouped(v, 0);
  const rate = (v) => !known(v) ? '–' : grouped(v, v >= 100 || v === 0 ? 0 : 1);
  const msParts = (v) => !known(v) ? ['–', ''] : v >= 1000 ? [grouped(v / 1000, 2), 's'] : [grouped(v, digitsOf(v)), 'ms'];
  const ms = (v) => msParts(v).join(' ').trim();
  const bytesParts = (v) => !known(v) ? ['–', ''] : v >= 2 ** 30 ? [grouped(v / 2 ** 30, 2), 'GiB'] : [grouped(v / 2 ** 20, v < 100 * 2 ** 20 ? 1 : 0), 'MiB'];
  const bytes = (v) => bytesParts(v).join(' ');
  const percent = (v) => !known(v) ? '–' : v === 0 ? '0 %' : v >= 0.9995 ? grouped(v * 100, 0) + ' %' : v < 0.0001 ? '<0.01 %' : grouped(v * 100, v < 0.01 ? 2 : v < 0.1 ? 1 : 0) + ' %';
  const fraction = (v) => !known(v) ? '–' : v.toFixed(3);
  const clock = (t) => new Date(t).toLocaleTimeString([], {hour: '2-digit', minute: '2-digit', hour12: false});
  const clockSeconds = (t) => new Date(t).toLocaleTimeString([], {hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false});
  const ago = (s) => s < 90 ? Math.round(s) + ' s' : s < 5400 ? Math.round(s / 60) + ' min' : s < 172800 ? (s / 3600).toFixed(1) + ' h' : Math.round(s / 86400) + ' d';

  // The token comes once in the address, then stays with this tab.
  const query = new URLSearchParams(location.search);
  let token = sessionStorage.getItem('slipway-token') || '';
  if (query.has('token')) {
    token = query.get('token');
    sessionStorage.setItem('slipway-token', token);
    query.delete('token');
    history.replaceState(null, '', location.pathname + (query.size ? '?' + query : '') + location.hash);
  }
  async function call(path) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), 5000);
    try {
      const reply = await fetch(path, {signal: stop.signal, cache: 'no-store', headers: token ? {Authorization: 'Bearer ' + token} : {}});
      if (reply.status === 401 || reply.status === 403) throw new Error('token');
      if (!reply.ok) throw new Error('status ' + reply.status);
      return await reply.json();
    } finally {
      clearTimeout(timer);
    }
  }

  // Series by key: "total", "model", "model\n3" (its version), "process". Each is {column: [values]}.
  const kKeep = 910;
  let series = new Map(), startMs = 0, lastMs = 0, status = null, scope = '', chosen = false, spanS = 300;
  function extend(key, columns, points) {
    if (!series.has(key)) series.set(key, Object.fromEntries(columns.map((c) => [c, []])));
    const kept = series.get(key);
    for (const point of list(points)) columns.forEach((c, i) => kept[c].push(point[i]));
    const extra = kept.t_ms.length - kKeep;
    if (extra > 0) for (const c of columns) kept[c].splice(0, extra);
    const newest = kept.t_ms[kept.t_ms.length - 1];
    if (newest > lastMs) lastMs = newest;
  }
  function take(s) {
    if (s.start_ms !== startMs) {
      series = new Map();
      lastMs = 0;
      startMs = s.start_ms;
    }
    const present = new Set(['total', 'process']);
    extend('process', s.process_columns, s.process);
    extend('total', s.columns, s.total.points);
    for (const m of list(s.models)) extend(m.model, s.columns, m.points), present.add(m.model);
    for (const v of list(s.versions)) {
      extend(v.model + '\n' + v.version, s.columns, v.points);
      present.add(v.model + '\n' + v.version);
    }
    for (const key of series.keys()) if (!present.has(key)) series.delete(key);
  }

  // What the charts show: one model's versions, or, for all, the models.
  const kOrder = ['stable', 'candidate', 'third', 'fourth', 'fifth'];
  const kModels = ['stable', 'third', 'fourth', 'candidate', 'fifth'];
  function lines() {
    if (scope === '') return list(status.models).slice(0, 5).map((m, i) => ({key: m.model, label: m.model, color: kModels[i]}));
    // a candidate that was sent back keeps its colour
    const tried = list(status.rollouts).find((r) => r.model === scope), rank = {live: 0, candidate: 1};
    const rankOf = (v) => rank[v.role] ?? (tried && tried.candidate === v.version ? 1 : 2);
    let other = 2;
    return list(status.versions)
        .filter((v) => v.model === scope && (v.role in rank || recentlyUsed(v.model + '\n' + v.version)))
        .sort((a, b) => rankOf(a) - rankOf(b) || b.version - a.version)
        .slice(0, 5)
        .map((v) => ({
               key: v.model + '\n' + v.version,
               label: 'v' + v.version + (v.role === 'warm' ? '' : ' ' + v.role),
               color: kOrder[rankOf(v) < 2 ? rankOf(v) : Math.min(other++, 4)],
               version: v,
             }));
  }
  function recentlyUsed(key) {
    const kept = series.get(key);
    if (!kept) return false;
    const from = lastMs - spanS * 1000;
    return kept.requests_per_s.some((r, i) => r > 0 && kept.t_ms[i] >= from);
  }
  const scopeKey = () => scope === '' ? 'total' : scope;
  const columnOf = (key, column, scale = 1) => {
    const kept = series.get(key);
    if (!kept) return [];
    const from = lastMs - spanS * 1000 - 1500;
    const points = [];
    for (let i = 0; i < kept.t_ms.length; ++i)
      if (kept.t_ms[i] >= from) points.push({x: kept.t_ms[i], y: known(kept[column][i]) ? kept[column][i] * scale : NaN});
    return points;
  };

  // Charts. Each card: a title with its unit, a legend with the latest values, a plot.
  const cards = {};
  function makeCard(id, title, unit, options) {
    const card = el('div', 'card');
    const legend = el('div', 'legend'), plot = el('div', 'plot'), canvas = el('canvas'), note = el('p');
    add(card, add(el('div', 'head'), el('h2', '', title), el('span', 'unit', unit), legend), add(plot, canvas, note));
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', title + ', ' + unit);
    $('charts').append(card);
    const chart = new Chart(canvas, {
      type: options.type || 'line',
      data: {labels: options.labels, datasets: []},
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, normalized: true, parsing: options.type === 'bar',
        interaction: {mode: 'index', intersect: false},
        elements: {point: {radius: 0, hitRadius: 6}, line: {borderWidth: 1.6, tension: 0}},
        scales: {x: options.x || timeScale(), y: {beginAtZero: options.zero !== false, border: {display: false}, grid: {drawBorder: false, drawTicks: false}, ticks: {maxTicksLimit: 5, padding: 6, callback: options.tick}, ...options.y}},
        plugins: {
          legend: {display: false},
          tooltip: {displayColors: true, boxWidth: 8, boxHeight: 8, padding: 8, cornerRadius: 6, callbacks: {title: options.title || ((items) => items.length ? clockSeconds(items[0].parsed.x) : ''), label: (item) => ' ' + item.dataset.label + '  ' + options.show(item.parsed.y)}},
        },
      },
    });
    cards[id] = {chart, legend, note, options};
  }
  function timeScale() {
    return {
      type: 'linear', border: {display: false}, grid: {display: false, drawBorder: false},
      ticks: {maxRotation: 0, autoSkipPadding: 16, callback: (t) => t % 60000 ? clockSeconds(t) : clock(t)},
      afterBuildTicks: (axis) => {
        const shown = axis.max - axis.min, step = shown > 600000 ? 300000 : shown > 120000 ? 60000 : 30000, offset = new Date().getTimezoneOffset() * 60000;
        axis.ticks = [];
        for (let t = Math.ceil((axis.min - offset) / step) * step + offset; t <= axis.max; t += step) axis.ticks.push({value: t});
      },
    };
  }
  function draw(id, datasets, note, shown) {
    const {chart, legend, note: text, options} = cards[id];
    const soft = css('soft'), line = css('line');
    for (const d of datasets) {
      d.borderColor = css(d.color);
      d.backgroundColor = d.fill ? css(d.color) + (options.type === 'bar' ? 'a6' : '22') : css(d.color);
      if (options.type === 'bar') d.borderWidth = 0;
    }
    chart.data.datasets = datasets;
    if (!options.x) {
      chart.options.scales.x.max = lastMs;
      chart.options.scales.x.min = Math.max(lastMs - spanS * 1000, Math.min(startMs, lastMs - 60000));
    }
    for (const axis of [chart.options.scales.x, chart.options.scales.y]) {
      axis.ticks.color = soft;
      axis.ticks.font = {size: 11.5};
      axis.grid.color = line;
    }
    Object.assign(chart.options.plugins.tooltip, {backgroundColor: css('ink'), titleColor: css('page'), bodyColor: css('page')});
    chart.update('none');
    text.textContent = note || '';
    legend.replaceChildren(...datasets.filter((d) => d.data.length).map((d) => {
      const item = el('span'), mark = el('i');
      mark.style.background = css(d.color);
      const last = d.data[d.data.length - 1];
      return add(item, mark, d.label + (shown === false ? '' : '  ' + options.show(typeof last === 'object' ? last.y : last)));
    }));
  }
  function makeCharts() {
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    makeCard('throughput', 'Throughput', 'requests/s', {show: rate, tick: (v) => short(v)});
    makeCard('latency', 'Latency', 'request to answer', {show: ms, tick: (v) => v >= 1000 ? short(v / 1000, ' s') : short(v, ' ms')});
    makeCard('errors', 'Errors', 'per second', {show: rate, tick: (v) => v, y: {suggestedMax: 1}});
    makeCard('confidence', 'Confidence', 'mean of the top class', {show: fraction, tick: (v) => v.toFixed(2), zero: false, y: {suggestedMin: 0.5, max: 1}});
    makeCard('distribution', 'Confidence, last minute', 'share of rows', {
      type: 'bar', labels: Array.from({length: 25}, (_, i) => (i * 0.04).toFixed(2)), show: (v) => v.toFixed(1) + ' %', tick: (v) => v + ' %',
      title: (items) => items.length ? items[0].label + ' – ' + (Number(items[0].label) + 0.04).toFixed(2) : '',
      x: {border: {display: false}, grid: {display: false, drawBorder: false}, ticks: {maxRotation: 0, autoSkip: false, callback: (v, i) => i % 5 === 0 ? (i * 0.04).toFixed(1) : ''}},
    });
    makeCard('memory', 'Memory', 'resident', {show: (v) => bytes(v * 2 ** 20), tick: (v) => v >= 1024 ? short(v / 1024, ' GiB') : short(v, ' MiB'), y: {grace: '15%'}});
  }
  function drawCharts() {
    const shown = lines(), key = scopeKey();
    draw('throughput', shown.map((l) => ({label: l.label, color: l.color, data: columnOf(l.key, 'requests_per_s'), fill: shown.length === 1})));
    const candidate = shown.find((l) => l.version && l.version.role === 'candidate');
    const latency = ['p50', 'p95', 'p99'].map((p) => ({label: p, color: p, data: columnOf(key, p + '_ms')}));
    if (candidate) latency.push({label: candidate.label.split(' ')[0] + ' p95', color: 'candidate', data: columnOf(candidate.key, 'p95_ms')});
    draw('latency', latency);
    draw('errors', [['faults', 'bad'], ['timeouts', 'warn'], ['rejections', 'fifth']].map(([name, color]) => ({label: name, color, data: columnOf(key, name + '_per_s')})));
    const scored = shown.filter((l) => !l.version || l.version.scores.on);
    const off = shown.length && !scored.length ? 'Off: ' + shown[0].version.scores.reason : '';
    draw('confidence', scored.map((l) => ({label: l.label, color: l.color, data: columnOf(l.key, 'confidence')})), off);
    const overlaid = scored.map((l) => ({...l, version: l.version || list(status.versions).find((v) => v.model === l.key && v.role === 'live')}))
                         .filter((l) => l.version && l.version.scores.last_minute && l.version.scores.last_minute.count > 0);
    draw('distribution', overlaid.map((l) => {
      const {bins, count: rows} = l.version.scores.last_minute;
      const data = Array.from({length: 25}, (_, i) => (bins[2 * i] + bins[2 * i + 1]) / rows * 100);
      return {label: l.label, color: l.color, data, fill: true, grouped: false, categoryPercentage: 1, barPercentage: 0.94};
    }), off || (overlaid.length ? '' : 'No rows in the last minute'), false);
    const limit = status.process.memory_limit_bytes, memory = [{label: 'resident', color: 'stable', fill: true, data: columnOf('process', 'resident_bytes', 2 ** -20)}];
    if (limit > 0 && status.process.resident_bytes > 0.3 * limit)
      memory.push({label: 'alarm', color: 'bad', borderDash: [4, 4], data: memory[0].data.map(({x}) => ({x, y: limit * status.process.memory_alarm_ratio / 2 ** 20}))});
    draw('memory', memory);
  }

  // First row.
  function tile(label, [value, unit], note, tone, meter) {
    const node = el('div', 'tile ' + (tone || '')), figure = el('div', 'value', value);
    if (unit) figure.append(el('small', '', unit));
    add(node, el('div', 'label', label), figure);
    node.append(el('div', 'note', note));
    if (meter !== undefined) node.append(bar(meter, tone));
    return node;
  }
  function bar(share, tone) {
    const meter = el('div', 'meter ' + (tone || '')), fill = el('i');
    fill.style.width = Math.min(Math.max(share, 0), 1) * 100 + '%';
    return add(meter, fill);
  }
  function drawTiles() {
    const model = list(status.models).find((m) => m.model === scope);
    const r = (model && model.recent) || status.total, p = status.process;
    const failed = r.faults_per_s + r.timeouts_per_s, errors = r.requests_per_s > 0 ? failed / r.requests_per_s : 0;
    const used = p.memory_limit_bytes > 0 ? p.resident_bytes / p.memory_limit_bytes : 0;
    const entropy = known(r.entropy) ? 'entropy ' + r.entropy.toFixed(2) + ' · margin ' + r.margin.toFixed(2) : 'no scores seen';
    $('tiles').replaceChildren(
        tile('Throughput', [rate(r.requests_per_s), 'req/s'], 'batch ' + (known(r.batch_rows) ? r.batch_rows.toFixed(1) : '–') + ' · queue ' + count(r.queue_depth)),
        tile('Latency p50', msParts(r.p50_ms), 'mean ' + ms(r.mean_ms)),
        tile('Latency p99', msParts(r.p99_ms), 'p95 ' + ms(r.p95_ms)),
        tile('Errors', percent(errors).split(' '), rate(r.timeouts_per_s) + ' timeouts/s · ' + rate(r.rejections_per_s) + ' rejected/s', errors > 0.01 ? 'bad' : errors > 0 ? 'warn' : ''),
        tile('Confidence', [known(r.confidence) ? r.confidence.toFixed(3) : '–'], entropy),
        tile('Memory', bytesParts(p.resident_bytes), percent(used) + ' of ' + bytes(p.memory_limit_bytes) + ' · CPU ' + p.cpu_cores.toFixed(1), used > p.memory_alarm_ratio ? 'bad' : '', used));
  }

  // Versions.
  const kProof = {passed: ['verified', 'good'], failed: ['failed', 'bad'], missing: ['unverified', 'warn'], mismatched: ['mismatch', 'bad']};
  const kRole = {live: 'info', candidate: 'warn', warm: ''};
  function drawVersions() {
    const versions = list(status.versions).filter((v) => scope === '' || v.model === scope);
    const broken = list(status.unavailable);
    $('unavailable').textContent = broken.length ? broken.map((b) => (b.model + (b.version ? ' v' + b.version : '') + ': ' + (b.reason || b.state))).join(' · ') : '';
    if (!versions.length) return $('versions').replaceChildren(el('div', 'empty', 'No model is loaded.'));
    const table = el('table'), head = el('tr'), body = el('tbody');
    for (const [name, right] of [['Version'], ['State'], ['Traffic'], ['req/s', 1], ['p50', 1], ['p99', 1], ['Errors', 1], ['Confidence', 1], ['Memory', 1]]) head.append(el('th', right ? 'n' : '', name));
    for (const v of versions) {
      const r = v.recent || {}, row = el('tr');
      const name = add(el('td', 'wide'), el('div', 'name', v.model + ' v' + v.version));
      name.title = v.sha256 ? 'sha256 ' + v.sha256 : '';
      const [proof, tone] = kProof[v.proof] || [v.proof, ''];
      const proofBadge = el('span', 'badge ' + tone, proof);
      proofBadge.title = v.proof_reason || '';
      const state = add(el('td', 'wide'), add(el('div', 'badges'), el('span', 'badge ' + (kRole[v.role] || ''), v.role), proofBadge));
      const traffic = add(el('td', 'traffic'), el('div', '', percent(v.share)), bar(v.share, v.role === 'candidate' ? 'candidate' : ''));
      add(row, name, state, traffic);
      const errors = r.requests_per_s > 0 ? (r.faults_per_s + r.timeouts_per_s) / r.requests_per_s : 0;
      const confidence = v.scores && v.scores.on ? fraction(r.confidence) : 'off';
      for (const [label, text, cls] of [['req/s', rate(r.requests_per_s)], ['p50', ms(r.p50_ms)], ['p99', ms(r.p99_ms)], ['errors', percent(errors), errors > 0.01 ? 'bad' : ''], ['confidence', confidence, confidence === 'off' ? 'soft' : ''], ['memory', bytes(v.memory_bytes)]]) {
        const cell = el('td', 'n ' + (cls || ''), text);
        cell.dataset.label = label;
        if (text === 'off') cell.title = v.scores.reason;
        row.append(cell);
      }
      body.append(row);
    }
    $('versions').replaceChildren(add(table, add(el('thead'), head), body));
  }

  // Rollouts: what rollout/ supplies, read with forbearance.
  const toneOf = (text) => /fail|abort|roll(ed)?[ _-]?back|broken|reject/i.test(text) ? 'bad' : /live|done|complete|succe|promoted|finished|pass/i.test(text) ? 'good' : /pause|held|hold|inconclusive|wait|extend/i.test(text) ? 'warn' : /idle/i.test(text) ? '' : 'info';
  const shareOf = (step) => typeof step === 'object' && step ? Number(step.share ?? step.weight) : Number(step);
  const opened = new Set();
  function drawRollouts() {
    const rollouts = list(status.rollouts).filter((r) => (scope === '' || r.model === scope) && (r.state !== 'idle' || list(r.history).length));
    if (!rollouts.length) return $('rollouts').replaceChildren(el('div', 'empty', 'None under way. Start one with slipway rollout start MODEL VERSION.'));
    $('rollouts').replaceChildren(...rollouts.map((r) => {
      const node = el('div', 'rollout'), title = el('div', 'title');
      const versions = r.candidate ? (r.stable && r.stable !== r.candidate ? 'v' + r.stable + ' → v' + r.candidate : 'v' + r.candidate) : r.stable ? 'v' + r.stable : '';
      add(title, el('b', '', r.model), el('span', 'soft', versions), el('span', 'grow'), el('span', 'badge ' + toneOf(String(r.state)), String(r.state).replaceAll('_', ' ')));
      node.append(title);
      const shares = list(r.steps).map(shareOf);
      if (shares.length && r.state !== 'idle') {
        const scale = shares.some((s) => s > 1) ? 0.01 : 1, steps = el('div', 'steps');
        shares.forEach((s, i) => {
          const tone = toneOf(String(r.state)), here = i === r.step;
          const mark = tone === 'good' || i < r.step ? ' done' : here && tone === 'bad' ? ' failed' : here && r.share > 0 ? ' now' : '';
          steps.append(add(el('div', 'step' + mark), el('i'), el('span', '', short(s * scale * 100, ' %'))));
        });
        node.append(steps);
      }
      if (r.reason) node.append(el('p', 'reason', r.reason));
      if (known(r.rollback_us)) node.append(el('p', 'soft', 'The rollback took ' + (r.rollback_us < 1000 ? r.rollback_us + ' µs.' : ms(r.rollback_us / 1000) + '.')));
      if (r.override) node.append(el('p', 'warn', 'Started in spite of its proof: ' + r.override));
      if (r.journal_fault) node.append(el('p', 'bad', r.journal_fault));
      if (list(r.verdicts).length)
        node.append(add(el('ul', 'verdicts'), ...list(r.verdicts).map((v) => add(el('li'), el('span', 'badge ' + toneOf(String(v.verdict)), v.verdict), el('span', '', v.name), el('small', '', v.sentence)))));
      const events = list(r.history).slice(-30).reverse();
      if (events.length) {
        const more = el('details');
        more.open = opened.has(r.model);
        more.addEventListener('toggle', () => more.open ? opened.add(r.model) : opened.delete(r.model));
        node.append(add(more, el('summary', '', 'History'), add(el('ul', 'events'), ...events.map((e) => add(el('li'), el('time', '', clockSeconds(e.at_ms)), el('span', '', e.sentence || e.event))))));
      }
      return node;
    }));
  }

  // Alarms.
  const aboutAlarm = (a) => a.name + (a.model ? ' · ' + a.model + (a.version ? ' v' + a.version : '') : '');
  function drawAlarms() {
    $('alarms').replaceChildren(...list(status.alarms).map((a) => add(el('div', 'alarm ' + a.state), el('b', '', aboutAlarm(a)), el('span', '', a.sentence), el('time', '', (a.state === 'firing' ? 'firing for ' : 'pending for ') + ago((status.now_ms - a.since_ms) / 1000)))));
    const events = list(status.alarm_log).slice(-12).reverse();
    $('alarm_log').replaceChildren(events.length ? add(el('ul', 'events'), ...events.map((e) => {
      const text = el('span');
      add(text, el('b', e.state === 'firing' ? 'bad' : 'good', e.state), ' ' + aboutAlarm(e) + (e.state === 'firing' ? ': ' + e.sentence : ''));
      return add(el('li'), el('time', '', clockSeconds(e.at_ms)), text);
    })) : el('div', 'empty', 'None since the server started.'));
    const firing = list(status.alarms).filter((a) => a.state === 'firing').length;
    document.title = (firing ? '(' + firing + ') ' : '') + 'Slipway';
  }

  // Choices.
  function segments(node, choices, chosen, choose) {
    const names = choices.map((c) => c[0]).join('\n') + '\n' + chosen;
    if (node.dataset.names === names) return;
    node.dataset.names = names;
    node.replaceChildren(...choices.map(([value, label]) => {
      const button = el('button', '', label);
      button.type = 'button';
      button.setAttribute('aria-pressed', value === chosen);
      button.addEventListener('click', () => (choose(value), redraw()));
      return button;
    }));
  }
  function redraw() {
    if (!status) return;
    const models = list(status.models).map((m) => m.model);
    // until someone chooses, a model whose candidate takes traffic comes first
    const rolling = list(status.models).find((m) => m.candidate && m.share > 0);
    if (!chosen && rolling) scope = rolling.model;
    if (models.length === 1) scope = models[0];
    else if (scope !== '' && !models.includes(scope)) scope = '';
    $('scopes').hidden = models.length < 2;
    segments($('scopes'), [['', 'All'], ...models.map((m) => [m, m])], scope, (m) => (scope = m, chosen = true));
    segments($('spans'), [[300, '5 min'], [900, '15 min']], spanS, (s) => spanS = s);
    drawAlarms();
    drawTiles();
    drawCharts();
    drawVersions();
    drawRollouts();
    $('footer').textContent = 'Slipway ' + status.slipway + ' · up ' + ago((status.now_ms - status.start_ms) / 1000) + ' · ' + status.process.threads + ' threads · ' + status.process.open_files + ' open files';
  }
  function linkState(state, text) {
    $('link').className = 'link ' + state;
    $('link').lastElementChild.textContent = text;
    document.body.classList.toggle('stale', state === 'off' && status !== null);
  }

  async function poll() {
    const begun = performance.now();
    let fault = null;
    try {
      const [now, points] = await Promise.all([call('api/status'), call('api/series?since=' + lastMs)]);
      // a server that started anew was asked with the old one's clock
      take(startMs !== 0 && points.start_ms !== startMs ? await call('api/series?since=0') : points);
      status = now;
    } catch (error) {
      fault = error;
    }
    if (fault === null) {
      linkState('on', status.ready ? 'live' : 'not ready');
      redraw();
    } else {
      linkState('off', fault.message === 'token' ? 'open with ?token=…' : 'connection lost');
    }
    setTimeout(poll, Math.max(1000 - (performance.now() - begun), 100));
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  makeCharts();
  poll();
})();
