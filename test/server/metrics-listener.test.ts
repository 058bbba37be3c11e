/** Metrics over HTTP: the listener that answers nothing else, and what clients of it may do; and the route of the control socket. */

import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { TcpAddress } from '../../src/base/address.ts';
import { StoreError } from '../../src/base/errors.ts';
import { MetricsListener } from '../../src/server/metrics-listener.ts';
import type { StoreStatus } from '../../src/volume/summary.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryStore } from './memory-store.ts';
import { samplesOf } from './samples.ts';
import { serveMemory, silent, temporaryDirectory } from './served.ts';

const CONNECTIONS_MAX = 16;
const ends: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

class Site {
  readonly store = new MemoryStore();
  readonly clock = new ManualClock();
  readonly listener: MetricsListener;
  address: TcpAddress = { host: '127.0.0.1', port: 0 };
  asked = 0;
  /** In the place of the store's own answer. */
  status: () => Promise<StoreStatus> = () => this.store.status();

  constructor() {
    const status = (): Promise<StoreStatus> => {
      this.asked++;
      return this.status();
    };
    this.listener = new MetricsListener({ door: { status }, clock: this.clock, logger: silent });
  }

  static async listening(): Promise<Site> {
    const site = new Site();
    ends.push(() => site.listener.close(1000));
    site.address = (await site.listener.listen(site.address)) as TcpAddress;
    return site;
  }

  async connect(): Promise<net.Socket> {
    const socket = net.connect(this.address.port, this.address.host);
    socket.on('error', () => undefined);
    ends.push(async () => void socket.destroy());
    await new Promise((resolve) => socket.once('connect', resolve));
    return socket;
  }
}

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

function get(where: http.RequestOptions, method = 'GET', target = '/metrics'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ ...where, method, path: target, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        body += piece;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    });
    request.on('error', reject);
    request.end();
  });
}

/** All that comes until the other end hangs up. */
function rest(socket: net.Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.setEncoding('latin1').on('data', (piece: string) => {
      text += piece;
    });
    socket.once('close', () => resolve(text));
  });
}

it('the listener answers GET /metrics, and the control socket the same', async () => {
  const site = await Site.listening();
  await site.store.createVolume('disk', 4096);
  const answer = await get(site.address);
  expect(answer.status).toBe(200);
  expect(answer.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(samplesOf(answer.body).get('coppice_volumes')).toBe(1);
  expect((await get(site.address, 'GET', '/metrics?from=prometheus')).body).toBe(answer.body);
  const served = await serveMemory(site.store);
  ends.push(served.end);
  const route = await get({ socketPath: served.socketFile }, 'GET', '/v1/metrics');
  expect([route.status, route.headers['content-type']]).toEqual([200, answer.headers['content-type']]);
  expect(route.body).toBe(answer.body);
});

it('the listener answers nothing else, and asks the store for nothing then', async () => {
  const site = await Site.listening();
  for (const target of ['/', '/metrics/', '/v1/metrics', '/v1/status', '/v1/versions'])
    expect([target, (await get(site.address, 'GET', target)).status]).toEqual([target, 404]);
  for (const method of ['HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const { status, headers } = await get(site.address, method);
    expect([method, status, headers.allow]).toEqual([method, 405, 'GET']);
  }
  expect(site.asked).toBe(0);
});

it('a Unix socket is its user’s alone, and goes away with the listener', async () => {
  const directory = temporaryDirectory();
  ends.push(async () => fs.rmSync(directory, { recursive: true }));
  const socketPath = path.join(directory, 'metrics.sock');
  const site = await Site.listening();
  await site.listener.listen({ socketPath });
  expect(fs.statSync(socketPath).mode & 0o777).toBe(0o600);
  expect((await get({ socketPath })).status).toBe(200);
  await site.listener.close(1000);
  expect(fs.existsSync(socketPath)).toBe(false);
});

it('an address that is in use, or none, is refused with its code', async () => {
  const { address, listener } = await Site.listening();
  await expect(listener.listen(address)).rejects.toMatchObject({
    code: 'IN_USE',
    message: expect.stringContaining(String(address.port)),
  });
  await expect(listener.listen({ host: '192.0.2.1', port: 0 })).rejects.toBeInstanceOf(StoreError);
  await expect(listener.listen({ socketPath: '/none/metrics.sock' })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
});

it('there are no more connections than so at once, and room again when they are gone', async () => {
  const site = await Site.listening();
  const idle = await Promise.all(Array.from({ length: CONNECTIONS_MAX }, () => site.connect()));
  await expect(get(site.address)).rejects.toThrow();
  for (const socket of idle) socket.destroy();
  await expect
    .poll(() =>
      get(site.address).then(
        ({ status }) => status,
        () => 0,
      ),
    )
    .toBe(200);
});

it('a connection ends in its time, whether its client says nothing or takes for ever', async () => {
  const site = await Site.listening();
  const quiet = await site.connect();
  const slow = await site.connect();
  slow.write('GET /metrics HTTP/1.1\r\nhost: x\r\n');
  expect((await get(site.address)).status).toBe(200); // the others have been accepted by now
  const closed = [rest(quiet), rest(slow)];
  site.clock.advance(9_999);
  slow.write('more: of it\r\n');
  expect((await get(site.address)).status).toBe(200);
  expect([quiet.closed, slow.closed]).toEqual([false, false]);
  site.clock.advance(1);
  expect(await Promise.all(closed)).toEqual(['', '']);
});

it('a connection is one request, however many come on it', async () => {
  const site = await Site.listening();
  for (const version of ['1.0', '1.1']) {
    const asked = site.asked;
    const socket = await site.connect();
    socket.write(`GET /metrics HTTP/${version}\r\nhost: x\r\nconnection: keep-alive\r\n\r\n`.repeat(200));
    expect((await rest(socket)).match(/HTTP\/1\.1 200/g)).toHaveLength(1);
    expect(site.asked).toBe(asked + 1);
  }
});

it('what is not HTTP ends its own connection, and nothing else', async () => {
  const site = await Site.listening();
  const socket = await site.connect();
  socket.write('NBDMAGIC\r\n\r\n');
  expect(await rest(socket)).toMatch(/^HTTP\/1\.1 400/);
  expect((await get(site.address)).status).toBe(200);
});

it('a store that cannot tell its status is no end of the listener, and says to nobody why', async () => {
  const site = await Site.listening();
  site.status = () => Promise.reject(new StoreError('IO', 'reading /secret/path: input/output error'));
  const { status, body } = await get(site.address);
  expect(status).toBe(503);
  expect(body).not.toContain('secret');
  site.status = () => site.store.status();
  expect((await get(site.address)).status).toBe(200);
});

it('close hangs up, and waits for what the store was asked, but no longer than it may', async () => {
  const site = await Site.listening();
  let tell: (status: StoreStatus) => void = () => undefined;
  site.status = () =>
    new Promise((resolve) => {
      tell = resolve;
    });
  const cut = get(site.address).catch((error: unknown) => error);
  await expect.poll(() => site.asked).toBe(1);
  let isClosed = false;
  const closed = site.listener.close(1000).then(() => {
    isClosed = true;
  });
  expect(await cut).toBeInstanceOf(Error);
  expect(isClosed).toBe(false);
  site.clock.advance(1000);
  await closed;
  tell(await site.store.status()); // nobody is there to be answered: that does no harm
});
