/** Both doors over a store in memory, for the suites that run over each. */

import { expect } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Door } from '../../src/server/door.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import type { MemoryStore } from './memory-store.ts';
import { serveMemory } from './served.ts';

interface OpenDoor {
  door: Door;
  end: () => Promise<void>;
}

export const DOORS: [kind: string, open: (store: MemoryStore) => Promise<OpenDoor>][] = [
  [
    'a store door',
    async (store) => {
      const door = new StoreDoor(store);
      return { door, end: () => door.close() };
    },
  ],
  ['a control client', async (store) => await serveMemory(store)],
];

/** What `promise` is refused with. */
export async function refusal(promise: Promise<unknown>): Promise<StoreError> {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(StoreError);
    return error as StoreError;
  }
  throw new Error('was not refused');
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
