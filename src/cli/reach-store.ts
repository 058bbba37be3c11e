/**
 * Reaches a store, whoever has it open: through the control socket of its server, or by opening it here. Commands
 * get a door and cannot tell the difference.
 *
 * Invariant: the socket is asked first, and a store that is locked is tried again for a moment, because a server may
 * be just starting or stopping, or another command may be about to end. After that its owner is reported.
 */

import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../base/errors.ts';
import { ControlClient } from '../server/control-client.ts';
import type { Door } from '../server/door.ts';
import { CONTROL_SOCKET_NAME } from '../server/wire.ts';

const OWNER_WAIT_MS_MAX = 2_000;
const RETRY_MS = 100;

export function controlSocketOf(directory: string): string {
  return path.join(directory, CONTROL_SOCKET_NAME);
}

export interface ReachOptions {
  /** Where no server has it, open it to read only, damaged or not; what is damaged is told on standard error. */
  readonly readOnly?: boolean;
}

/** The door of the store in `directory`; to be closed. @throws NOT_A_STORE, LOCKED, and what opening throws */
export async function reachStore(directory: string, { readOnly = false }: ReachOptions = {}): Promise<Door> {
  return await reach(directory, async () => {
    // Not at the top: with a server running, the store's own modules are never needed.
    const [{ Store }, { StoreDoor }] = await Promise.all([
      import('../volume/store.ts'),
      import('../server/store-door.ts'),
    ]);
    if (!readOnly) return new StoreDoor(await Store.open(directory));
    const { ReadOnlyStore } = await import('../volume/read-only-store.ts');
    const store = await ReadOnlyStore.open(directory);
    for (const { message, code } of (await store.status()).damage)
      process.stderr.write(`coppice: damage: ${message} [${code}]\n`);
    return new StoreDoor(store);
  });
}

/** The server's door, or what `openHere` answers if no server has the store. */
export async function reach<T>(directory: string, openHere: () => Promise<T>): Promise<Door | T> {
  const socketFile = controlSocketOf(directory);
  return await retryWhileOwned(async () => (await ControlClient.connect(socketFile)) ?? (await openHere()));
}

/** Runs `attempt` again while it is refused because of an owner that may be gone in a moment. */
export async function retryWhileOwned<T>(attempt: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + OWNER_WAIT_MS_MAX;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      // CLOSED is the answer of a server that is stopping.
      const mayPass = hasCode(error, 'LOCKED') || hasCode(error, 'CLOSED');
      if (!mayPass || performance.now() >= deadline) throw error;
    }
    await sleep(RETRY_MS);
  }
}
