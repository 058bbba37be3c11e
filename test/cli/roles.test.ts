/** Failover, failback and resync, as users run them, over stores that a server has and stores that nobody has. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { BLOCK_BYTES } from '../../src/delta/hash-list.ts';
import { temporaryDirectory } from '../server/served.ts';
import { Random } from '../support/random.ts';
import { ok, run, serve, stop } from './command.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const IMAGE_BYTES = 1 << 20;
const root = temporaryDirectory();
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

describe.each(['a server', 'nobody'])('a disk of two stores that %s has', (owner) => {
  it('fails over and back', async () => {
    const [here, there] = ['here', 'there'].map((name) => path.join(root, `${name}-${owner}`)) as [
      string,
      string,
    ];
    for (const store of [here, there]) await ok(store, ['init']);
    const servers = owner === 'nobody' ? [] : [await serve(here), await serve(there)];
    const image = path.join(root, 'image.raw');
    const fill = async (store: string, text: string): Promise<void> => {
      fs.writeFileSync(image, Buffer.alloc(IMAGE_BYTES, text));
      await ok(store, ['import', 'disk', image, '--force']);
    };
    const send = async (from: string, to: string, words: string[]): Promise<string> => {
      const { bytes } = await run(['--store', from, 'send', ...words]);
      const { code, out, err } = await run(['--store', to, 'receive', 'disk'], { input: bytes });
      return code === 0 ? out : err;
    };
    fs.writeFileSync(image, Buffer.alloc(IMAGE_BYTES, 'one'));
    await ok(here, ['import', 'disk', image]);
    await ok(here, ['snapshot', 'disk@one']);
    expect(await send(here, there, ['disk@one'])).toContain('received disk@one');

    const refused = await run(['--store', here, 'promote', 'disk']);
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining('no replica')]);
    expect(await ok(there, ['promote', 'disk'])).toContain('no replica any more');
    await fill(there, 'two');
    await ok(there, ['snapshot', 'disk@two']);

    // The first host comes back with something that never got over.
    await fill(here, 'lost');
    expect(await send(there, here, ['disk@two', '--from', '@one'])).toContain(
      'since disk@one, which both have',
    );
    const demoted = JSON.parse(await ok(here, ['--json', 'demote', 'disk'])) as { saved: string };
    expect(demoted.saved).toMatch(/^disk@before-demote-/);
    expect(await ok(here, ['show', demoted.saved])).toContain('made by a rollback or a demotion');
    expect(await send(there, here, ['disk@two', '--from', '@one'])).toContain('received disk@two');
    const exported = async (store: string, name: string): Promise<string> =>
      (await run(['--store', store, 'export', name, '-'])).bytes.toString();
    expect(await exported(here, 'disk')).toBe(Buffer.alloc(IMAGE_BYTES, 'two').toString());
    expect(await exported(here, demoted.saved)).toBe(Buffer.alloc(IMAGE_BYTES, 'lost').toString());

    expect(await ok(there, ['demote', 'disk'])).toContain('all that it has is in its snapshots');
    await ok(here, ['promote', 'disk']);
    await fill(here, 'three');
    await ok(here, ['snapshot', 'disk@three']);
    expect(await send(here, there, ['disk@three', '--from', '@two'])).toContain('received disk@three');
    expect(await exported(there, 'disk')).toBe(Buffer.alloc(IMAGE_BYTES, 'three').toString());
    for (const server of servers) expect((await stop(server)).code).toBe(0);
    for (const store of [here, there]) expect(await ok(store, ['fsck'])).toContain('clean');
  });
});

describe('a copy that came by another way', () => {
  it('is taken up by hashes, and damaged hashes are refused', async () => {
    const [here, there] = [path.join(root, 'here'), path.join(root, 'there')];
    const at = (name: string): string => path.join(root, name);
    const random = new Random(8);
    const one = random.bytes(20 * BLOCK_BYTES);
    const two = Buffer.from(one);
    random.bytes(3 * BLOCK_BYTES).copy(two, 4 * BLOCK_BYTES);
    fs.writeFileSync(at('one.raw'), one);
    fs.writeFileSync(at('two.raw'), two);
    for (const store of [here, there]) await ok(store, ['init']);
    await ok(here, ['import', 'disk', at('two.raw')]);
    await ok(here, ['snapshot', 'disk@two']);
    await ok(there, ['import', 'disk', at('one.raw')]);
    await ok(there, ['snapshot', 'disk@copy']);
    fs.writeFileSync(at('hashes'), (await run(['--store', there, 'hashes', 'disk@copy'])).bytes);
    const send = ['--store', here, 'send', 'disk@two', '--resync'];
    const stream = (await run([...send, at('hashes')])).bytes;
    expect(stream.length).toBeLessThan(3 * BLOCK_BYTES + 2000);
    const receive = ['--store', there, 'receive', 'disk'];
    const refused = [(await run(receive, { input: stream })).err];
    await ok(there, ['demote', 'disk']);
    refused.push((await run(receive, { input: stream })).err);
    expect(refused).toEqual([
      expect.stringContaining('goes its own way since disk@copy'),
      expect.stringContaining('--replica-of'),
    ]);
    const uuid = /--replica-of (\S+)/.exec(refused[1]!)![1]!;
    await ok(there, ['demote', 'disk', '--replica-of', uuid]);
    expect(await ok(there, ['receive', 'disk'], { input: stream })).toContain('received disk@two');
    expect((await run(['--store', there, 'export', 'disk', '-'])).bytes.equals(two)).toBe(true);

    const cut = fs.readFileSync(at('hashes')).subarray(0, -60);
    const piped = await run([...send, '-'], { input: cut });
    expect([piped.code, piped.err]).toEqual([1, expect.stringContaining('coppice hashes')]);
    expect((await run(['stream', 'verify', '-'], { input: piped.bytes })).code).toBe(1);
    for (const [args, err] of [
      [['send', 'disk@two', '--resync', at('nothing')], 'there is no file'],
      [['send', 'disk@two', '--resync', at('one.raw')], 'no stream of `coppice hashes`'],
      [['send', 'disk@two', '--from', '@one', '--resync', at('hashes')], 'give one of them'],
      [['hashes', 'disk'], 'make a snapshot of it'],
    ] as const) {
      const { code, err: said } = await run(['--store', here, ...args]);
      expect([code! > 0, said]).toEqual([true, expect.stringContaining(err)]);
    }
  });
});
