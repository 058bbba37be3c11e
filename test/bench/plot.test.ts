/** The picture of a benchmark. */

import { describe, expect, it } from 'vitest';
import { plot } from '../../tools/bench/plot.ts';
import { summarize } from '../../tools/bench/summary.ts';
import { latency, samples } from './samples.ts';

const SUMMARIES = summarize([
  ...samples('randread-qd32', 'coppice', [50, 100, 150], latency(100, 1000, 10_000)),
  ...samples('randread-qd32', 'qemu-raw', [75], latency(100, 1000, 10_000)),
  ...samples('boot', 'coppice', [2]),
]);

describe('the plot', () => {
  const svg = plot('a <title> & more', SUMMARIES);

  it('is one SVG with whatever it is told escaped', () => {
    expect(svg).toMatch(/^<svg .*>\n[^]*<\/svg>\n$/);
    expect(svg).toContain('a &#60;title&#62; &#38; more');
    expect(svg.match(/<(text|style|title)\b/g)!.length).toBe(svg.match(/<\/(text|style|title)>/g)!.length);
  });

  it('has a bar for each peer, in proportion to the longest spread of its load', () => {
    const widths = [...svg.matchAll(/<rect x="160" [^>]* width="([\d.]+)"/g)].map(([, width]) =>
      Number(width),
    );
    expect(widths).toHaveLength(3);
    expect(widths[0]! / widths[1]!).toBeCloseTo(100 / 75, 2);
  });

  it('has latencies in order, and none where there are none', () => {
    const at = [...svg.matchAll(/<circle cx="([\d.]+)"/g)].map(([, x]) => Number(x));
    expect(at).toHaveLength(6);
    expect(at[1]! - at[0]!).toBeCloseTo(at[2]! - at[1]!, 0);
  });

  it('says where less is better', () => {
    expect(svg.match(/less is better/g)).toHaveLength(1);
  });

  it('draws nothing of nothing', () => {
    expect(plot('empty', [])).toContain('empty');
  });
});
