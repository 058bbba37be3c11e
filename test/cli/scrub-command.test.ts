/** `coppice scrub` as users run it: with a server and without, damage and its exit code, and Ctrl-C. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { temporaryDirectory } from '../server/served.ts';
import { MAIN, ok, run, Running, serve, stop } from './command.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const MIB = 2 ** 20;
const root = temporaryDirectory();
const image = randomBytes(8 * MIB);
let stores = 0;

afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

async function newStore(): Promise<string> {
  const store = path.join(root, `store-${stores++}`);
  await ok(store, ['init', '--segment-size', '1M']);
  await ok(store, ['import', 'disk', '-', '--size', '8M'], { input: image });
  return store;
}

/** Turns a bit of what the disk has at `at`. */
function rot(store: string, at: number): void {
  const log = path.join(store, 'log');
  for (const name of fs.readdirSync(log)) {
    const content = fs.readFileSync(path.join(log, name));
    const found = content.indexOf(image.subarray(at, at + 64));
    if (found < 0) continue;
    content[found]! ^= 1;
    fs.writeFileSync(path.join(log, name), content);
    return;
  }
  throw new Error('it is nowhere in the log');
}

describe.each(['nobody', 'a server'])('when %s has the store', (owner) => {
  it('a scrub reads it all, is silent where it is whole, and names what has rotted', async () => {
    const store = await newStore();
    const server = owner === 'nobody' ? undefined : await serve(store);
    const clean = await run(['--store', store, 'scrub']);
    expect(clean).toMatchObject({ code: 0, err: '' });
    expect(clean.out).toMatch(/^read \d+ MiB in [\d.]+ s: clean\n$/);
    rot(store, 5 * MIB);
    const found = await run(['--store', store, 'scrub', '--rate', '1G']);
    expect(found.code).toBe(4);
    expect(found.out).toMatch(
      /^damage: segment \d+, sequence \d+: chunk 1280 of disk has a wrong checksum \[CHUNK_DAMAGED\]\n/,
    );
    expect(found.out).toMatch(/: 1 finding\n$/);
    const json = await run(['--store', store, '--json', 'scrub', '--rate', '1G']);
    expect(json.code).toBe(4);
    const lines = json.out.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { severity: 'damage', code: 'CHUNK_DAMAGED' },
      { damage: 1, isWhole: true },
    ]);
    if (server === undefined) return;
    expect(await ok(store, ['status'])).toMatch(/last scrub: +\S+: \d+ MiB read, 1 finding\n/);
    expect((await stop(server)).code).toBe(0);
  });

  it('a rate holds, and Ctrl-C ends it everywhere', async () => {
    const store = await newStore();
    const server = owner === 'nobody' ? undefined : await serve(store);
    const began = performance.now();
    expect((await run(['--store', store, 'scrub', '--rate', '5M'])).code).toBe(0);
    expect(performance.now() - began).toBeGreaterThan(1300);
    const slow = new Running(MAIN, ['--store', store, 'scrub', '--rate', '100K']);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    if (server !== undefined) {
      expect(await ok(store, ['status'])).toMatch(/scrub: +running: /);
      const second = await run(['--store', store, 'scrub']);
      expect(second.code).toBe(1);
      expect(second.err).toContain('running already');
    }
    const ended = await stop(slow, 'SIGINT');
    expect(ended.code).toBe(130);
    expect(ended.tookMs).toBeLessThan(5000);
    expect(ended.out).toMatch(/^stopped after .* of .*: nothing found so far\n$/);
    if (server !== undefined) {
      await vi.waitFor(async () => {
        expect(await ok(store, ['status'])).toMatch(/stopped before its end/);
      }, 5000);
      expect(await ok(store, ['status'])).not.toMatch(/scrub: +running/);
      expect((await stop(server)).code).toBe(0);
    }
    expect((await run(['--store', store, 'scrub', '--rate', '0'])).code).toBe(2);
    expect(await ok(store, ['fsck'])).toContain('clean');
  });
});

it('a server that stops ends the scrub that runs in it, in time', async () => {
  const store = await newStore();
  const server = await serve(store);
  const slow = new Running(MAIN, ['--store', store, 'scrub', '--rate', '100K']);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const ended = await stop(server);
  expect(ended.code).toBe(0);
  expect(ended.tookMs).toBeLessThan(5000);
  expect((await slow.ended).code).toBe(1);
});
