/** The control server where it differs from a door in the process: its socket, its clients, its end. */

import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { ControlClient } from '../../src/server/control-client.ts';
import { ControlServer } from '../../src/server/control-server.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import { CONTROL_PROTOCOL } from '../../src/server/wire.ts';
import { MemoryStore } from './memory-store.ts';
import { serveMemory, type Served, silent, temporaryDirectory } from './served.ts';

const MIB = 2 ** 20;
const ends: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function served(directory = temporaryDirectory()): Promise<Served> {
  const one = await serveMemory(new MemoryStore(), directory);
  ends.push(one.end);
  return one;
}

interface RawAnswer {
  status: number;
  body: string;
}

function raw(socketPath: string, options: http.RequestOptions, body?: Buffer | string): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, ...options }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

describe('the socket', () => {
  it('is its user’s alone, whatever the umask', async () => {
    const before = process.umask(0o000);
    ends.push(async () => process.umask(before));
    const { socketFile } = await served();
    expect(fs.statSync(socketFile).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(0o000);
  });

  it('replaces the file of a server that died', async () => {
    const directory = temporaryDirectory();
    const file = path.join(directory, 'control.sock');
    const dead = net.createServer().listen(file);
    await new Promise((resolve) => dead.once('listening', resolve));
    fs.linkSync(file, `${file}.kept`);
    await new Promise((resolve) => dead.close(resolve));
    fs.renameSync(`${file}.kept`, file);
    expect(fs.statSync(file).isSocket()).toBe(true);
    expect(await ControlClient.connect(file)).toBeUndefined();
    const { door } = await served(directory);
    expect(await door.list()).toEqual([]);
  });

  it('refuses one that is alive, and a file of another kind', async () => {
    const { socketFile, door } = await served();
    const second = new ControlServer({ door: new StoreDoor(new MemoryStore()), logger: silent });
    await expect(second.listen(socketFile)).rejects.toMatchObject({ code: 'IN_USE' });
    await second.close(0);
    expect(await door.list()).toEqual([]);
    const file = path.join(path.dirname(socketFile), 'notes');
    fs.writeFileSync(file, 'mine');
    const third = new ControlServer({ door: new StoreDoor(new MemoryStore()), logger: silent });
    await expect(third.listen(file)).rejects.toMatchObject({ code: 'IN_USE' });
    await third.close(0);
    expect(fs.readFileSync(file, 'utf8')).toBe('mine');
  });

  it('works in a directory whose path is longer than a socket address', async () => {
    const directory = path.join(temporaryDirectory(), 'd'.repeat(120));
    fs.mkdirSync(directory);
    const { door, store, socketFile } = await served(directory);
    await door.create('disk', MIB);
    expect(store.list()).toHaveLength(1);
    expect(fs.existsSync(socketFile)).toBe(true);
  });

  it('is nobody’s when there is no file, no directory, or no socket', async () => {
    const directory = temporaryDirectory();
    expect(await ControlClient.connect(path.join(directory, 'control.sock'))).toBeUndefined();
    expect(await ControlClient.connect(path.join(directory, 'none', 'control.sock'))).toBeUndefined();
    fs.writeFileSync(path.join(directory, 'file'), '');
    expect(await ControlClient.connect(path.join(directory, 'file'))).toBeUndefined();
    expect(await ControlClient.connect(path.join(directory, 'file', 'control.sock'))).toBeUndefined();
  });

  it('goes away with the server', async () => {
    const { server, socketFile } = await served();
    await server.close(1000);
    expect(fs.existsSync(socketFile)).toBe(false);
  });
});

describe('bad requests', () => {
  it.each([
    ['an unknown route', { path: '/v1/nothing' }, undefined],
    ['an unknown method', { path: '/v1/create', method: 'DELETE' }, undefined],
    ['no name', { path: '/v1/version' }, undefined],
    ['two names', { path: '/v1/version?name=a&name=b' }, undefined],
    [
      'a broken body',
      { path: '/v1/create', method: 'POST', headers: { 'content-type': 'application/json' } },
      '{',
    ],
    [
      'a body of another type',
      { path: '/v1/create', method: 'POST', headers: { 'content-type': 'text/xml' } },
      '<a/>',
    ],
    ['no body', { path: '/v1/create', method: 'POST' }, undefined],
    [
      'a missing field',
      { path: '/v1/create', method: 'POST', headers: { 'content-type': 'application/json' } },
      '{}',
    ],
    ['a write without bytes', { path: '/v1/disk/bytes?name=disk&offset=0', method: 'PUT' }, undefined],
    [
      'a write of JSON',
      {
        path: '/v1/disk/bytes?name=disk&offset=0',
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
      },
      '{}',
    ],
    [
      'a number as text',
      { path: '/v1/create', method: 'POST', headers: { 'content-type': 'application/json' } },
      '{"name":"new","size":"512"}',
    ],
    [
      'nothing in the place of a number',
      { path: '/v1/priority', method: 'POST', headers: { 'content-type': 'application/json' } },
      '{"name":"disk@a","priority":null}',
    ],
    [
      'text in the place of a list',
      { path: '/v1/delete', method: 'POST', headers: { 'content-type': 'application/json' } },
      '{"names":"disk"}',
    ],
    [
      'text in the place of a flag',
      { path: '/v1/delete', method: 'POST', headers: { 'content-type': 'application/json' } },
      '{"names":["disk"],"force":"false"}',
    ],
    ['a flag that is none in a query', { path: '/v1/versions/space?ghosts=maybe' }, undefined],
    ['an offset that is no number', { path: '/v1/disk/bytes?name=disk&offset=x&length=1' }, undefined],
    ['a length that is not whole', { path: '/v1/disk/bytes?name=disk&offset=0&length=1.5' }, undefined],
  ])('%s is refused as INVALID_ARGUMENT', async (_what, options, body) => {
    const { socketFile, door, store } = await served();
    await door.create('disk', MIB);
    const answer = await raw(socketFile, options, body);
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.body)).toEqual({ code: 'INVALID_ARGUMENT', message: expect.any(String) });
    expect(store.calls).toEqual([]);
    expect(await door.list()).toHaveLength(1);
  });

  it('a body without end is cut off at the limit', async () => {
    const { socketFile, door, store } = await served();
    await door.create('disk', 64 * MIB);
    const answer = await new Promise<number>((resolve) => {
      const request = http.request(
        {
          socketPath: socketFile,
          method: 'PUT',
          path: '/v1/disk/bytes?name=disk&offset=0',
          headers: { 'content-type': 'application/octet-stream' },
        },
        (response) => {
          resolve(response.statusCode ?? 0);
          response.resume();
          request.destroy();
        },
      );
      request.on('error', () => undefined);
      const piece = Buffer.alloc(MIB);
      const more = (): void => {
        while (!request.destroyed && request.write(piece));
        if (!request.destroyed) request.once('drain', more);
      };
      more();
    });
    expect(answer).toBe(400);
    expect(store.writes).toEqual([]);
    expect(await door.list()).toHaveLength(1);
  });

  it('a client that hangs up in the middle of a write changes nothing', async () => {
    const { socketFile, door, store } = await served();
    await door.create('disk', MIB);
    await new Promise<void>((resolve) => {
      const socket = net.connect(socketFile, () => {
        socket.write('PUT /v1/disk/bytes?name=disk&offset=0 HTTP/1.1\r\nhost: x\r\n');
        socket.write('content-type: application/octet-stream\r\ncontent-length: 4096\r\n\r\n', () => {
          socket.write(Buffer.alloc(1000, 1), () => {
            socket.destroy();
            resolve();
          });
        });
      });
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(store.writes).toEqual([]);
    expect(await door.list()).toHaveLength(1);
  });
});

describe('the disks of requests', () => {
  it('are opened once for many requests, and given back', async () => {
    const { door, store, server } = await served();
    await door.create('disk', MIB);
    const disk = await door.disk('disk');
    await Promise.all(Array.from({ length: 50 }, (_, i) => disk.write(i * 4096, [Buffer.alloc(4096, i)])));
    expect(store.devicesOpened).toBe(1);
    expect(store.openDevices).toBe(1);
    await server.close(1000);
    expect(store.openDevices).toBe(0);
  });

  it('are found when they are created after somebody asked for them', async () => {
    const { door } = await served();
    await expect(door.disk('disk')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await door.create('disk', MIB);
    expect(await door.disk('disk')).toMatchObject({ sizeBytes: MIB });
  });
});

describe('the end', () => {
  it('lets a running request finish, and refuses new ones', async () => {
    const { door, store, server } = await served();
    await door.create('disk', MIB);
    const disk = await door.disk('disk');
    let open: () => void = () => undefined;
    store.gate = new Promise((resolve) => {
      open = resolve;
    });
    const write = disk.write(0, [Buffer.alloc(4096, 1)]);
    await expect.poll(() => store.requestsRunning).toBe(1);
    const closed = server.close(5000);
    await expect(door.list()).rejects.toMatchObject({ code: 'CLOSED' });
    open();
    await write;
    await closed;
    expect(store.writes).toHaveLength(1);
    expect(store.openDevices).toBe(0);
  });

  it('comes within its time when a request hangs and a client keeps its connection', async () => {
    const { door, store, server, socketFile } = await served();
    await door.create('disk', MIB);
    const idle = net.connect(socketFile);
    idle.on('error', () => undefined);
    const disk = await door.disk('disk');
    store.gate = new Promise(() => undefined);
    const read = disk.read(0, 4096).catch((error: unknown) => error);
    await expect.poll(() => store.requestsRunning).toBe(1);
    const startedAt = performance.now();
    await server.close(300);
    expect(performance.now() - startedAt).toBeLessThan(1500);
    const error = await read;
    expect(error).toBeInstanceOf(StoreError);
    expect(error).toMatchObject({ code: 'IO', message: expect.stringContaining('went away') });
    idle.destroy();
  });

  it('is no whole answer for a check that it cuts off', async () => {
    const { door, store, server } = await served();
    store.findings = [{ severity: 'note', code: 'N', message: 'first' }];
    const check = store.check.bind(store);
    store.check = async function* () {
      yield* check();
      await new Promise(() => undefined);
    };
    const findings = door.check();
    expect(await findings.next()).toMatchObject({ value: { message: 'first' } });
    const rest = findings.next().catch((error: unknown) => error);
    await server.close(100);
    expect(await rest).toMatchObject({ code: 'IO' });
  });

  it('is no whole answer for a check without its last line', async () => {
    const socketFile = path.join(temporaryDirectory(), 'control.sock');
    const hello = { service: 'coppice', protocol: CONTROL_PROTOCOL, pid: 1 };
    const finding = { severity: 'note', code: 'N', message: 'first' };
    const careless = http.createServer((request, response) => {
      response.end(JSON.stringify(request.url === '/v1/hello' ? hello : { item: finding }));
    });
    await new Promise<void>((resolve) => careless.listen(socketFile, resolve));
    const door = await ControlClient.connect(socketFile);
    const findings = door!.check();
    expect(await findings.next()).toMatchObject({ value: finding });
    await expect(findings.next()).rejects.toMatchObject({ code: 'IO' });
    await door!.close();
    careless.close();
  });

  it.each([1, CONTROL_PROTOCOL + 1])('of a server of version %d is told apart', async (protocol) => {
    const socketFile = path.join(temporaryDirectory(), 'control.sock');
    const other = http.createServer((_request, response) => {
      response.end(JSON.stringify({ service: 'coppice', protocol, pid: 1 }));
    });
    await new Promise<void>((resolve) => other.listen(socketFile, resolve));
    await expect(ControlClient.connect(socketFile)).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
    other.close();
  });
});
