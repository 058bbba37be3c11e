// A picture of all that was measured, as SVG: for each load a bar for each peer, with the spread of its rounds, beside it
// its latencies from the median to p99.9 on one logarithmic scale, and the CPU time of its server. No I/O.

import { number } from './report.ts';
import type { Summary } from './summary.ts';

const WIDTH = 1000;
const MARGIN = 16;
const TITLE_HEIGHT = 30;
const ROW_HEIGHT = 18;
const BAR_HEIGHT = 11;
const GAP = 14;
/** Where columns begin and end, in pixels. */
const BARS = { from: 160, to: 500 };
const VALUE_AT = 600;
const LATENCIES = { from: 640, to: 880 };
const CPU_AT = 984;
const LATENCY_TICKS_US = [10, 100, 1_000, 10_000, 100_000];
const COLOURS = { own: '#2f6f4f', other: '#a9b4bd', ink: '#24292f', pale: '#6b7480', line: '#e4e7ea' };
const STYLE = `text{font:11px sans-serif;fill:${COLOURS.ink}}.title{font-weight:bold}.pale{fill:${COLOURS.pale}}.end{text-anchor:end}`;

export function plot(title: string, summaries: readonly Summary[]): string {
  const parts: string[] = [];
  let y = MARGIN + TITLE_HEIGHT;
  for (const load of new Set(summaries.map((summary) => summary.load))) {
    const ofLoad = summaries.filter((summary) => summary.load === load);
    const isSlower = ofLoad[0]!.unit === 's';
    const note = isSlower ? 'less is better' : '';
    parts.push(text(MARGIN, y + 12, ofLoad[0]!.title, 'title'), text(BARS.from + 230, y + 12, note, 'pale'));
    if (ofLoad.some(({ figures }) => figures.p50Us !== undefined))
      parts.push(...latencyScale(y, ofLoad.length));
    y += ROW_HEIGHT;
    const most = Math.max(...ofLoad.map(({ figures }) => figures.value?.max ?? 0));
    for (const summary of ofLoad) {
      parts.push(...row(summary, y, most));
      y += ROW_HEIGHT;
    }
    parts.push(line(MARGIN, y + GAP / 2, WIDTH - MARGIN, y + GAP / 2, COLOURS.line), `<!-- ${load} -->`);
    y += GAP;
  }
  const head = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + MARGIN}" viewBox="0 0 ${WIDTH} ${y + MARGIN}">`,
    `<style>${STYLE}</style><rect width="100%" height="100%" fill="white"/>`,
    text(MARGIN, MARGIN + 6, title, 'title'),
    text(LATENCIES.from, MARGIN + 22, 'latency: p50, p99, p99.9 in us', 'pale'),
    text(CPU_AT, MARGIN + 22, 'CPU s/100k', 'pale end'),
  ];
  return `${[...head, ...parts, '</svg>'].join('\n')}\n`;
}

function row({ peer, unit, figures }: Summary, y: number, most: number): string[] {
  const { value, p50Us, p99Us, p999Us, cpuPer100k } = figures;
  if (value === undefined) return [];
  const colour = peer.startsWith('coppice') ? COLOURS.own : COLOURS.other;
  const x = (amount: number): number => BARS.from + ((BARS.to - BARS.from) * amount) / most;
  const middle = y + BAR_HEIGHT / 2;
  const parts = [
    text(MARGIN, y + 10, peer),
    rect(BARS.from, y, x(value.median) - BARS.from, BAR_HEIGHT, colour),
    line(x(value.min), middle, x(value.max), middle, COLOURS.ink),
    text(VALUE_AT, y + 10, `${number(value.median)} ${unit}`, 'end'),
  ];
  if (cpuPer100k !== undefined) parts.push(text(CPU_AT, y + 10, number(cpuPer100k.median), 'pale end'));
  if (p50Us === undefined || p99Us === undefined || p999Us === undefined) return parts;
  parts.push(line(latencyX(p50Us.median), middle, latencyX(p999Us.median), middle, colour));
  [p50Us, p99Us, p999Us].forEach(({ median }, i) =>
    parts.push(
      `<circle cx="${round(latencyX(median))}" cy="${round(middle)}" r="${4 - i}" fill="${colour}"><title>${number(median)} us</title></circle>`,
    ),
  );
  return parts;
}

function latencyScale(y: number, rows: number): string[] {
  return LATENCY_TICKS_US.flatMap((us) => [
    line(latencyX(us), y + ROW_HEIGHT - 4, latencyX(us), y + (rows + 1) * ROW_HEIGHT, COLOURS.line),
    text(latencyX(us) + 2, y + 12, us >= 1000 ? `${us / 1000} ms` : `${us}`, 'pale'),
  ]);
}

function latencyX(us: number): number {
  const [least, most] = [LATENCY_TICKS_US[0]!, LATENCY_TICKS_US.at(-1)!];
  const part = Math.log(Math.min(most, Math.max(least, us)) / least) / Math.log(most / least);
  return LATENCIES.from + part * (LATENCIES.to - LATENCIES.from);
}

const round = (pixels: number): string => pixels.toFixed(1).replace(/\.0$/, '');

function text(x: number, y: number, words: string, style = ''): string {
  const escaped = words.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  return words === '' ? '' : `<text x="${round(x)}" y="${round(y)}" class="${style}">${escaped}</text>`;
}

function rect(x: number, y: number, width: number, height: number, colour: string): string {
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(Math.max(1, width))}" height="${height}" rx="2" fill="${colour}"/>`;
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}"/>`;
}
