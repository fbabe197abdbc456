// The charts of the last hour, drawn by uPlot.

import { byId, el, write } from '/page/dom.js';
import { bytes, count, rate } from '/page/format.js';

// What is shown: the last hour, and as much of it as is known, in seconds.
const SPAN = 3600;
const SPAN_MIN = 300;

// With a longer gap between two samples the line is broken: nothing is known of the time between them.
const GAP = 20;

const HEIGHT = 150;

const CHARTS = [
  { id: 'chart-clients', title: 'Clients', format: count, series: [['clients', 'connected', '--line-1']] },
  {
    id: 'chart-messages', title: 'Messages per second', format: rate,
    series: [['receivedMessages', 'received', '--line-1'], ['sentMessages', 'sent', '--line-2']],
  },
  {
    id: 'chart-bytes', title: 'Bytes per second', format: bytes, steps: Array.from({ length: 50 }, (_, power) => 2 ** power),
    series: [['receivedBytes', 'received', '--line-1'], ['sentBytes', 'sent', '--line-2']],
  },
];

const NAMES = [...new Set(CHARTS.flatMap((chart) => chart.series.map(([name]) => name)))];

// For each name a list of numbers, and `at` in seconds.
let columns = null;
let plots = [];
let isShown = false;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function add(at, values) {
  const times = columns.at;
  const last = times.at(-1);
  if (last !== undefined && at <= last) return;
  if (last !== undefined && at - last > GAP) {
    times.push(last + 1);
    for (const name of NAMES) columns[name].push(null);
  }
  times.push(at);
  for (const name of NAMES) columns[name].push(values[name]);
  const old = times.findIndex((time) => time >= at - SPAN);
  times.splice(0, old);
  for (const name of NAMES) columns[name].splice(0, old);
}

// The charts' begin: the hour before this page was opened.
export function begin(history) {
  columns = { at: [] };
  for (const name of NAMES) columns[name] = [];
  history.at.forEach((at, index) => {
    add(at, Object.fromEntries(NAMES.map((name) => [name, history[name][index]])));
  });
  draw();
}

// One more second.
export function append(at, values) {
  add(at, values);
  if (isShown) plots.forEach(update);
}

export function shown(value) {
  isShown = value;
  if (isShown && columns !== null) draw();
}

function data(chart) {
  return [columns.at, ...chart.series.map(([name]) => columns[name])];
}

function update(plot) {
  const end = columns.at.at(-1) ?? Date.now() / 1000;
  plot.uplot.setData(data(plot.chart), false);
  plot.uplot.batch(() => {
    const begin = Math.max(end - SPAN, Math.min(columns.at[0] ?? end, end - SPAN_MIN));
    plot.uplot.setScale('x', { min: begin, max: end });
    const most = Math.max(...plot.chart.series.map(([name]) => columns[name].reduce((most, value) => Math.max(most, value ?? 0), 0)));
    plot.uplot.setScale('y', { min: 0, max: most > 0 ? most * 1.12 : 1 });
  });
  legend(plot, plot.uplot.cursor.idx);
}

// Says in words what the lines are at the cursor, or at their end.
function legend(plot, index) {
  const at = index ?? columns.at.length - 1;
  const values = plot.chart.series.map(([name]) => columns[name][at] ?? 0);
  plot.values.forEach((value, place) => write(value, plot.chart.format(values[place])));
  const time = index === null || index === undefined ? 'now' : new Date(columns.at[at] * 1000).toLocaleTimeString('en-GB');
  write(plot.time, time);
}

function draw() {
  plots.forEach(({ uplot }) => uplot.destroy());
  plots = [];
  if (!isShown || columns === null) return;
  plots = CHARTS.map(create);
  plots.forEach(update);
}

function create(chart) {
  const figure = byId(chart.id);
  const values = chart.series.map(() => el('b'));
  const time = el('span', { class: 'muted' });
  const keys = chart.series.map(([, label, line], at) => el('span', { class: `key ${line.slice(2)}` }, `${label} `, values[at]));
  const canvas = el('div', { 'aria-hidden': 'true' });
  figure.replaceChildren(el('figcaption', {}, el('h2', {}, chart.title), el('p', { class: 'keys' }, ...keys, time)), canvas);
  const axis = { stroke: colour('--muted'), grid: { stroke: colour('--grid'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
  const plot = { chart, values, time };
  plot.uplot = new uPlot({
    width: Math.max(canvas.clientWidth, 100),
    height: HEIGHT,
    padding: [8, 6, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: 'charts' }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true, auto: false }, y: { auto: false } },
    axes: [
      { ...axis, size: 24, space: 70, incrs: [60, 120, 300, 600, 900], values: '{HH}:{mm}' },
      { ...axis, size: 56, space: 36, incrs: chart.steps, values: (_, splits) => splits.map(chart.format) },
    ],
    series: [{}, ...chart.series.map(([, , line]) => ({
      stroke: colour(line), width: 1.5, points: { show: false },
      fill: chart.series.length === 1 ? colour('--line-1-fill') : undefined,
    }))],
    hooks: { setCursor: [(uplot) => plot.uplot && legend(plot, uplot.cursor.idx)] },
  }, data(chart), canvas);
  return plot;
}

export function start() {
  // A canvas has its colours and its size from when it was drawn.
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  let timer;
  addEventListener('resize', () => {
    clearTimeout(timer);
    timer = setTimeout(draw, 150);
  });
}
