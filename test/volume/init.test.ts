/** Making a store: in which order it gets to the disk, and how large its segments are. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { NodeStorage } from '../../src/base/node-storage.ts';
import { decodeSuperblock } from '../../src/log/superblock.ts';
import { Store } from '../../src/volume/store.ts';
import { scratchDirectory } from '../support/stores.ts';

const MIB = 2 ** 20;
const SLOT_BYTES = 4096;

function segmentBytesOf(directory: string): number {
  const file = fs.readFileSync(path.join(directory, 'superblock'));
  const slots = [file.subarray(0, SLOT_BYTES), file.subarray(SLOT_BYTES)].map(decodeSuperblock);
  return slots.find((slot) => slot !== undefined)!.segmentBytes;
}

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

it.each([
  ['4 MiB', 4 * MIB, MIB],
  ['256 MiB', 256 * MIB, 2 * MIB],
  ['3 GiB', 3072 * MIB, 16 * MIB],
  ['8 GiB', 8192 * MIB, 64 * MIB],
  ['1 TiB', 2 ** 40, 64 * MIB],
])(
  'a store of %s has segments by its capacity, so that the reserve is a small part of it',
  async (_, capacityBytes, segmentBytes) => {
    const directory = scratchDirectory();
    await Store.init(directory, { capacityBytes });
    expect(segmentBytesOf(directory)).toBe(segmentBytes);
    fs.rmSync(directory, { recursive: true });
  },
);

it('a store without a capacity has segments by what the file system has', async () => {
  const directory = scratchDirectory();
  vi.spyOn(NodeStorage.prototype, 'freeBytes').mockResolvedValue(1000 * MIB);
  await Store.init(directory);
  expect(segmentBytesOf(directory)).toBe(4 * MIB);
  fs.rmSync(directory, { recursive: true });
});

it('less than four of the smallest segments are refused, and nothing is made', async () => {
  const directory = path.join(scratchDirectory(), 'store');
  await expect(Store.init(directory, { capacityBytes: 4 * MIB - 1 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'the capacity must be at least four segments: 4194304 bytes',
  });
  expect(fs.existsSync(directory)).toBe(false);
});
