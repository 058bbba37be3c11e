/** What counts as a change between two runs of the benchmark. */

import { describe, expect, it } from 'vitest';
import { type Change, changesSince } from '../../tools/bench/compare.ts';
import { changeTable } from '../../tools/bench/report.ts';
import { summarize } from '../../tools/bench/summary.ts';
import { samples } from './samples.ts';

function changes(before: readonly number[], after: readonly number[]): Change[] {
  const summaries = [before, after].map((values) => summarize(samples('randread-qd32', 'coppice', values)));
  return changesSince(summaries[0]!, summaries[1]!);
}

describe('a comparison of two runs', () => {
  it('is silent within the spread', () => {
    expect(changes([100, 110, 120], [105, 112, 130])).toEqual([]);
    expect(changeTable([])).toContain('nothing has changed');
  });

  it('is silent where the median of one lies within what the other has measured', () => {
    expect(changes([100, 110, 120], [80, 125, 130])).toEqual([]);
    expect(changes([80, 125, 130], [100, 110, 120])).toEqual([]);
  });

  it('tells a change that is larger than both spreads', () => {
    const [change, ...others] = changes([100, 110, 120], [150, 160, 170]);
    expect(others).toEqual([]);
    expect(change).toMatchObject({ load: 'randread-qd32', peer: 'coppice', figure: 'value' });
    expect(changeTable([change!])).toMatch(/110 \(100-120\) +160 \(150-170\) +1\.45x/);
  });

  it('takes single rounds for what they are', () => {
    expect(changes([100], [125])).toEqual([]);
    expect(changes([100], [135])).toHaveLength(1);
  });

  it('passes by what only one run has', () => {
    expect(changesSince([], summarize(samples('randread-qd32', 'coppice', [1])))).toEqual([]);
  });
});
