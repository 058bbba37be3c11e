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
  let syncs = 0;
  let end: () => void = () => undefined;
  const file = await begun(() => {
    syncs += 1;
    return new Promise((resolve) => {
      end = resolve;
    });
  });
  await fill(file, 200);
  expect(syncs, 'the first one is still under way').toBe(1);
  end();
  await fill(file, 70);
  expect(syncs).toBe(2);
  let isCommitted = false;
  const committed = file.commit(200 * MIB).then(() => {
    isCommitted = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isCommitted, 'before the last one is over').toBe(false);
  end();
  await committed;
  await file.close();
  expect(fs.statSync(target).size).toBe(200 * MIB);
  fs.rmSync(target);
});

it('does not appear if a sync beside the copying has failed: the kernel tells that once', async () => {
  const file = await begun(() => Promise.reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })));
  await fill(file, 70);
  await expect(file.commit(70 * MIB)).rejects.toMatchObject({ code: 'IO' });
  await file.close();
  expect(fs.readdirSync(directory)).toEqual([]);
});
