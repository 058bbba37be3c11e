/** Descriptors that a process was started with, and that nobody can listen on. */

import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { inspectListener } from '../../src/base/libc.ts';
import { makeDirectory, serve } from './fixture.ts';

/** Something open in this process, until `close`. */
interface Opened {
  readonly fd: number;
  readonly close: () => void;
}

const descriptorOf = (socket: object): number => (socket as { _handle: { fd: number } })._handle.fd;

async function listening(...where: [string] | [number, string]): Promise<net.Server> {
  const server = net.createServer();
  if (where.length === 1) server.listen(where[0]);
  else server.listen(...where);
  await new Promise((resolve) => server.once('listening', resolve));
  return server;
}

async function file(): Promise<Opened> {
  const fd = fs.openSync(import.meta.filename, 'r');
  return { fd, close: () => fs.closeSync(fd) };
}

async function datagrams(): Promise<Opened> {
  const socket = dgram.createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const parts = Object.getOwnPropertySymbols(socket).map((symbol) => Reflect.get(socket, symbol) as unknown);
  const state = parts.find((part) => typeof part === 'object' && part !== null && 'handle' in part);
  return { fd: (state as { handle: { fd: number } }).handle.fd, close: () => socket.close() };
}

async function connection(): Promise<Opened> {
  const server = await listening(0, '127.0.0.1');
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  const close = (): void => {
    socket.destroy();
    server.close();
  };
  return { fd: descriptorOf(socket), close };
}

describe('a descriptor that was handed over', () => {
  it.each([
    ['a file', file, 'is not a socket'],
    ['a socket for datagrams', datagrams, 'neither a Unix nor a TCP socket for streams'],
    ['a connection', connection, 'a socket that does not listen'],
  ])('is refused as %s', async (_what, open, sentence) => {
    const { server } = await serve();
    const { fd, close } = await open();
    await expect(server.listenInherited(fd, 'guests')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(`descriptor ${fd} \\(guests\\).*${sentence}`),
    });
    expect(server.listeners.length).toBe(1);
    close();
  });

  it('is refused where there is none', async () => {
    const { server } = await serve();
    await expect(server.listenInherited(99_999, 'guests')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('is known as what listens there', async () => {
    const socketPath = path.join(makeDirectory(), 'a socket');
    const unix = await listening(socketPath);
    const nameless = await listening('\0coppice-test');
    const four = await listening(0, '127.0.0.1');
    const six = await listening(0, '::1');
    expect([unix, nameless, four, six].map((server) => inspectListener(descriptorOf(server)))).toEqual([
      { family: 'unix', socketPath },
      { family: 'unix', socketPath: '' },
      { family: 'tcp', socketPath: '' },
      { family: 'tcp', socketPath: '' },
    ]);
    for (const server of [unix, nameless, four, six]) server.close();
  });
});
