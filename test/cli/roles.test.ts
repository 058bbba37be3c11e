/** Failover and failback, as users run them, over stores that a server has and stores that nobody has. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { temporaryDirectory } from '../server/served.ts';
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
