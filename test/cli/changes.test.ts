/** Commands in this process, over a store in memory that a server has: what they wait for, and the words they take. */

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { runCommandLine } from '../../src/cli/program.ts';
import { parseTime } from '../../src/cli/removal-commands.ts';
import type { DiffExtent } from '../../src/volume/summary.ts';
import { MemoryStore } from '../server/memory-store.ts';
import { serveMemory, temporaryDirectory } from '../server/served.ts';

const CHUNK = 4096;
const MIB = 2 ** 20;
let store: MemoryStore;
let end: () => Promise<void>;
let said = '';
let complained = '';

beforeEach(async () => {
  store = new MemoryStore();
  const served = await serveMemory(store, temporaryDirectory());
  end = served.end;
  await served.door.create('disk', MIB);
  await served.door.snapshot(['disk@a']);
  vi.stubEnv('COPPICE_STORE', served.socketFile.replace(/\/[^/]*$/, ''));
  said = '';
  complained = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    said += text.toString();
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    complained += text.toString();
    return true;
  });
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await end();
});

async function coppice(...args: string[]): Promise<number> {
  return await runCommandLine(args, '0.0.0');
}

describe('a change', () => {
  const CHANGES = [
    ['create', 'new', '--size', '1M'],
    ['snapshot', 'disk@b'],
    ['clone', 'disk@a', 'copy'],
    ['rename', 'disk@b', 'disk@c'],
    ['resize', 'disk', '2M'],
    ['priority', 'disk@a', '-5'],
    ['release', 'disk@a', '--owner', 'me'],
    ['rollback', 'disk@a'],
    ['delete', 'disk@a'],
  ];

  it('is on the disk before it is reported, unless --no-sync says that it need not be', async () => {
    for (const args of CHANGES) {
      said = '';
      let saidBefore: string | undefined;
      store.flush = async () => {
        saidBefore = said;
      };
      expect(await coppice(...args)).toBe(0);
      expect({ saidBefore, complained }, args.join(' ')).toEqual({ saidBefore: '', complained: '' });
      expect(said).not.toBe('');
    }
    store.flush = async () => {
      throw new Error('nobody asked for it');
    };
    for (const args of [
      ['snapshot', 'disk@x'],
      ['rename', 'disk@x', 'disk@y'],
      ['delete', 'disk@y'],
    ]) {
      said = '';
      expect(await coppice(...args, '--no-sync')).toBe(0);
      expect(said).not.toBe('');
    }
    expect(await coppice('list')).toBe(0);
  });

  it('that did not get to the disk is not reported as done', async () => {
    store.flush = async () => {
      throw new StoreError('POISONED', 'a sync failed');
    };
    for (const args of CHANGES) {
      said = '';
      complained = '';
      expect(await coppice(...args)).toBe(1);
      expect(said).toBe('');
      expect(complained).toMatch(/^coppice: a sync failed; .*\n$/);
    }
  });

  it('says what it was told, and no more', async () => {
    expect(await coppice('delete', 'disk@a', '--force')).toBe(0);
    expect(await coppice('resize', 'disk', '--size', '512K', '--shrink')).toBe(0);
    expect(await coppice('hold', 'disk', '--owner', 'me', '--reason', 'why')).toBe(0);
    expect(await coppice('priority', 'disk', '+7')).toBe(0);
    expect(store.calls).toEqual([
      ['delete', ['disk@a'], { recursive: false, force: true }],
      ['resize', 'disk', 512 * 1024, { shrink: true, force: false }],
      ['hold', 'disk', { owner: 'me', reason: 'why' }],
      ['setPriority', 'disk', 7],
    ]);
  });
});

describe('a comparison', () => {
  it('of any length is printed whole, one line of JSON for each extent', async () => {
    store.extents = Array.from({ length: 50_000 }, (_, i): DiffExtent => {
      return { offset: i * CHUNK, length: CHUNK, type: i % 2 === 0 ? 'data' : 'hole' };
    });
    expect(await coppice('diff', 'disk@a', 'disk', '--json')).toBe(0);
    const lines = said.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(store.extents);
  });

  it('of what there is not prints nothing but its sentence', async () => {
    for (const json of [[], ['--json']]) {
      expect(await coppice('diff', 'disk@a', 'nobody', ...json)).toBe(1);
      expect(said).toBe('');
    }
    expect(complained.split('\n')).toHaveLength(3);
  });

  it('that fails half-way says so behind what it has printed', async () => {
    store.extents = [{ offset: 0, length: CHUNK, type: 'data' }];
    store.diffFailure = new StoreError('CORRUPTION', 'a row does not match');
    expect(await coppice('diff', 'disk@a', 'disk')).toBe(1);
    expect(said).toMatch(/^ +OFFSET +LENGTH +TYPE\n +0 +4096 +data\n$/);
    expect(complained).toMatch(/^coppice: a row does not match; .*\n$/);
  });
});

describe('the end of a hold', () => {
  const now = Date.parse('2026-06-15T12:00:00Z');

  it.each([
    ['2027-01-31', '2027-01-31T00:00:00.000Z'],
    ['2028-02-29', '2028-02-29T00:00:00.000Z'],
    ['2027-01-31T12:30Z', '2027-01-31T12:30:00.000Z'],
    ['2027-01-31T12:30:15.5Z', '2027-01-31T12:30:15.500Z'],
    ['2027-01-31T12:30:00+02:00', '2027-01-31T10:30:00.000Z'],
    ['90s', '2026-06-15T12:01:30.000Z'],
    ['90m', '2026-06-15T13:30:00.000Z'],
    ['+12h', '2026-06-16T00:00:00.000Z'],
    ['7d', '2026-06-22T12:00:00.000Z'],
    ['2w', '2026-06-29T12:00:00.000Z'],
  ])('%s is %s', (text, expected) => {
    expect(new Date(parseTime(text, now)).toISOString()).toBe(expected);
  });

  it.each([
    '',
    'tomorrow',
    '2027',
    '2027-13-01',
    '2027-02-29',
    '2027-02-31',
    '2027-01-31 12:00',
    '2027-01-31T25:00Z',
    '2027-01-31T12',
    '2027-01-31 (or so)',
    '31.1.2027',
    '-1d',
    '1.5h',
    '9999999d',
    '7y',
    '7 d',
  ])('is not %j', (text) => {
    expect(() => parseTime(text, now)).toThrow(/is no time; write/);
  });
});
