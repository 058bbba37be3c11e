/** A file that appears whole or not at all: what syncs beside the copying have to do with that. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { PartialFile } from '../../src/cli/partial-file.ts';
import { scratchDirectory } from '../support/stores.ts';

const MIB = 1 << 20;
const PIECE = Buffer.alloc(MIB, 5);
const directory = scratchDirectory();
const target = path.join(directory, 'image');

afterEach(() => {
  vi.restoreAllMocks();
});

/** A file whose syncs of data beside the copying end as `datasync` says. */
async function begun(datasync: () => Promise<void>): Promise<PartialFile> {
  const { open } = fs.promises;
  vi.spyOn(fs.promises, 'open').mockImplementation(async (...rest) => {
    const handle = await open(...rest);
    handle.datasync = datasync;
    return handle;
  });
  return await PartialFile.create(target);
}

async function fill(file: PartialFile, mebibytes: number): Promise<void> {
  for (let at = 0; at < mebibytes; at++) await file.write(PIECE, at * MIB);
}

it('is synced while it is written, once at a time, and what follows is no part of that', async () => {
  let [syncs, under, most] = [0, 0, 0];
  const file = await begun(async () => {
    syncs += 1;
    most = Math.max(most, ++under);
    await new Promise((resolve) => setTimeout(resolve, 5));
    under -= 1;
  });
  await fill(file, 300);
  expect(syncs).toBeGreaterThan(1);
  expect(most).toBe(1);
  await file.commit(300 * MIB);
  expect(under, 'the last one is over').toBe(0);
  await file.close();
  expect(fs.statSync(target).size).toBe(300 * MIB);
  fs.rmSync(target);
});

it('does not appear if a sync beside the copying has failed: the kernel tells that once', async () => {
  const file = await begun(() => Promise.reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })));
  await fill(file, 70);
  await expect(file.commit(70 * MIB)).rejects.toMatchObject({ code: 'IO' });
  await file.close();
  expect(fs.readdirSync(directory)).toEqual([]);
});
