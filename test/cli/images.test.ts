/** Import and export, over a store in memory, through both doors. */

import fs from 'node:fs';
import path from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { Interrupted } from '../../src/cli/exit-codes.ts';
import { exportToFile, exportToStream } from '../../src/cli/export-command.ts';
import { PIECE_BYTES } from '../../src/cli/image-source.ts';
import { importImage, type ImportOptions } from '../../src/cli/import-command.ts';
import { Output } from '../../src/cli/output.ts';
import type { Door } from '../../src/server/door.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import { MemoryStore } from '../server/memory-store.ts';
import { serveMemory, temporaryDirectory } from '../server/served.ts';

const MIB = 2 ** 20;
const unstopped = new AbortController().signal;

const DOORS = {
  'a store door': async (store: MemoryStore) => ({
    door: new StoreDoor(store) as Door,
    end: async () => undefined,
  }),
  'a control client': async (store: MemoryStore) => await serveMemory(store),
};

/** An image with data at its odd end, in the middle of a hole, and across two pieces. */
function sampleImage(bytes: number): Buffer {
  const image = Buffer.alloc(bytes);
  for (const at of [0, 5000, PIECE_BYTES - 3, PIECE_BYTES + 70_000, bytes - 5]) {
    for (let i = 0; i < 6_000 && at + i < bytes; i++) image[at + i] = 1 + ((at + i) % 250);
  }
  return image;
}

describe.each(Object.entries(DOORS))('through %s', (_kind, open) => {
  let store: MemoryStore;
  let door: Door;
  let end: () => Promise<void>;
  let directory: string;
  let printed: string;

  beforeEach(async () => {
    store = new MemoryStore();
    ({ door, end } = await open(store));
    directory = temporaryDirectory();
    printed = '';
  });
  afterEach(async () => {
    await end();
    fs.rmSync(directory, { recursive: true, force: true });
  });

  const output = (json = false): Output =>
    new Output(json, (text) => {
      printed += text;
    });

  function imageFile(bytes: Buffer): string {
    const file = path.join(directory, 'image.raw');
    fs.writeFileSync(file, bytes);
    return file;
  }

  async function runImport(
    file: string,
    options: Partial<ImportOptions> = {},
    stdin = Readable.from([]),
    signal = unstopped,
  ): Promise<void> {
    const defaults = { volume: 'disk', file, sizeBytes: undefined, force: false };
    await importImage(door, output(), { ...defaults, ...options }, signal, stdin);
  }

  async function runExport(name: string, signal = unstopped, file = 'out.raw'): Promise<string> {
    const target = path.join(directory, file);
    const storeDirectory = path.join(directory, 'store');
    await exportToFile(door, output(), { name, file: target, storeDirectory }, signal);
    return target;
  }

  function stdinOf(bytes: Buffer, pieceBytes = 70_001): Readable {
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += pieceBytes) pieces.push(bytes.subarray(at, at + pieceBytes));
    return Readable.from(pieces);
  }

  describe('import', () => {
    it('makes a volume of the file’s size rounded up to a sector, holes left out', async () => {
      const image = sampleImage(9 * MIB + 100);
      await runImport(imageFile(image));
      expect(store.show('disk').size).toBe(9 * MIB + 512);
      expect(store.contents('disk').subarray(0, image.length).equals(image)).toBe(true);
      expect(
        store
          .contents('disk')
          .subarray(image.length)
          .every((byte) => byte === 0),
      ).toBe(true);
      const writtenBytes = store.writes.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      expect(writtenBytes).toBeLessThan(80_000);
      expect(store.zeroed).toEqual([]);
      expect(store.flushes).toBe(1); // of its content, and so of the new volume before it
      expect(printed).toMatch(/^imported volume disk: 9 MiB from '.*image\.raw', .* stored\n$/);
    });

    it('takes --size for a larger volume', async () => {
      await runImport(imageFile(sampleImage(MIB)), { sizeBytes: 3 * MIB });
      expect(store.show('disk').size).toBe(3 * MIB);
    });

    it('keeps several writes in flight, and no more than a few', async () => {
      store.requestMs = 20;
      await runImport(imageFile(Buffer.alloc(80 * MIB, 'x')));
      expect(store.requestsRunningMax).toBeGreaterThan(1);
      expect(store.requestsRunningMax).toBeLessThanOrEqual(8);
    });

    it('reads standard input, in pieces of any size', async () => {
      const image = sampleImage(9 * MIB + 100);
      await runImport('-', { sizeBytes: 10 * MIB }, stdinOf(image));
      expect(store.contents('disk').subarray(0, image.length).equals(image)).toBe(true);
      expect(store.show('disk').size).toBe(10 * MIB);
    });

    it('of standard input needs --size', async () => {
      await expect(runImport('-', {}, stdinOf(Buffer.alloc(512)))).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('--size'),
      });
      expect(store.list()).toEqual([]);
    });

    it('overwrites a volume only with --force, and then all of it', async () => {
      await runImport(imageFile(Buffer.alloc(8 * MIB, 0xff)));
      const before = store.contents('disk');
      const smaller = sampleImage(5 * MIB);
      const file = imageFile(smaller);
      await expect(runImport(file)).rejects.toMatchObject({
        code: 'ALREADY_EXISTS',
        message: expect.stringContaining('--force'),
      });
      expect(store.contents('disk').equals(before)).toBe(true);
      await runImport(file, { force: true });
      const after = Buffer.alloc(8 * MIB);
      smaller.copy(after);
      expect(store.contents('disk').equals(after)).toBe(true);
      expect(printed).toContain('overwrote volume disk');
    });

    it('of a file larger than the volume is refused before anything changes', async () => {
      await door.create('disk', PIECE_BYTES + MIB);
      const file = imageFile(Buffer.alloc(PIECE_BYTES + MIB + 1, 1));
      for (const options of [{ force: true }, { volume: 'new', sizeBytes: PIECE_BYTES + MIB }]) {
        await expect(runImport(file, options)).rejects.toMatchObject({
          code: 'INVALID_ARGUMENT',
          message: expect.stringContaining('nothing was changed'),
        });
      }
      expect(store.list()).toHaveLength(1);
      expect(store.writes).toEqual([]);
      expect(store.zeroed).toEqual([]);
    });

    it('of an input larger than the volume is refused when it turns out, saying what is left', async () => {
      const input = stdinOf(Buffer.alloc(9 * MIB, 1));
      await expect(runImport('-', { sizeBytes: 8 * MIB }, input)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/goes on behind .*now holds a part of the image.*--force/),
      });
      expect(store.openDevices).toBeLessThanOrEqual(1);
      await expect(
        runImport('-', { volume: 'x', sizeBytes: 512 }, stdinOf(Buffer.alloc(513))),
      ).rejects.toMatchObject({
        message: expect.stringContaining('nothing was changed'),
      });
      expect(store.list().map(({ name }) => name)).toEqual(['disk']);
    });

    it.each([
      ['a file that is not there', 'missing.raw', {}, 'NOT_FOUND'],
      ['a directory', '.', {}, 'INVALID_ARGUMENT'],
      ['an empty file', 'empty.raw', {}, 'INVALID_ARGUMENT'],
      ['a wrong name', 'small.raw', { volume: 'a/b' }, 'INVALID_ARGUMENT'],
      ['an odd size', 'small.raw', { sizeBytes: 1000 }, 'INVALID_ARGUMENT'],
      ['a snapshot', 'small.raw', { volume: 'old@snap', force: true }, 'INVALID_ARGUMENT'],
      [
        'another size than the volume has',
        'small.raw',
        { volume: 'old', force: true, sizeBytes: 1024 },
        'INVALID_ARGUMENT',
      ],
    ])('refuses %s and changes nothing', async (_what, file, options, code) => {
      fs.writeFileSync(path.join(directory, 'empty.raw'), '');
      fs.writeFileSync(path.join(directory, 'small.raw'), 'small');
      await door.create('old', 512);
      await door.snapshot(['old@snap']);
      await expect(runImport(path.join(directory, file), options)).rejects.toMatchObject({ code });
      expect(store.list()).toHaveLength(2);
      expect(store.writes).toEqual([]);
    });

    it('of an empty input is refused and changes nothing', async () => {
      await expect(runImport('-', { sizeBytes: MIB })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(store.list()).toEqual([]);
    });

    it('that fails in the middle says what the volume holds', async () => {
      store.writeFailure = new StoreError('NO_SPACE', 'the store is full');
      await expect(runImport(imageFile(Buffer.alloc(40 * MIB, 1)))).rejects.toMatchObject({
        code: 'NO_SPACE',
        message: expect.stringMatching(
          /^the store is full; volume 'disk' now holds a part of the image.*--force/,
        ),
      });
      expect(store.requestsRunning).toBe(0);
    });

    it('that is stopped ends, though its input says nothing more', async () => {
      const input = new PassThrough();
      input.write(Buffer.alloc(PIECE_BYTES + 1, 7));
      const stop = new AbortController();
      const running = runImport('-', { sizeBytes: 64 * MIB }, input, stop.signal).catch(
        (error: unknown) => error,
      );
      await expect.poll(() => store.writes.length).toBe(1);
      stop.abort(new Interrupted('SIGINT'));
      const error = await running;
      expect(error).toBeInstanceOf(Interrupted);
      expect((error as Error).message).toMatch(/SIGINT; volume 'disk' now holds a part/);
    });
  });

  describe('export', () => {
    beforeEach(async () => {
      await runImport(imageFile(sampleImage(9 * MIB + 512)));
      await door.snapshot(['disk@a']);
      printed = '';
    });

    it('gives the image back, of exact size, sparse, and the user’s alone', async () => {
      const target = await runExport('disk@a');
      expect(fs.readFileSync(target).equals(sampleImage(9 * MIB + 512))).toBe(true);
      const stats = fs.statSync(target);
      expect(stats.size).toBe(9 * MIB + 512);
      expect(stats.blocks * 512).toBeLessThan(MIB);
      expect(stats.mode & 0o777).toBe(0o600);
      expect(fs.readdirSync(directory).sort()).toEqual(['image.raw', 'out.raw']);
      expect(printed).toMatch(/^exported disk@a to .*out\.raw: 9 MiB/);
    });

    it('is on the disk under its name when it is said to be there', async () => {
      const calls: string[] = [];
      const handle = await fs.promises.open(directory, 'r');
      const prototype = Object.getPrototypeOf(handle) as fs.promises.FileHandle;
      await handle.close();
      const spies = [
        vi.spyOn(prototype, 'sync').mockImplementation(async () => void calls.push('sync')),
        vi.spyOn(prototype, 'truncate').mockImplementation(async () => void calls.push('truncate')),
        vi.spyOn(fs.promises, 'rename').mockImplementation(async () => void calls.push('rename')),
      ];
      await runExport('disk').finally(() => spies.forEach((spy) => spy.mockRestore()));
      // The file, and behind the rename its directory.
      expect(calls).toEqual(['truncate', 'sync', 'rename', 'sync']);
    });

    it('gives an empty volume as one hole', async () => {
      await door.create('empty', 16 * MIB);
      const stats = fs.statSync(await runExport('empty'));
      expect(stats.size).toBe(16 * MIB);
      expect(stats.blocks).toBe(0);
    });

    it('replaces a file, also behind a symbolic link', async () => {
      fs.writeFileSync(path.join(directory, 'real.raw'), 'old');
      fs.symlinkSync('real.raw', path.join(directory, 'out.raw'));
      await runExport('disk');
      expect(fs.lstatSync(path.join(directory, 'out.raw')).isSymbolicLink()).toBe(true);
      expect(fs.statSync(path.join(directory, 'real.raw')).size).toBe(9 * MIB + 512);
    });

    it('keeps the old file and leaves nothing beside it when it fails', async () => {
      fs.writeFileSync(path.join(directory, 'out.raw'), 'old');
      await expect(runExport('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      store.readsLeft = 1;
      await expect(runExport('disk')).rejects.toMatchObject({ code: 'CORRUPTION' });
      expect(fs.readFileSync(path.join(directory, 'out.raw'), 'utf8')).toBe('old');
      expect(fs.readdirSync(directory).sort()).toEqual(['image.raw', 'out.raw']);
    });

    it('that is stopped leaves nothing behind', async () => {
      let release: () => void = () => undefined;
      store.gate = new Promise((resolve) => {
        release = resolve;
      });
      const stop = new AbortController();
      const running = runExport('disk', stop.signal).catch((error: unknown) => error);
      await expect.poll(() => store.requestsRunning).toBeGreaterThan(0);
      expect(fs.readdirSync(directory).some((name) => name.includes('.partial-'))).toBe(true);
      stop.abort(new Interrupted('SIGTERM'));
      release();
      expect(await running).toBeInstanceOf(Interrupted);
      expect(fs.readdirSync(directory)).toEqual(['image.raw']);
    });

    it.each([
      ['a directory', '.', 'INVALID_ARGUMENT'],
      ['a device', '/dev/null', 'INVALID_ARGUMENT'],
      ['a file of the store', 'store/superblock', 'INVALID_ARGUMENT'],
      ['a place that is not there', 'none/out.raw', 'NOT_FOUND'],
    ])('refuses %s', async (_what, file, code) => {
      fs.mkdirSync(path.join(directory, 'store'));
      const target = file.startsWith('/') ? path.relative(directory, file) : file;
      await expect(runExport('disk', unstopped, target)).rejects.toMatchObject({ code });
      expect(fs.statSync('/dev/null').isCharacterDevice()).toBe(true);
    });

    it('streams every byte, in order, no faster than they are taken', async () => {
      const taken: Buffer[] = [];
      const slow = new Writable({
        highWaterMark: 1,
        write(piece: Buffer, _encoding, done) {
          taken.push(Buffer.from(piece));
          setTimeout(done, 5);
        },
      });
      await exportToStream(door, 'disk@a', slow);
      expect(Buffer.concat(taken).equals(sampleImage(9 * MIB + 512))).toBe(true);
    });

    it('to a reader that goes away says that the image is not complete', async () => {
      const gone = new Writable({
        write(_piece, _encoding, done) {
          done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
        },
      });
      gone.on('error', () => undefined);
      await expect(exportToStream(door, 'disk', gone)).rejects.toMatchObject({
        code: 'IO',
        message: expect.stringMatching(/reader went away.*not complete/),
      });
    });
  });
});
