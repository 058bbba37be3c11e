/** `coppice fsck --repair` as a child process: exit codes, what it says, and that a served store is left alone. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Finding } from '../../src/volume/summary.ts';
import { ok, run, serve, stop } from './command.ts';
import { WholeStore } from './whole-store.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const original = new WholeStore();
const { directory, whole } = original;

beforeAll(() => original.make());
afterAll(() => original.remove());

const segmentOf = (store: string, segment: number): string =>
  path.join(store, 'log', `${String(segment).padStart(10, '0')}.seg`);

function fill(file: string, from: number, to: number): void {
  const bytes = fs.readFileSync(file);
  bytes.fill(0x55, from, to);
  fs.writeFileSync(file, bytes);
}

/** Names and contents of all that counts. */
function contentOf(store: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of fs.readdirSync(store, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) found.set(file, fs.readFileSync(file).toString('base64'));
  }
  return found;
}

describe('fsck --repair', () => {
  it('leaves a whole store as it is, and ends with 0', async () => {
    const store = original.copy();
    const before = contentOf(store);
    expect(await run(['--store', store, 'fsck', '--repair'])).toMatchObject({
      code: 0,
      out: 'clean\n',
      err: '',
    });
    expect(contentOf(store)).toEqual(before);
  });

  it('ends with 1 where all of it is mended, keeps what it has replaced, and all reads as before', async () => {
    const store = original.copy();
    fill(segmentOf(store, 2), 0, 100);
    fill(path.join(store, 'superblock'), 0, 8192);
    const { code, out, err } = await run(['--store', store, 'fsck', '--repair']);
    expect({ code, err }).toEqual({ code: 1, err: '' });
    expect(out).toContain('[SUPERBLOCK_LOST]\n');
    expect(out).toContain('2 findings\nwhat is left is read\n');
    expect(out).toMatch(/^repaired: the log was made anew: \d+ segments stay, .* none is lost$/m);
    expect(out).toMatch(/^replaced-\d+, in the directory of the store, has what was replaced; remove it/m);
    expect(out).toMatch(/\nclean\n$/);
    const [replaced] = fs.readdirSync(store).filter((name) => name.startsWith('replaced-'));
    expect(fs.readFileSync(path.join(store, replaced!, '0000000002.seg')).subarray(0, 100)).toEqual(
      Buffer.alloc(100, 0x55),
    );
    expect(await run(['--store', store, 'fsck'])).toMatchObject({ code: 0, out: 'clean\n' });
    const raw = path.join(directory, 'back.raw');
    await ok(store, ['export', 'copy', raw]);
    expect(fs.readFileSync(raw).equals(fs.readFileSync(original.image))).toBe(true);
  });

  it('ends with 4 where something is lost, and names it by volume, snapshot and extent', async () => {
    const store = original.copy();
    fs.rmSync(segmentOf(store, 2));
    const { code, out } = await run(['--store', store, 'fsck', '--repair']);
    expect(code).toBe(4);
    for (const name of ['disk@monday', 'disk', 'copy'])
      expect(out).toMatch(new RegExp(`^lost: ${name}: .* KiB at \\d+`, 'm'));
    const json = await run(['--store', store, 'fsck', '--repair', '--json']);
    const told = JSON.parse(json.out) as { found: Finding[]; left: Finding[]; state: string };
    expect(told).toMatchObject({ state: 'left', found: [{ code: 'CHUNK_DAMAGED', mend: 'none' }] });
    expect(told.left).toEqual(told.found);
    expect(json.code).toBe(4);
    // What was lost is an error to whoever reads it.
    expect((await run(['--store', store, 'export', 'copy', path.join(directory, 'not.raw')])).code).toBe(1);
  });

  it('is refused where nobody knows what is lost, says what that means, and goes on if it is told to', async () => {
    const store = original.copy();
    fs.rmSync(path.join(store, 'index'), { recursive: true });
    fs.rmSync(segmentOf(store, 2));
    const before = contentOf(store);
    const refused = await run(['--store', store, 'fsck', '--repair']);
    expect(refused.code).toBe(8);
    expect(refused.err).toMatch(
      /^coppice: [^\n]*DISKS MAY READ AS THEY WERE BEFORE[^\n]*--accept-old-data[^\n]*\n$/,
    );
    expect(contentOf(store)).toEqual(before);
    const accepted = await run(['--store', store, 'fsck', '--repair', '--accept-old-data']);
    expect(accepted.out).toMatch(/^lost, and nobody can say what: .*\nclean\n$/ms);
    expect(accepted.code).toBe(4);
  });

  it.each([[['--quick']], [['--read-only']]])(
    'and %s are wrong usage, which ends with 16',
    async (options) => {
      const ended = await run(['--store', whole, 'fsck', '--repair', ...options]);
      expect(ended).toMatchObject({ code: 16, out: '' });
      expect(ended.err).toMatch(/^coppice: a repair [^\n]*: leave out --(quick|read-only)\n$/);
      expect((await run(['--store', whole, 'fsck', '--accept-old-data'])).code).toBe(16);
    },
  );

  it('of a store that is served ends with 8, and says to stop the server', async () => {
    const store = original.copy();
    const server = await serve(store);
    const { code, err } = await run(['--store', store, 'fsck', '--repair']);
    expect(code).toBe(8);
    expect(err).toMatch(/^coppice: the store is in use by process \d+ [^\n]*stop the server[^\n]*\n$/);
    await stop(server);
  });

  it('of what is no store ends with 8', async () => {
    expect((await run(['--store', path.join(directory, 'none'), 'fsck', '--repair'])).code).toBe(8);
  });
});
