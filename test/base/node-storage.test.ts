/** Files of node:fs: what the kernel is asked for, and what becomes of answers that are not the usual ones. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { StorageFile } from '../../src/base/storage.ts';
import { scratchDirectory } from '../support/stores.ts';

// Before the module takes it.
const fdatasync = vi.spyOn(fs, 'fdatasync');
const { NodeStorage } = await import('../../src/base/node-storage.ts');

let directory: string;
let storage: InstanceType<typeof NodeStorage>;
let file: StorageFile;

beforeEach(async () => {
  directory = scratchDirectory();
  storage = new NodeStorage(directory);
  file = await storage.open('file', 'create');
});

afterEach(async () => {
  vi.restoreAllMocks();
  await file.close();
  fs.rmSync(directory, { recursive: true });
});

const content = (): string => fs.readFileSync(path.join(directory, 'file'), 'latin1');
const pieces = (...texts: string[]): Buffer[] => texts.map((text) => Buffer.from(text, 'latin1'));

type Written = (error: NodeJS.ErrnoException | null, bytes: number) => void;

/** The next writes go to the file `most` bytes at a time; then, once `until` bytes are in it, as `after` says. */
function writeShort(most: number, until = Infinity, after: Parameters<Written> = [null, 0]): void {
  let total = 0;
  const short = (fd: number, buffers: readonly Buffer[], at: number, done: Written): void => {
    if (total >= until) return void setImmediate(done, ...after);
    const bytes = Buffer.concat(buffers).subarray(0, most);
    total += bytes.length;
    fs.write(fd, bytes, 0, bytes.length, at, done);
  };
  vi.spyOn(fs, 'writev').mockImplementation(short as never);
  const shortAtOnce = (fd: number, buffers: readonly Buffer[], at: number): number => {
    if (total >= until && after[0] !== null) throw after[0];
    if (total >= until) return 0;
    const bytes = Buffer.concat(buffers).subarray(0, most);
    total += bytes.length;
    return fs.writeSync(fd, bytes, 0, bytes.length, at);
  };
  vi.spyOn(fs, 'writevSync').mockImplementation(shortAtOnce as never);
}

/** The long way, and the one on the event loop. */
const WAYS: Record<string, (buffers: readonly Buffer[], position: number) => Promise<void>> = {
  write: (buffers, position) => file.write(buffers, position),
  writeCached: async (buffers, position) => expect(file.writeCached(buffers, position)).toBe(true),
};

describe('a sync', () => {
  it('of a file is one of the kernel', async () => {
    fdatasync.mockClear();
    await file.write(pieces('x'), 0);
    expect(fdatasync).not.toHaveBeenCalled();
    await file.datasync();
    expect(fdatasync).toHaveBeenCalledTimes(1);
  });

  it('of a file that fails is an error, and is not tried again', async () => {
    fdatasync.mockClear();
    fdatasync.mockImplementationOnce((_, done) => done(Object.assign(new Error('rotten'), { code: 'EIO' })));
    await expect(file.datasync()).rejects.toMatchObject({ code: 'IO' });
    expect(fdatasync).toHaveBeenCalledTimes(1);
  });

  it('of a directory is one of the kernel', async () => {
    const handle = await fs.promises.open(directory, 'r');
    const sync = vi.spyOn(Object.getPrototypeOf(handle) as fs.promises.FileHandle, 'sync');
    await handle.close();
    await storage.syncDirectory('.');
    expect(sync).toHaveBeenCalledTimes(1);
    await expect(storage.syncDirectory('nowhere')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe.each(Object.entries(WAYS))('%s', (_, write) => {
  it('is whole in the end, and at its place, though the kernel takes it in parts', async () => {
    for (const most of [1, 2, 3, 4, 7, 100]) {
      writeShort(most);
      await write(pieces('abc', '', 'defg', 'h'), 5);
      expect(content().slice(5), `${most} at a time`).toBe('abcdefgh');
      await write(pieces('--------'), 5);
    }
  });

  it('is an error if its rest is refused', async () => {
    const full = Object.assign(new Error('full'), { code: 'ENOSPC', errno: -os.constants.errno.ENOSPC });
    writeShort(3, 6, [full, 0]);
    await expect(write(pieces('abcdefgh'), 0)).rejects.toMatchObject({ code: 'NO_SPACE' });
    writeShort(3, 3, [null, 0]);
    await expect(write(pieces('abcdefgh'), 0)).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('a read', () => {
  it('that the kernel answers in parts is whole in the end, and ends with the file', async () => {
    await file.write(pieces('0123456789'), 0);
    const whole = fs.read as (...args: unknown[]) => void;
    const short = (fd: number, target: Buffer, at: number, length: number, ...rest: unknown[]): void =>
      whole(fd, target, at, Math.min(3, length), ...rest);
    vi.spyOn(fs, 'read').mockImplementation(short as never);
    const target = Buffer.alloc(12, '.');
    expect(await file.read(target, 1, 8, 1)).toBe(8);
    expect(target.toString()).toBe('.12345678...');
    expect(await file.read(target, 0, 12, 4)).toBe(6);
  });
});
