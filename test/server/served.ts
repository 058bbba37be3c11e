/**
 * A control server over a store in memory, and a client of it, in a directory of their own.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { ControlClient } from '../../src/server/control-client.ts';
import { ControlServer } from '../../src/server/control-server.ts';
import type { Door } from '../../src/server/door.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import { MemoryStore } from './memory-store.ts';

export const silent = pino({ level: 'silent' });

export function temporaryDirectory(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'coppice-'));
}

export interface Served {
  store: MemoryStore;
  server: ControlServer;
  door: Door;
  socketFile: string;
  readonly end: () => Promise<void>;
}

export async function serveMemory(
  store = new MemoryStore(),
  directory = temporaryDirectory(),
): Promise<Served> {
  const socketFile = path.join(directory, 'control.sock');
  const server = new ControlServer({ door: new StoreDoor(store), logger: silent });
  await server.listen(socketFile);
  const door = await ControlClient.connect(socketFile);
  if (door === undefined) throw new Error('the server does not listen');
  return {
    store,
    server,
    door,
    socketFile,
    end: async () => {
      await door.close();
      await server.close(1000);
      fs.rmSync(directory, { recursive: true, force: true });
    },
  };
}
