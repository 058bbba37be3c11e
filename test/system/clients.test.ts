/** Real NBD clients at work on a served store: QEMU's tools, libnbd's, and fio. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cleanup, type Outcome, Program, runTool, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 64 * MIB;
const TEST_MS = 180_000;

const cleanup = new Cleanup();
let store: ServedStore;

beforeEach(async () => {
  store = await ServedStore.make(cleanup, ['--segment-size', '16M']);
  await store.coppice('create', 'disk', '--size', String(DISK_BYTES));
  await store.start();
}, 60_000);
afterEach(async () => {
  const { log } = store;
  let damage: string | undefined;
  try {
    expect((await store.stop()).code).toBe(0);
    damage = await store.damage();
  } finally {
    await cleanup.run();
  }
  expect(damage).toBeUndefined();
  expect(log).not.toMatch(/"level":(50|60)/);
}, 60_000);

/** An image of the disk's size with data at both ends, holes, and a stretch of odd length. */
function sampleImage(): Buffer {
  const image = Buffer.alloc(DISK_BYTES);
  for (const [offset, length] of [
    [0, 3 * MIB],
    [5 * MIB + 777, 9 * MIB + 33],
    [31 * MIB - 1, 4099],
    [DISK_BYTES - MIB, MIB],
  ] as const) {
    randomBytes(length).copy(image, offset);
  }
  return image;
}

function imageFile(name: string, image = sampleImage()): string {
  const file = store.file(name);
  fs.writeFileSync(file, image);
  return file;
}

function sameBytes(one: string, other: string): boolean {
  return fs.readFileSync(one).equals(fs.readFileSync(other));
}

/** Runs commands of qemu-io, which goes on after a failed one: what failed is in the output. */
function qemuIo(uri: string, ...commands: string[]): Promise<Outcome> {
  return runTool('qemu-io', ['-d', 'unmap', '-f', 'raw', ...commands.flatMap((line) => ['-c', line]), uri]);
}

/** As qemuIo, and nothing may fail. */
async function qemuIoWorks(uri: string, ...commands: string[]): Promise<void> {
  const { result, output } = await qemuIo(uri, ...commands);
  expect(output).not.toMatch(/fail|error|invalid|denied/i);
  expect(result, output).toBe(0);
}

function identical(file: string, uri: string): Promise<string> {
  return tool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, uri]);
}

describe.skipIf(!requireTools(['qemu-img', 'qemu-io']))('QEMU', () => {
  it(
    'copies an image in and out with qemu-img, byte for byte',
    async () => {
      const source = imageFile('source.raw');
      const target = store.file('target.raw');
      await tool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, store.uri('disk')]);
      expect(await identical(source, store.uri('disk'))).toContain('identical');
      await tool('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', store.uri('disk'), target]);
      expect(sameBytes(source, target)).toBe(true);
    },
    TEST_MS,
  );

  it(
    'copies an image in out of order, with many requests at once, over an older one',
    async () => {
      const options = ['-n', '-W', '-m', '16', '-f', 'raw', '-O', 'raw'];
      await tool('qemu-img', ['convert', ...options, imageFile('older.raw'), store.uri('disk')]);
      const source = imageFile('source.raw');
      await tool('qemu-img', ['convert', ...options, source, store.uri('disk')]);
      expect(await identical(source, store.uri('disk'))).toContain('identical');
      await tool('qemu-img', ['bench', '-w', '-c', '2000', '-d', '32', '-f', 'raw', store.uri('disk')]);
    },
    TEST_MS,
  );

  it(
    'writes, zeroes and discards at odd offsets with qemu-io, and reads that through another connection',
    async () => {
      await qemuIoWorks(
        store.uri('disk'),
        'write -P 7 1001 5003',
        'read -P 7 1001 5003',
        'read -P 0 0 1001',
        'read -P 0 6004 4096',
        'write -f -P 9 65001 1000001',
        'write -z 70001 8191',
        'write -zu 131073 131071',
        'discard 300001 65537',
        'aio_write -P 3 2097151 65537',
        'aio_write -P 4 3M 5M',
        'aio_write -f -P 5 9000001 1',
        'aio_flush',
        'flush',
      );
      await qemuIoWorks(
        store.uri('disk'),
        'read -P 7 1001 5003',
        'read -P 9 65001 5000',
        'read -P 0 70001 8191',
        'read -P 9 78192 52881',
        'read -P 0 131073 131071',
        'read -P 9 262144 37857',
        'read -P 0 300001 65537',
        'read -P 9 365538 699464',
        'read -P 0 1065002 1032149',
        'read -P 3 2097151 65537',
        'read -P 4 3M 5M',
        'read -P 5 9000001 1',
        'read -P 0 9000002 4096',
      );
    },
    TEST_MS,
  );

  it('is refused a request past the end and a write to a snapshot, and goes on', async () => {
    await store.coppice('snapshot', 'disk@one');
    const beyond = await qemuIo(store.uri('disk'), `write -P 1 ${DISK_BYTES} 4096`);
    expect(beyond.output).toMatch(/failed|error|beyond|invalid/i);
    const written = await qemuIo(store.uri('disk@one'), 'write -P 1 0 4096');
    expect(written.output).toMatch(/permission denied|read-only|not permitted/i);
    await qemuIoWorks(store.uri('disk'), 'write -P 2 0 4096', 'read -P 2 0 4096');
    const read = await tool('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 0 0 4096', store.uri('disk@one')]);
    expect(read).not.toMatch(/fail|error/i);
  });

  it(
    'reads the same from a snapshot while the volume is written',
    async () => {
      const frozen = imageFile('frozen.raw');
      await tool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', frozen, store.uri('disk')]);
      await store.coppice('snapshot', 'disk@frozen');
      const writer = new Program('qemu-io', ['-d', 'unmap', '-f', 'raw', store.uri('disk')]);
      cleanup.add(() => writer.kill());
      const lines = Array.from({ length: 400 }, (_, i) => {
        const offset = (i * 7_654_321) % (DISK_BYTES - 200_000);
        return i % 5 === 4 ? `discard ${offset} 99999` : `write -P ${1 + (i % 255)} ${offset} 123457`;
      });
      writer.endInput([...lines, 'flush', ''].join('\n'));
      await writer.until(() => writer.output.includes('wrote '), 'first write');
      do {
        expect(await identical(frozen, store.uri('disk@frozen'))).toContain('identical');
      } while (writer.result === undefined);
      expect(writer.output).not.toMatch(/failed|error/i);
      const volume = await runTool('qemu-img', [
        'compare',
        '-f',
        'raw',
        '-F',
        'raw',
        frozen,
        store.uri('disk'),
      ]);
      expect(volume.result).toBe(1);
      const exported = store.file('exported.raw');
      await store.coppice('export', 'disk@frozen', exported);
      expect(sameBytes(exported, frozen)).toBe(true);
    },
    TEST_MS,
  );
});

describe.skipIf(!requireTools(['nbdcopy', 'nbdinfo']))('libnbd', () => {
  it(
    'copies a disk in and out with nbdcopy over four connections',
    async () => {
      const source = imageFile('source.raw');
      const target = store.file('target.raw');
      const multi = ['--connections=4', '--threads=4', '--requests=16'];
      await tool('nbdcopy', [...multi, '--flush', source, store.uri('disk')]);
      await tool('nbdcopy', [...multi, store.uri('disk'), target]);
      expect(sameBytes(source, target)).toBe(true);
      await store.coppice('snapshot', 'disk@one');
      await tool('nbdcopy', [...multi, '--request-size=65536', store.uri('disk@one'), target]);
      expect(sameBytes(source, target)).toBe(true);
    },
    TEST_MS,
  );

  it(
    'copies from one volume to another of the same server',
    async () => {
      const source = imageFile('source.raw');
      const target = store.file('target.raw');
      await store.coppice('import', 'full', source);
      await tool('nbdcopy', ['--connections=4', '--flush', store.uri('full'), store.uri('disk')]);
      await store.coppice('export', 'disk', target);
      expect(sameBytes(source, target)).toBe(true);
    },
    TEST_MS,
  );

  it('lists volumes and snapshots with nbdinfo, those too that came after the start', async () => {
    await store.coppice('snapshot', 'disk@one');
    await store.coppice('clone', 'disk@one', 'branch');
    const listed = await tool('nbdinfo', ['--list', '--json', store.uri('')]);
    const exports = (JSON.parse(listed) as { exports: Record<string, unknown>[] }).exports;
    const seen = exports.map((each) => [
      each['export-name'],
      { bytes: each['export-size'], readOnly: each.is_read_only },
    ]);
    expect(seen.length).toBe(3);
    expect(Object.fromEntries(seen)).toEqual({
      branch: { bytes: DISK_BYTES, readOnly: false },
      disk: { bytes: DISK_BYTES, readOnly: false },
      'disk@one': { bytes: DISK_BYTES, readOnly: true },
    });
    for (const each of exports) {
      expect(each).toMatchObject({
        can_multi_conn: true,
        can_df: true,
        contexts: expect.arrayContaining(['base:allocation']) as unknown,
      });
    }
    expect((await tool('nbdinfo', ['--size', store.uri('branch')])).trim()).toBe(String(DISK_BYTES));
  });

  it('maps data as data, and what was never written or trimmed as a hole', async () => {
    const image = Buffer.alloc(DISK_BYTES);
    image.fill(5, 8 * MIB, 12 * MIB);
    await store.coppice('import', 'mapped', imageFile('mapped.raw', image));
    const map = async (): Promise<unknown> =>
      JSON.parse(await tool('nbdinfo', ['--map', '--json', store.uri('mapped')]));
    expect(await map()).toMatchObject([
      { offset: 0, length: 8 * MIB, type: 3 },
      { offset: 8 * MIB, length: 4 * MIB, type: 0 },
      { offset: 12 * MIB, length: DISK_BYTES - 12 * MIB, type: 3 },
    ]);
  });

  it('is told that an export does not exist, and that no name is no volume when there are two', async () => {
    const unnamed = await tool('nbdinfo', ['--size', store.uri('')]);
    expect(unnamed.trim()).toBe(String(DISK_BYTES));
    await store.coppice('create', 'second', '--size', '1M');
    for (const name of ['nope', 'disk@nope', 'nope@one', '..%2fstore', '']) {
      const { result, output } = await runTool('nbdinfo', ['--size', store.uri(name)]);
      expect(result, `${name}: ${output}`).not.toBe(0);
    }
    await tool('nbdinfo', ['--size', store.uri('disk')]);
  });
});

describe.skipIf(!requireTools(['fio']))('fio', () => {
  it.each([
    ['4 KiB blocks', '--bs=4k'],
    ['blocks of 512 bytes to 128 KiB', '--bsrange=512-128k'],
  ])(
    'verifies what four connections wrote at random in %s',
    async (_what, blocks) => {
      const { result, output } = await runTool(
        'fio',
        [
          '--name=verify',
          '--ioengine=nbd',
          `--uri=${store.uri('disk')}`,
          '--rw=randwrite',
          blocks,
          '--size=12m',
          '--offset_increment=16m',
          '--numjobs=4',
          '--iodepth=16',
          '--fsync=64',
          '--verify=crc32c',
          '--do_verify=1',
          '--verify_fatal=1',
          '--verify_state_save=0',
        ],
        { cwd: store.scratch },
      );
      expect(output).not.toMatch(/verify.*(failed|bad)|error=|err=\s*[1-9]/i);
      expect(result, output).toBe(0);
    },
    TEST_MS,
  );
});
