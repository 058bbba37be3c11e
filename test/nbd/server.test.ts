/** Listening, socket files, shutdown, connections that break. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSocketPath } from '../../src/base/socket-path.ts';
import * as nbd from '../../src/nbd/protocol.ts';
import { makeDirectory, pause, serve, until } from './fixture.ts';
import { encodeRequest, RawClient } from './raw-client.ts';

const mode = (file: string): number => fs.statSync(file).mode & 0o777;

/** A directory whose path does not fit into a socket address. */
function makeDeepDirectory(): string {
  const directory = path.join(makeDirectory(), 'a'.repeat(100), 'b'.repeat(100));
  fs.mkdirSync(directory, { recursive: true });
  return directory;
}

/** Leaves a socket file behind that nobody listens on, as kill -9 does. */
function makeDeadSocket(file: string): void {
  const script = `require('net').createServer().listen(${JSON.stringify(file)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  expect(fs.statSync(file).isSocket()).toBe(true);
}

describe('a Unix socket', () => {
  it.each([0o000, 0o022, 0o077, 0o177])(
    'has mode 0600 under umask %o, which is left as it was',
    async (umask) => {
      const before = process.umask(umask);
      try {
        const { socketPath } = await serve();
        expect(mode(socketPath)).toBe(0o600);
        expect(process.umask()).toBe(umask);
      } finally {
        process.umask(before);
      }
    },
  );

  it('is bound, with its mode, before listen returns', () => {
    const file = path.join(makeDirectory(), 'sync.sock');
    const server = net.createServer().listen(file);
    const exists = fs.existsSync(file);
    server.close();
    expect(exists).toBe(true);
  });

  it('is removed when the server closes', async () => {
    const { server, socketPath } = await serve();
    await server.close(100);
    expect(fs.existsSync(socketPath)).toBe(false);
  });

  it('that nobody listens on is replaced', async () => {
    const { server, directory, enter } = await serve();
    const file = path.join(directory, 'dead.sock');
    makeDeadSocket(file);
    await server.listenUnix(file);
    expect(mode(file)).toBe(0o600);
    const client = await RawClient.connect(file);
    await client.enter('disk');
    client.close();
    await enter();
  });

  it('that someone listens on is refused by name, and goes on', async () => {
    const first = await serve();
    const second = await serve();
    await expect(second.server.listenUnix(first.socketPath)).rejects.toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining(first.socketPath),
    });
    await first.enter();
  });

  it('never replaces a file, a directory or a link', async () => {
    const { server, directory, socketPath } = await serve();
    const file = path.join(directory, 'precious');
    fs.writeFileSync(file, 'precious');
    const link = path.join(directory, 'link');
    fs.symlinkSync(socketPath, link);
    for (const target of [file, link, directory]) {
      await expect(server.listenUnix(target)).rejects.toMatchObject({ code: 'IN_USE' });
    }
    expect(fs.readFileSync(file, 'utf8')).toBe('precious');
  });

  it('in a directory that does not exist is refused', async () => {
    const { server, directory } = await serve();
    await expect(server.listenUnix(path.join(directory, 'no', 'nbd.sock'))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('of a long path works: listened to, refused while live, replaced when dead, connected to, removed', async () => {
    const { server, enter } = await serve();
    const file = path.join(makeDeepDirectory(), 'nbd.sock');
    await server.listenUnix(file);
    expect(mode(file)).toBe(0o600);
    // Nothing was made under a path cut short.
    expect(fs.readdirSync(path.dirname(path.dirname(path.dirname(file))))).toEqual(['a'.repeat(100)]);
    await expect(server.listenUnix(file)).rejects.toMatchObject({ code: 'IN_USE' });
    const own = openSocketPath(file);
    const client = await RawClient.connect(own.path);
    own.close();
    await client.enter('disk');
    client.close();
    const publicPath = server.listeners
      .flatMap(({ address }) => (address !== undefined && 'socketPath' in address ? address.socketPath : []))
      .find((candidate) => candidate.startsWith('/proc/'))!;
    expect(publicPath).toMatch(new RegExp(`^/proc/${process.pid}/fd/\\d+/nbd\\.sock$`));
    const probe = `require('net').connect(process.argv[1]).on('connect', () => process.exit(7))`;
    expect(spawnSync(process.execPath, ['-e', probe, publicPath], { timeout: 5000 }).status).not.toBe(null);
    await enter();
    await server.close(100);
    expect(fs.existsSync(file)).toBe(false);
  });

  it('of a name too long for any path is refused', async () => {
    const { server } = await serve();
    const file = path.join(makeDeepDirectory(), 's'.repeat(100));
    await expect(server.listenUnix(file)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('leaves no descriptor behind, long or short, refused or not', async () => {
    const count = () => fs.readdirSync('/proc/self/fd').length;
    const { server } = await serve();
    const file = path.join(makeDeepDirectory(), 'nbd.sock');
    fs.writeFileSync(file, '');
    const before = count();
    for (let round = 0; round < 5; round++) await server.listenUnix(file).catch(() => undefined);
    expect(count()).toBe(before);
  });
});

describe('TCP', () => {
  it('is served where it was asked for, without delay', async () => {
    const { server } = await serve();
    const { host, port } = await server.listenTcp('127.0.0.1', 0);
    expect(host).toBe('127.0.0.1');
    const client = await RawClient.connect({ host, port });
    await client.enter('disk');
    expect(await client.ask({ type: nbd.NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
    client.close();
    await expect(server.listenTcp(host, port)).rejects.toMatchObject({ code: 'IN_USE' });
  });
});

describe('the log', () => {
  it('has few lines of clients that are refused, however many there are', async () => {
    const { connect, enter, logged } = await serve({ limits: { connectionsMax: 50, handshakesMax: 10 } });
    for (let count = 0; count < 100; count++) {
      const junk = await connect();
      junk.send(Buffer.alloc(20, 0xff));
      await junk.takeRest();
      const client = await enter();
      client.send(encodeRequest({ type: nbd.NBD_CMD_FLUSH, magic: 1 }));
      await client.takeRest();
    }
    for (let count = 0; count < 100; count++) await connect();
    await pause();
    const refused = logged.filter((line) => line['msg'] === 'a client was refused');
    const reasons = new Set(refused.map((line) => line['reason']));
    expect(reasons).toEqual(
      new Set(['unknown client flags', 'bad request magic', 'there are too many clients without an export']),
    );
    expect(refused.length).toBeLessThanOrEqual(3 * 7);
  });
});

describe('a TCP peer', () => {
  it('that is silent is asked whether it is there, soon and often', async () => {
    const { server } = await serve({ limits: { keepAliveMs: 7000 } });
    const { host, port } = await server.listenTcp('127.0.0.1', 0);
    const client = await RawClient.connect({ host, port });
    await client.enter('disk');
    // Of a socket in the state 01, established: the timer 02, keep-alive, and when it goes off, in hundredths.
    const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
    const rows = (): string[][] =>
      fs
        .readFileSync('/proc/net/tcp', 'utf8')
        .split('\n')
        .map((row) => row.trim().split(/\s+/))
        .filter(([, own, , state]) => own === local && state === '01');
    let timer = '';
    let when = '';
    // What was just sent may not be acknowledged yet: that is timer 01.
    await until(() => {
      [timer = '', when = ''] = rows()[0]?.[5]?.split(':') ?? [];
      return timer === '02';
    });
    expect(timer).toBe('02');
    expect(Number.parseInt(when, 16)).toBeLessThanOrEqual(700);
    client.close();
  });
});

describe('closing', () => {
  it('finishes what is in flight, refuses what comes then, and says goodbye', async () => {
    const { server, enter, disk, exports } = await serve();
    disk.holds = true;
    const client = await enter();
    client.send(encodeRequest({ type: nbd.NBD_CMD_WRITE, length: 4, cookie: 1 }), Buffer.from('abcd'));
    await until(() => disk.waitingCount === 1);
    const closing = server.close(5000);
    expect(await client.ask({ type: nbd.NBD_CMD_READ, length: 4, cookie: 2 })).toMatchObject({
      cookie: 2,
      error: nbd.NBD_ESHUTDOWN,
    });
    client.send(encodeRequest({ type: nbd.NBD_CMD_WRITE, length: 4, cookie: 3 }), Buffer.from('late'));
    expect(await client.reply()).toMatchObject({ cookie: 3, error: nbd.NBD_ESHUTDOWN });
    disk.letGo();
    expect(await client.reply()).toMatchObject({ cookie: 1, error: 0 });
    expect((await client.takeRest()).length).toBe(0);
    await closing;
    expect(disk.bytes.toString('latin1', 0, 4)).toBe('abcd');
    expect(exports.openCount).toBe(0);
  });

  it('does not wait for idle clients, however many (CVE-2024-7409)', async () => {
    const { server, enter, connect } = await serve({ limits: { handshakesMax: 200 } });
    for (let count = 0; count < 100; count++) await enter();
    for (let count = 0; count < 100; count++) await connect();
    const before = Date.now();
    await server.close(5000);
    expect(Date.now() - before).toBeLessThan(1500);
    expect(server.connectionCount).toBe(0);
  });

  it('is over at its deadline, with a device that hangs and a client that does not read', async () => {
    const { server, enter, disk } = await serve();
    const deaf = await enter();
    deaf.socket.pause();
    for (let count = 0; count < 200; count++)
      deaf.send(encodeRequest({ type: nbd.NBD_CMD_READ, length: 65536 }));
    await pause(50);
    disk.holds = true;
    const waiting = await enter();
    waiting.send(encodeRequest({ type: nbd.NBD_CMD_FLUSH }));
    await until(() => disk.waitingCount === 1);
    const before = Date.now();
    await server.close(300);
    const elapsedMs = Date.now() - before;
    expect(elapsedMs).toBeGreaterThan(250);
    expect(elapsedMs).toBeLessThan(1500);
  });

  it('lets nobody in any more', async () => {
    const { server, socketPath } = await serve();
    await server.close(100);
    await expect(RawClient.connect(socketPath)).rejects.toThrow();
  });
});
