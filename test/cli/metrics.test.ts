/** `coppice metrics` and `serve --metrics-listen`, as child processes over a real store. */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { StoreStatus } from '../../src/volume/summary.ts';
import { samplesOf } from '../server/samples.ts';
import { scratchDirectory } from '../support/stores.ts';
import { ok, run, serve, stop } from './command.ts';

const scratch = scratchDirectory();
let stores = 0;

afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }));

async function newStore(): Promise<string> {
  const store = path.join(scratch, `store-${stores++}`);
  await ok(store, ['init', '--capacity', '1G']);
  await ok(store, ['create', 'disk', '--size', '8M']);
  await ok(store, ['snapshot', 'disk@a']);
  await ok(store, ['target', 'add', 'disk', '127.0.0.1:1', '--every', '5m']);
  return store;
}

async function statusOf(store: string): Promise<StoreStatus> {
  return JSON.parse(await ok(store, ['status', '--json'])) as StoreStatus;
}

describe.each(['nobody', 'a server'])('when %s has the store', (owner) => {
  it('metrics are what status says', async () => {
    const store = await newStore();
    const server = owner === 'nobody' ? undefined : await serve(store);
    const status = await statusOf(store);
    const told = samplesOf(await ok(store, ['metrics']));
    expect(Object.fromEntries(told)).toMatchObject({
      coppice_volumes: 1,
      coppice_snapshots: 1,
      coppice_capacity_bytes: 2 ** 30,
      'coppice_room_state{state="enough"}': 1,
      'coppice_room_state{state="full"}': 0,
    });
    expect(told.get('coppice_used_bytes')).toBeGreaterThanOrEqual(status.logBytes);
    if (server !== undefined) expect((await stop(server)).code).toBe(0);
  });
});

describe('serve --metrics-listen', () => {
  it('answers GET /metrics on TCP and a Unix socket, tells of a feed that fails, and ends with the server', async () => {
    const store = await newStore();
    const socketPath = path.join(scratch, 'metrics.sock');
    const server = await serve(store, ['--metrics-listen', '127.0.0.1:0', '--metrics-listen', socketPath]);
    const port = Number(/"port":(\d+)/.exec(server.err)![1]);
    const fetched = async (): Promise<Map<string, number>> => {
      const response = await fetch(`http://127.0.0.1:${port}/metrics`);
      expect(response.status).toBe(200);
      return samplesOf(await response.text());
    };
    const labels = '{feed="disk-1",direction="push",volume="disk",peer="127.0.0.1:1"}';
    await expect.poll(async () => (await fetched()).get(`coppice_feed_failing${labels}`)).toBe(1);
    expect((await fetched()).has(`coppice_feed_lag_seconds${labels}`)).toBe(false);
    expect(fs.statSync(socketPath).mode & 0o777).toBe(0o600);
    const { generation } = (await statusOf(store)).lastCheckpoint;
    await ok(store, ['create', 'another', '--size', '8M']);
    expect((await fetched()).get('coppice_volumes')).toBe(2);
    await ok(store, ['create', 'third', '--size', '8M']);
    expect(samplesOf(await ok(store, ['metrics'])).get('coppice_volumes')).toBe(3);
    expect((await statusOf(store)).lastCheckpoint.generation, 'one by the status, none by the metrics').toBe(
      generation + 1,
    );
    const idle = net.connect(port, '127.0.0.1');
    idle.on('error', () => undefined);
    await new Promise((resolve) => idle.once('connect', resolve));
    const ended = await stop(server);
    expect(ended.code).toBe(0);
    expect(ended.tookMs).toBeLessThan(5000);
    expect(fs.existsSync(socketPath)).toBe(false);
  });

  it('also of a store that is only read', async () => {
    const store = await newStore();
    const server = await serve(store, ['--read-only', '--metrics-listen', '127.0.0.1:0']);
    const port = /"port":(\d+)/.exec(server.err)![1];
    const told = samplesOf(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text());
    expect(told.get('coppice_store_state{state="read-only"}')).toBe(1);
    expect((await stop(server)).code).toBe(0);
  });

  it('is refused where it cannot be, and then nothing is served', async () => {
    const store = await newStore();
    const taken = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const address = `127.0.0.1:${(taken.address() as net.AddressInfo).port}`;
    for (const [where, code, why] of [
      ['nowhere', 2, /^coppice: --metrics-listen 'nowhere' is neither HOST:PORT nor the path of a socket\n$/],
      [address, 1, new RegExp(`^coppice: listening on ${address}: in use`, 'm')],
    ] as const) {
      const ended = await run(['--store', store, 'serve', '--metrics-listen', where]);
      expect([ended.code, ended.err]).toEqual([code, expect.stringMatching(why)]);
      expect(ended.out).toBe('');
    }
    taken.close();
    expect(fs.readdirSync(store)).not.toContain('control.sock');
    expect(await ok(store, ['list'])).toContain('disk');
  });
});
