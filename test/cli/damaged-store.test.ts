/** A damaged store as users meet it: `serve --read-only`, `export --damaged`, `status`, and real NBD clients. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { temporaryDirectory } from '../server/served.ts';
import { runTool, tool } from '../support/programs.ts';
import { requireTools } from '../support/tools.ts';
import { ok, run, serve, stop } from './command.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const MIB = 2 ** 20;
const SIZE = 8 * MIB;
const CHUNK = 4096;
const root = temporaryDirectory();
const image = randomBytes(SIZE);
let stores = 0;

afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

/** A store of one volume and its snapshot, of which a segment in the middle is gone, and the header of the last one. */
async function damagedStore(): Promise<string> {
  const store = path.join(root, `store-${stores++}`);
  await ok(store, ['init', '--segment-size', '1M']);
  await ok(store, ['import', 'disk', '-', '--size', '8M'], { input: image });
  await ok(store, ['snapshot', 'disk@a']);
  const files = fs.readdirSync(path.join(store, 'log')).map((name) => path.join(store, 'log', name));
  fs.writeFileSync(files[3]!, fs.readFileSync(files[3]!).fill(0xff));
  // Nothing leads to the end of the log any more: that is what the usual opening refuses.
  fs.writeFileSync(files.at(-1)!, fs.readFileSync(files.at(-1)!).fill(0xff, 0, 4096));
  return store;
}

/** Files and their times, but what is made and removed while the store is served. */
function treeOf(store: string): string[] {
  return fs
    .readdirSync(store, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'store.lock')
    .map((entry) => {
      const file = path.join(entry.parentPath, entry.name);
      const { mtimeMs, size } = fs.statSync(file);
      return `${file} ${size} ${mtimeMs}`;
    })
    .sort();
}

/** How many chunks are right, and how many are zeros where the image has none. */
function compare(found: Buffer): { right: number; zeros: number } {
  expect(found.length).toBe(SIZE);
  let [right, zeros] = [0, 0];
  for (let at = 0; at < SIZE; at += CHUNK) {
    const chunk = found.subarray(at, at + CHUNK);
    if (chunk.equals(image.subarray(at, at + CHUNK))) right += 1;
    else if (chunk.every((byte) => byte === 0)) zeros += 1;
  }
  return { right, zeros };
}

describe.skipIf(!requireTools(['nbdinfo', 'qemu-io', 'qemu-img']))('a store that lost a segment', () => {
  it('is refused by serve, and served --read-only to real clients as far as it is whole', async () => {
    const store = await damagedStore();
    const before = treeOf(store);
    const server = await serve(store, ['--read-only']);
    await server.until(() => server.out !== '', 'the URI');
    const uri = server.out.trim();
    expect(await tool('nbdinfo', [uri])).toContain('is_read_only: true');
    let [right, errors] = [0, 0];
    const file = path.join(root, 'piece');
    for (let at = 0; at < SIZE; at += 256 * 1024) {
      // What qemu reads is compared with what was written.
      const { output } = await runTool('qemu-io', ['-r', '-f', 'raw', '-c', `read -v ${at} 512`, uri]);
      if (/Input\/output error/.test(output)) {
        errors += 1;
        continue;
      }
      const bytes = output.match(/^[0-9a-f]{8}: {2}((?:[0-9a-f]{2} ){16})/gm)!;
      const hex = bytes.map((line) => line.slice(11, 58).replaceAll(' ', '')).join('');
      expect(hex).toBe(image.subarray(at, at + 512).toString('hex'));
      right += 1;
    }
    expect(errors).toBeGreaterThan(0);
    expect(right).toBeGreaterThan(errors);
    const written = await runTool('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri]);
    expect(written.output).toMatch(/permission denied|read-only|not permitted/i);
    const convert = await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, file]);
    expect(convert.result).not.toBe(0);
    for (const change of [['snapshot', 'disk@b'], ['delete', 'disk@a'], ['compact']]) {
      const { code, err } = await run(['--store', store, ...change]);
      expect(code, change.join(' ')).toBe(1);
      expect(err).toContain('read-only');
    }
    expect(await ok(store, ['status'])).toMatch(/state: +read-only[^]*damage: +.*LOG_SEGMENT_LOST/);
    expect(JSON.parse(await ok(store, ['list', '--json']))).toMatchObject([
      { name: 'disk' },
      { name: 'disk@a' },
    ]);
    expect((await run(['--store', store, 'scrub'])).code).toBe(4);
    const { code, err } = await stop(server);
    expect(code).toBe(0);
    expect(err).toMatch(/"level":50.*LOG_SEGMENT_LOST/);
    expect(treeOf(store)).toEqual(before);
    const refused = await run(['--store', store, 'serve']);
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(/damaged.*serve --read-only/);
  });

  it('is exported with --damaged, with zeros for what is lost, each range of it told', async () => {
    const store = await damagedStore();
    const usual = await run(['--store', store, 'export', 'disk', path.join(root, 'usual.raw')]);
    expect(usual.code).toBe(1);
    expect(fs.existsSync(path.join(root, 'usual.raw'))).toBe(false);
    const before = treeOf(store);
    const outcomes: { right: number; zeros: number }[] = [];
    const file = path.join(root, 'out.raw');
    const toFile = await run(['--store', store, '--json', 'export', '--damaged', 'disk', file]);
    expect(toFile.code).toBe(4);
    expect(toFile.err).toMatch(/damage: .*\[LOG_SEGMENT_LOST\]/);
    expect(toFile.err).toMatch(/\d+ bytes at \d+ cannot be read, and are zeros in the image/);
    const told = (JSON.parse(toFile.out) as { unreadable: { offset: number; length: number }[] }).unreadable;
    outcomes.push(compare(fs.readFileSync(file)));
    const toStream = await run(['--store', store, 'export', '--damaged', 'disk@a', '-']);
    expect(toStream.code).toBe(4);
    outcomes.push(compare(toStream.bytes));
    const server = await serve(store, ['--read-only']);
    const served = await run(['--store', store, 'export', '--damaged', 'disk', '-']);
    expect(served.code).toBe(4);
    outcomes.push(compare(served.bytes));
    expect((await stop(server)).code).toBe(0);
    const lostBytes = told.reduce((sum, { length }) => sum + length, 0);
    for (const { right, zeros } of outcomes) {
      expect(zeros * CHUNK).toBe(lostBytes);
      expect(right + zeros).toBe(SIZE / CHUNK);
      expect(zeros).toBeGreaterThan(10);
      expect(right).toBeGreaterThan(zeros);
    }
    expect(treeOf(store)).toEqual(before);
  });
});

it('a whole store is exported with --damaged like any other', async () => {
  const store = path.join(root, `store-${stores++}`);
  await ok(store, ['init']);
  await ok(store, ['import', 'disk', '-', '--size', '8M'], { input: image });
  const { code, bytes, err } = await run(['--store', store, 'export', '--damaged', 'disk', '-']);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  expect(bytes.equals(image)).toBe(true);
});
