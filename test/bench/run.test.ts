/** A small run of the benchmark, with real servers and fio. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Results } from '../../tools/bench/results.ts';
import { runTool } from '../support/programs.ts';
import { requireTools } from '../support/tools.ts';

const BENCH = path.resolve(import.meta.dirname, '../../dist/tools/bench/main.js');
const TEST_MS = 180_000;

const scratch = mkdtempSync(path.join(os.tmpdir(), 'bench-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function bench(args: string): ReturnType<typeof runTool> {
  const places = ['--dir', scratch, '--json', path.join(scratch, 'out.json')];
  return runTool(process.execPath, [BENCH, ...places, ...args.split(' ')], { waitMs: TEST_MS });
}

describe('the benchmark', () => {
  it('lists what it measures and what is promised', async () => {
    const { result, output } = await bench('--list');
    expect(result).toBe(0);
    expect(output).toContain('randwrite-after-snapshot');
    expect(output).toContain('at least 25x of qemu-qcow2');
  });

  it('refuses a load that there is not', async () => {
    const { result, output } = await bench('--loads randwrite-qd32,nonsense');
    expect(result).toBe(2);
    expect(output).toContain('"nonsense" is none of');
  });
});

describe.skipIf(!requireTools(['fio', 'qemu-nbd', 'qemu-img']))('a small run', () => {
  it(
    'measures servers and a file in turn, tells what is promised, draws, and leaves nothing behind',
    async () => {
      const what = '--loads write-flush-qd1,randwrite-after-snapshot --peers coppice,qemu-qcow2,file';
      const picture = path.join(scratch, 'out.svg');
      const { result, output } = await bench(`${what} --size 16M --rounds 1 --seconds 1 --plot ${picture}`);
      expect(output).toContain('at least 25x of qemu-qcow2');
      expect(result).toBe(0);
      const { summaries, floors, samples } = JSON.parse(
        readFileSync(path.join(scratch, 'out.json'), 'utf8'),
      ) as Results;
      expect(summaries.map(({ load, peer }) => `${load} ${peer}`)).toEqual([
        'write-flush-qd1 coppice',
        'write-flush-qd1 qemu-qcow2',
        'write-flush-qd1 file',
        'randwrite-before-snapshot coppice',
        'randwrite-before-snapshot qemu-qcow2',
        'randwrite-after-snapshot coppice',
        'randwrite-after-snapshot qemu-qcow2',
      ]);
      for (const { value, latency, flush, load } of samples) {
        expect(value).toBeGreaterThan(0);
        expect(latency!.p50Us).toBeLessThanOrEqual(latency!.p999Us);
        expect(flush === undefined).toBe(load !== 'write-flush-qd1');
      }
      expect(samples.filter(({ serverCpuSeconds }) => serverCpuSeconds === undefined)).toHaveLength(1);
      expect(floors.map(({ over, measured }) => [Object.values(over)[0], measured === undefined])).toEqual([
        ['randwrite-before-snapshot', false],
        ['qemu-qcow2', false],
        ['file', false],
      ]);
      expect(readdirSync(scratch).sort()).toEqual(['out.json', 'out.svg']);
      expect(readFileSync(picture, 'utf8')).toContain('</svg>');
    },
    TEST_MS,
  );
});
