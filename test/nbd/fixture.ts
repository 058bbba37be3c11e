/**
 * A server over disks in memory, on a Unix socket in a directory of its own; gone at the end of each test.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import pino from 'pino';
import { afterEach, expect } from 'vitest';
import { NbdServer, type NbdServerOptions } from '../../src/nbd/server.ts';
import { MemoryDevice, MemoryExports } from './memory-device.ts';
import { type EnterOptions, RawClient } from './raw-client.ts';

export const DISK_BYTES = 16 * 2 ** 20;

export interface Fixture {
  readonly server: NbdServer;
  readonly exports: MemoryExports;
  /** `disk`, 16 MiB. */
  readonly disk: MemoryDevice;
  /** `disk@monday`, read-only. */
  readonly snapshot: MemoryDevice;
  readonly directory: string;
  readonly socketPath: string;
  /** What the server logged, as objects. */
  readonly logged: Record<string, unknown>[];
  readonly connect: () => Promise<RawClient>;
  /** A client in transmission with `disk`, or another export. */
  readonly enter: (options?: EnterOptions & { name?: string }) => Promise<RawClient>;
}

const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A new directory, removed at the end of the test. */
export function makeDirectory(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'coppice-nbd-'));
  cleanups.push(async () => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export async function serve(options: Partial<NbdServerOptions> = {}): Promise<Fixture> {
  const directory = makeDirectory();
  const exports = new MemoryExports();
  const disk = exports.add(new MemoryDevice('disk', DISK_BYTES));
  const snapshot = exports.add(new MemoryDevice('disk@monday', DISK_BYTES, true));
  const logged: Record<string, unknown>[] = [];
  const logger = pino({ level: 'debug' }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const server = new NbdServer({ exports, logger, ...options });
  const socketPath = path.join(directory, 'nbd.sock');
  await server.listenUnix(socketPath);
  const clients: RawClient[] = [];
  cleanups.push(async () => {
    for (const device of exports.devices.values()) device.letGo();
    for (const client of clients) client.close();
    await server.close(1000);
    await until(() => exports.openCount === 0);
    // Whatever a test did, no byte of the budget and no device may be lost.
    expect(exports.openCount).toBe(0);
    await until(() => server.inFlightBytes === 0);
    expect(server.inFlightBytes).toBe(0);
  });
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect(socketPath);
    clients.push(client);
    return client;
  };
  const enter: Fixture['enter'] = async ({ name = 'disk', ...rest } = {}) => {
    const client = await connect();
    await client.enter(name, rest);
    return client;
  };
  return { server, exports, disk, snapshot, directory, socketPath, logged, connect, enter };
}

/** Waits until `condition` holds, for two seconds at most. */
export async function until(condition: () => boolean): Promise<void> {
  for (let round = 0; round < 400 && !condition(); round++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Long enough for anything that was going to happen. */
export async function pause(delayMs = 30): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, delayMs));
}
