/** `coppice fsck` and the program of its own, as child processes: exit codes, and one clear sentence for what cannot be checked. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Store } from '../../src/volume/store.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { onStore, scratchDirectory, write } from '../support/stores.ts';
import { MAIN, ok, run, Running, serve, stop } from './command.ts';
import { WholeStore } from './whole-store.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const FSCK = path.resolve(import.meta.dirname, '../../dist/tools/fsck/main.js');
const CHUNK = 4096;
const original = new WholeStore();
const { directory, whole } = original;

beforeAll(() => original.make());
afterAll(() => original.remove());

function edit(file: string, change: (bytes: Buffer) => void): void {
  const bytes = fs.readFileSync(file);
  change(bytes);
  fs.writeFileSync(file, bytes);
}

/** Flips a byte of a chunk of the image, wherever it lies. */
function damageChunk(store: string, chunk: number): void {
  for (const name of fs.readdirSync(path.join(store, 'log'))) {
    const file = path.join(store, 'log', name);
    const at = fs.readFileSync(file).indexOf(Buffer.alloc(CHUNK, `chunk ${chunk} `));
    if (at >= 0) edit(file, (bytes) => void (bytes[at + 9]! ^= 1));
  }
}

async function runAlone(args: readonly string[]) {
  const running = new Running(FSCK, args);
  running.child.stdin!.end();
  return await running.ended;
}

/** Neither the log, nor the superblock, nor the index. */
function contentOf(store: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of fs.readdirSync(store, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) found.set(file, fs.readFileSync(file).toString('base64'));
  }
  return found;
}

describe('a store that is whole', () => {
  it('is clean with 0, also quick and read-only, and not a byte of it has changed', async () => {
    const before = contentOf(whole);
    for (const options of [[], ['--quick'], ['--read-only'], ['--quick', '--read-only']]) {
      expect(await run(['--store', whole, 'fsck', ...options])).toMatchObject({
        code: 0,
        out: 'clean\n',
        err: '',
      });
      expect(await runAlone(['--store', whole, ...options])).toMatchObject({
        code: 0,
        out: 'clean\n',
        err: '',
      });
    }
    expect(contentOf(whole)).toEqual(before);
  });
});

describe('damage', () => {
  it('ends with 4, and says whom it reaches and that nothing mends it', async () => {
    const store = original.copy();
    damageChunk(store, 7);
    const { code, out } = await run(['--store', store, 'fsck']);
    expect(out).toMatch(
      /^damage: segment \d+, sequence \d+: chunk 7 of disk@monday has a wrong checksum \[CHUNK_DAMAGED\]$/m,
    );
    for (const name of ['disk@monday', 'disk', 'copy'])
      expect(out).toContain(`  affects ${name}: 4 KiB at 28672\n`);
    expect(out).toContain('  nothing mends it: what was there is gone\n1 finding\n');
    expect(code).toBe(4);
    const json = await runAlone(['--store', store, '--json']);
    const [finding] = JSON.parse(json.out) as Finding[];
    expect(finding).toMatchObject({
      code: 'CHUNK_DAMAGED',
      mend: 'none',
      affects: [{ volume: 'disk', snapshot: 'monday' }, { volume: 'disk' }, { volume: 'copy' }],
    });
    expect(json.code).toBe(4);
    // Payloads are what a quick check does not read.
    expect((await run(['--store', store, 'fsck', '--quick'])).code).toBe(0);
  });

  it('of both copies of the superblock is one finding, and the rest is checked all the same', async () => {
    const store = original.copy();
    edit(path.join(store, 'superblock'), (bytes) => void bytes.fill(0x55));
    damageChunk(store, 7);
    const { code, out, err } = await run(['--store', store, 'fsck', '--json']);
    const codes = (JSON.parse(out) as Finding[]).map((each) => each.code);
    expect([code, codes, err]).toEqual([4, ['SUPERBLOCK_LOST', 'CHUNK_DAMAGED'], '']);
  });

  it('of a missing segment is one finding for it, and one for what is behind it', async () => {
    const store = original.copy();
    fs.rmSync(path.join(store, 'log', '0000000002.seg'));
    const { code, out } = await run(['--store', store, 'fsck']);
    expect(out).toMatch(/^damage: segment 2 is missing: .* are gone \[SEGMENT_MISSING\]$/m);
    expect(out).toMatch(/^damage: segments 3, 4.* cut off from the log.* \[LOG_SEGMENT_LOST\]$/m);
    expect(code).toBe(4);
  });

  it('of a missing segment that compaction has made is one finding, though something zeroed stands before what is lost', async () => {
    const directory = scratchDirectory();
    await Store.init(directory, { segmentBytes: 1 << 20 });
    const store = await Store.open(directory);
    await store.createVolume('disk', 4 << 20);
    const mark = Buffer.from('in the segment that is lost');
    await onStore(store, 'disk', (device) => write(device, 0, Buffer.alloc(3 << 20, mark)));
    await store.snapshot(['disk@s']);
    for await (const _ of store.compact({ target: 0.98, purge: true, bytesPerSecond: undefined }));
    await onStore(store, 'disk', (device) => device.zero(0, 3 << 20, false));
    await store.close();
    const log = path.join(directory, 'log');
    const holding = fs
      .readdirSync(log)
      .filter((name) => fs.readFileSync(path.join(log, name)).includes(mark));
    expect(holding.length).toBeGreaterThan(2);
    fs.rmSync(path.join(log, holding[1]!));
    const { code, out } = await run(['--store', directory, 'fsck', '--json']);
    expect((JSON.parse(out) as Finding[]).map((each) => each.code)).toEqual(['SEGMENT_MISSING']);
    expect(code).toBe(4);
    // The index is good, and knows what is lost.
    expect((await run(['--store', directory, 'fsck', '--repair'])).code).toBe(4);
    fs.rmSync(directory, { recursive: true });
  });
});

describe('what cannot be checked', () => {
  it.each([
    ['a directory that is not there', 'none'],
    ['a directory without a store', '.'],
    ['a file', 'disk.raw'],
  ])('%s ends with 8', async (_, name) => {
    const store = path.join(directory, name);
    for (const ended of [
      await run(['--store', store, 'fsck']),
      await runAlone(['--store', store, '--read-only']),
    ]) {
      expect(ended).toMatchObject({ code: 8, out: '' });
      expect(ended.err).toMatch(/^(coppice|fsck): [^\n]*(holds no store|is a file)[^\n]*\n$/);
    }
  });

  it('a store of nothing but damage ends with 8', async () => {
    const store = original.copy();
    edit(path.join(store, 'superblock'), (bytes) => void bytes.fill(0x55));
    for (const name of fs.readdirSync(path.join(store, 'log')))
      edit(path.join(store, 'log', name), (bytes) => void bytes.fill(0x55));
    const ended = await run(['--store', store, 'fsck']);
    expect(ended).toMatchObject({
      code: 8,
      out: '',
      err: expect.stringContaining('says which store this is'),
    });
  });

  it('a wrong option ends with 16', async () => {
    for (const args of [['--frobnicate'], ['surplus']]) {
      expect(await run(['--store', whole, 'fsck', ...args])).toMatchObject({ code: 16, out: '' });
      expect(await runAlone(['--store', whole, ...args])).toMatchObject({ code: 16, out: '' });
    }
    expect((await run(['--store', '', 'fsck'])).code).toBe(16);
    expect((await run(['fsck', '--help'])).code).toBe(0);
  });
});

describe('a store in use', () => {
  it('by a server is checked by the server, or looked at as it is', async () => {
    const store = original.copy();
    const server = await serve(store);
    expect(await ok(store, ['fsck'])).toBe('clean\n');
    expect(await ok(store, ['fsck', '--quick'])).toBe('clean\n');
    const { code, out } = await run(['--store', store, 'fsck', '--read-only']);
    expect(out).toMatch(
      new RegExp(`^note: the store is in use by process ${server.child.pid} since .*the middle of a change`),
    );
    expect(out).toContain('[STORE_IN_USE]');
    expect(out).toContain('[INDEX_NOT_COMPARED]');
    expect(code).toBe(0);
    await stop(server);
  });

  it('by another command is refused with its owner, and looked at with --read-only', async () => {
    const store = original.copy();
    const owner = new Running(MAIN, ['--store', store, 'import', 'other', '-', '--size', '16M']);
    owner.child.stdin!.write(Buffer.alloc(5 << 20, 1));
    await owner.until(() => fs.readFileSync(path.join(store, 'store.lock'), 'utf8') !== '', 'the lock');
    const refused = await run(['--store', store, 'fsck']);
    expect(refused.err).toMatch(new RegExp(`in use by process ${owner.child.pid} since .*--read-only\\n$`));
    expect(refused).toMatchObject({ code: 8, out: '' });
    const looked = await run(['--store', store, 'fsck', '--read-only']);
    expect(looked.out).toContain(`in use by process ${owner.child.pid}`);
    owner.child.stdin!.end();
    await owner.ended;
  });
});

it('is stopped by Ctrl-C with 32, and leaves the store as it was and unlocked', async () => {
  const store = path.join(directory, 'large');
  await ok(store, ['init']);
  const input = Buffer.alloc(64 << 20, 'y');
  for (const name of ['a', 'b', 'c']) await ok(store, ['import', name, '-', '--size', '64M'], { input });
  const running = new Running(MAIN, ['--store', store, 'fsck', '--json']);
  await running.until(() => fs.readFileSync(path.join(store, 'store.lock'), 'utf8') !== '', 'the lock');
  running.child.kill('SIGINT');
  const { code, out, err } = await running.ended;
  expect([code, err]).toEqual([32, 'coppice: stopped by SIGINT; nothing was changed\n']);
  if (out !== '') expect(JSON.parse(out)).toEqual([]);
  expect((await run(['--store', store, 'fsck'])).code).toBe(0);
});
