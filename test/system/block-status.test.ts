/** What real clients read of a served store's extents: an incremental backup by QEMU's tools and by libnbd's. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cleanup, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const MIB = 2 ** 20;
const TEST_MS = 120_000;

const cleanup = new Cleanup();
let store: ServedStore;

/** A disk with data, a snapshot, and changes behind it: data over data, data over nothing, zeros over data. */
beforeEach(async () => {
  store = await ServedStore.make(cleanup);
  await store.coppice('create', 'disk', '--size', '5T');
  await store.start();
  if (!hasTools) return;
  await qemuIo('write -P 1 0 8M', 'write -P 1 4T 1M', 'flush');
  await store.coppice('snapshot', 'disk@monday');
  await qemuIo('write -P 2 1M 64k', 'write -P 2 2T 4k', 'write -z 2M 1M', 'write -P 2 4T 4k', 'flush');
}, 60_000);
afterEach(async () => {
  try {
    expect((await store.stop()).code).toBe(0);
  } finally {
    await cleanup.run();
  }
}, 60_000);

const hasTools = requireTools(['qemu-img', 'qemu-io', 'nbdinfo', 'nbdcopy']);
const TIB = 2 ** 40;
/** Where the volume differs from the snapshot. */
const CHANGED = [
  [MIB, 65536],
  [2 * MIB, MIB],
  [2 * TIB, 4096],
  [4 * TIB, 4096],
];

async function qemuIo(...commands: string[]): Promise<void> {
  const args = commands.flatMap((command) => ['-c', command]);
  await tool('qemu-io', ['-f', 'raw', ...args, store.uri('disk')]);
}

interface MapEntry {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

async function nbdMap(context: string, name = 'disk'): Promise<MapEntry[]> {
  return JSON.parse(await tool('nbdinfo', [`--map=${context}`, '--json', store.uri(name)])) as MapEntry[];
}

describe.skipIf(!hasTools)('an incremental backup', () => {
  it(
    'finds what changed since a snapshot, by qemu-img',
    async () => {
      const socket = path.join(store.directory, 'nbd.sock');
      const options = `driver=nbd,export=disk,server.type=unix,server.path=${socket}`;
      const bitmap = 'x-dirty-bitmap=qemu:dirty-bitmap:monday';
      const output = await tool('qemu-img', ['map', '--output=json', '--image-opts', `${options},${bitmap}`]);
      const map = JSON.parse(output) as { start: number; length: number; data: boolean }[];
      // What such a map calls no data is what a bitmap calls dirty.
      const dirty = map.filter(({ data }) => !data).map(({ start, length }) => [start, length]);
      expect(dirty).toEqual(CHANGED);
    },
    TEST_MS,
  );

  it(
    'finds what changed since a snapshot, by libnbd, under both names',
    async () => {
      const dirty = (await nbdMap('qemu:dirty-bitmap:monday')).filter(({ type }) => type === 1);
      expect(dirty.map(({ offset, length }) => [offset, length])).toEqual(CHANGED);
      const changed = (await nbdMap('coppice:changed-since:monday')).filter(({ type }) => type !== 0);
      expect(changed.map(({ offset, length }) => [offset, length])).toEqual(CHANGED);
      // What is zeros now need not be read.
      expect(changed.map(({ type }) => type)).toEqual([1, 3, 1, 1]);
    },
    TEST_MS,
  );

  it(
    'learns how deep what it reads lies',
    async () => {
      const depths = await nbdMap('qemu:allocation-depth');
      const at = (offset: number): number =>
        depths.find((entry) => entry.offset <= offset && offset < entry.offset + entry.length)!.type;
      expect([at(0), at(MIB), at(2 * MIB), at(9 * MIB), at(2 * TIB), at(4 * TIB + 8192)]).toEqual([
        2, 1, 1, 0, 1, 2,
      ]);
    },
    TEST_MS,
  );

  it(
    'is told of contexts and a description',
    async () => {
      const info = JSON.parse(await tool('nbdinfo', ['--json', store.uri('disk')])) as {
        exports: { contexts: string[]; description: string }[];
      };
      expect(info.exports[0]!.contexts).toEqual([
        'base:allocation',
        'qemu:allocation-depth',
        'coppice:changed-since:monday',
        'qemu:dirty-bitmap:monday',
      ]);
      expect(info.exports[0]!.description).toMatch(/^volume of 5 TiB, made 20\d\d-/);
    },
    TEST_MS,
  );

  it(
    'reads holes as chunks of their own',
    async () => {
      await store.coppice('create', 'thin', '--size', '1G');
      await tool('qemu-io', ['-f', 'raw', '-c', 'write -P 3 700M 1M', '-c', 'flush', store.uri('thin')]);
      const file = store.file('thin');
      // Without asking for extents: every hole comes as a chunk of a read.
      await tool('nbdcopy', ['--no-extents', '--request-size=33554432', store.uri('thin'), file]);
      expect(fs.statSync(file).size).toBe(2 ** 30);
      expect(
        await tool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, store.uri('thin')]),
      ).toContain('identical');
    },
    TEST_MS,
  );
});
