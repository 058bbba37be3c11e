/** `coppice target` and `source`: what they do whether or not a server has the store, and between two servers. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pause } from '../support/programs.ts';
import { scratchDirectory } from '../support/stores.ts';
import { makeSharedKeys } from '../support/tls-files.ts';
import { ok, run, type Running, serve, stop } from './command.ts';

let scratch: string;
let servers: Running[];

beforeEach(() => {
  scratch = scratchDirectory();
  servers = [];
});

afterEach(async () => {
  for (const server of servers) await stop(server, 'SIGKILL');
  fs.rmSync(scratch, { recursive: true });
});

const at = (name: string): string => path.join(scratch, name);

async function start(store: string, ...args: string[]): Promise<Running> {
  const server = await serve(store, args);
  servers.push(server);
  return server;
}

describe.each(['not served', 'served'])('in a store that is %s', (how) => {
  let store: string;
  beforeEach(async () => {
    store = at('store');
    await ok(store, ['init']);
    await ok(store, ['create', 'disk', '--size', '1M']);
    if (how === 'served') await start(store);
  });

  it('a target is added, paused, gone on with and removed', async () => {
    expect(await ok(store, ['target', 'list'])).toMatch(/^no target; add one with/);
    const added = ['target', 'add', 'disk', '127.0.0.1:1', '--every', '5m', '--rate', '1M', '--as', 'copy'];
    expect(await ok(store, added)).toBe('disk-1: disk to copy at 127.0.0.1:1 every 5m\n');
    const list = JSON.parse(await ok(store, ['--json', 'target', 'list'])) as object[];
    expect(list).toMatchObject([
      {
        id: 'disk-1',
        direction: 'push',
        volume: 'disk',
        peerVolume: 'copy',
        everyMs: 300_000,
        rate: 1 << 20,
        last: null,
      },
    ]);
    expect(await ok(store, ['target', 'pause', 'disk-1'])).toBe('disk-1 is paused\n');
    expect(await ok(store, ['target', 'list'])).toMatch(
      /disk-1 +disk to copy at 127\.0\.0\.1:1 +5m +paused +- +never +-\n/,
    );
    expect(await ok(store, ['target', 'resume', 'disk-1'])).toBe('disk-1 goes on\n');
    expect(await ok(store, ['status'])).toMatch(
      /target: +disk-1: disk to copy at 127\.0\.0\.1:1, nothing has arrived yet/,
    );
    expect(await ok(store, ['dump', 'feeds'])).toMatch(
      /disk-1 +push +127\.0\.0\.1:1 .* copy +300000 +1048576 +made +- +-\n/,
    );
    await ok(store, ['target', 'remove', 'disk-1']);
    expect(JSON.parse(await ok(store, ['--json', 'target', 'list']))).toEqual([]);
  });

  it('a target is not ended, paused or run as a source, nor a source as a target', async () => {
    await ok(store, ['target', 'add', 'disk', '127.0.0.1:1', '--every', '1h', '--name', 'out']);
    await ok(store, ['source', 'add', 'copy', '127.0.0.1:1', 'disk', '--every', '1h', '--name', 'in']);
    const stateOf = async (word: string): Promise<string[]> =>
      (JSON.parse(await ok(store, ['--json', word, 'list'])) as { id: string; state: string }[]).map(
        ({ id, state }) => `${id} ${state === 'paused'}`,
      );
    for (const [word, id, is] of [
      ['source', 'out', 'target'],
      ['target', 'in', 'source'],
    ] as const)
      for (const does of ['remove', 'pause', 'resume', 'run']) {
        const { code, out, err } = await run(['--store', store, word, does, id]);
        expect([does, code, out, err]).toEqual([
          does,
          1,
          '',
          `coppice: there is no ${word} "${id}": that is a ${is}; \`coppice ${is}\` is for it\n`,
        ]);
      }
    expect([await stateOf('target'), await stateOf('source')]).toEqual([['out false'], ['in false']]);
    await ok(store, ['source', 'pause', 'in']);
    await ok(store, ['target', 'remove', 'out']);
    expect([await stateOf('target'), await stateOf('source')]).toEqual([[], ['in true']]);
  });

  it('what cannot be is refused with a sentence', async () => {
    const add = ['target', 'add', 'disk'];
    for (const [args, code, why] of [
      [[...add, 'nowhere', '--every', '5m'], 2, /an address is HOST:PORT/],
      [[...add, '127.0.0.1:1', '--every', 'often'], 2, /--every 'often' is no span of time/],
      [[...add, '127.0.0.1:1', '--every', '5m', '--snapshots', 'some'], 2, /`made` or `all`/],
      [['target', 'add', 'none', '127.0.0.1:1', '--every', '5m'], 1, /there is no volume "none"/],
      [['target', 'pause', 'none'], 1, /there is no target or source "none"/],
    ] as const) {
      const ended = await run(['--store', store, ...args]);
      expect([ended.code, ended.err]).toEqual([code, expect.stringMatching(why)]);
    }
  });
});

it('two servers with a shared key keep a replica, pushed and fetched, and say how that goes', async () => {
  const keys = makeSharedKeys(at('keys'), 'me');
  const client = ['--replication-tls-psk', keys, '--replication-tls-name', 'me'];
  const [from, to] = [at('from'), at('to')];
  const portOf = (server: Running): string => /"port":(\d+)/.exec(server.err)![1]!;
  for (const store of [from, to]) await ok(store, ['init']);
  const listening = ['--tls', 'off', '--tls-psk', keys, '--replication-listen', '127.0.0.1:0', ...client];
  const [source, target] = [await start(from, ...listening), await start(to, ...listening)];
  await ok(from, ['create', 'disk', '--size', '1M']);
  await ok(from, ['target', 'add', 'disk', `127.0.0.1:${portOf(target)}`, '--every', '1h']);
  await ok(to, ['source', 'add', 'fetched', `127.0.0.1:${portOf(source)}`, 'disk', '--every', '1h']);
  const names = async (): Promise<string[]> =>
    (JSON.parse(await ok(to, ['--json', 'list'])) as { name: string }[]).map(({ name }) => name);
  for (let left = 100; (await names()).length < 4; left--) {
    expect(left).toBeGreaterThan(0);
    await pause(50);
  }
  expect((await names()).filter((name) => !name.includes('@')).sort()).toEqual(['disk', 'fetched']);
  expect(await ok(from, ['target', 'list'])).toMatch(/idle +\ds +repl-\d{8}T\d{6}Z, /);
  expect(await ok(to, ['source', 'list'])).toMatch(/fetched from disk at .* idle /);
  const ended = await run(['--store', to, 'serve', '--read-only', '--replication-listen', '127.0.0.1:0']);
  expect(ended.err).toMatch(/exclude each other/);
  for (const server of [source, target]) expect((await stop(server)).tookMs).toBeLessThan(5000);
  const without = ['target', 'run', 'disk-1'];
  expect((await run(['--store', from, ...without])).err).toMatch(/nobody serves this store/);
});
