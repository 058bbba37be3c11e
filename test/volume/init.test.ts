/** Making a store: in which order it gets to the disk. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { NodeStorage } from '../../src/base/node-storage.ts';
import { Store } from '../../src/volume/store.ts';
import { scratchDirectory } from '../support/stores.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

it('a new store is on the disk when it is made: its directory, then what is in it', async () => {
  const parent = scratchDirectory();
  const directory = path.join(parent, 'store');
  const calls: string[] = [];
  for (const call of ['makeDirectory', 'syncDirectory', 'open'] as const) {
    const real = NodeStorage.prototype[call] as (name: string, ...rest: unknown[]) => Promise<unknown>;
    const noted = function (this: NodeStorage, name: string, ...rest: unknown[]): Promise<unknown> {
      calls.push(`${call} ${path.relative(parent, this.nativePath(name)) || '.'}`);
      return real.call(this, name, ...rest);
    };
    vi.spyOn(NodeStorage.prototype, call).mockImplementation(noted as never);
  }
  await Store.init(directory);
  expect(calls).toEqual([
    'makeDirectory store',
    'syncDirectory .',
    'makeDirectory store/log',
    'open store/superblock',
    'syncDirectory store',
  ]);
  fs.rmSync(parent, { recursive: true });
});
