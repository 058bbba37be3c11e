/** proto.md, "NBD_CMD_READ", "Structured reply types": data, holes, DF, errors at an offset. */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../../src/base/errors.ts';
import * as nbd from '../../../src/nbd/protocol.ts';
import { Random, seeds } from '../../support/random.ts';
import { DISK_BYTES, type Fixture, serve } from '../fixture.ts';
import type { RawClient, Reply } from '../raw-client.ts';

const { NBD_CMD_READ, NBD_REPLY_TYPE_OFFSET_DATA, NBD_REPLY_TYPE_OFFSET_HOLE } = nbd;
const STYLES = [
  ['structured', { structured: true }],
  ['extended', { extended: true }],
] as const;

/** A disk with a block of data in every four, and one of 1 MiB. */
async function striped(style: object): Promise<Fixture & { client: RawClient }> {
  const fixture = await serve();
  const { disk } = fixture;
  for (let block = 0; block < 1024; block++) {
    if (block % 4 !== 1 && (block < 512 || block >= 768)) continue;
    disk.allocated[block] = 1;
    disk.bytes.fill(block + 1, block * 4096, (block + 1) * 4096);
  }
  return { ...fixture, client: await fixture.enter(style) };
}

async function readChunks(client: RawClient, offset: number, length: number, flags = 0): Promise<Reply[]> {
  client.send(client.encode({ type: NBD_CMD_READ, offset, length, flags }));
  return await client.chunks();
}

/** What chunks say of a range; every byte must be said once. */
function assemble(chunks: readonly Reply[], offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length, 0xdd);
  const seen = new Uint8Array(length);
  for (const { type, payload } of chunks) {
    const at = Number(payload.readBigUInt64BE(0)) - offset;
    const isHole = type === NBD_REPLY_TYPE_OFFSET_HOLE;
    const count = isHole ? payload.readUInt32BE(8) : payload.length - 8;
    expect(count).toBeGreaterThan(0);
    expect(seen.subarray(at, at + count).includes(1)).toBe(false);
    expect(at >= 0 && at + count <= length).toBe(true);
    seen.fill(1, at, at + count);
    if (isHole) bytes.fill(0, at, at + count);
    else payload.copy(bytes, at, 8);
  }
  expect(seen.includes(0)).toBe(false);
  return bytes;
}

describe.each(STYLES)('NBD_CMD_READ, %s replies', (_, style) => {
  it.each([true, false])(
    'a range of data and holes comes in chunks of both (at once: %s)',
    async (readsAtOnce) => {
      const { client, disk } = await striped(style);
      disk.readsAtOnce = readsAtOnce;
      const chunks = await readChunks(client, 0, 32768);
      expect(chunks.map(({ type }) => type)).toEqual([2, 1, 2, 1, 2]);
      expect(chunks.map(({ flags }) => flags)).toEqual([0, 0, 0, 0, nbd.NBD_REPLY_FLAG_DONE]);
      expect(assemble(chunks, 0, 32768).equals(disk.bytes.subarray(0, 32768))).toBe(true);
    },
  );

  it('a hole is one chunk of 12 bytes, however long', async () => {
    const { client, disk } = await striped(style);
    for (const readsAtOnce of [true, false]) {
      disk.readsAtOnce = readsAtOnce;
      for (const length of [4096, 65536, 2 ** 20, 4 * 2 ** 20]) {
        const chunks = await readChunks(client, 8 * 2 ** 20, length);
        expect(chunks.map(({ type }) => type)).toEqual([NBD_REPLY_TYPE_OFFSET_HOLE]);
        expect(chunks[0]!.payload.length).toBe(12);
        expect(chunks[0]!.payload.readUInt32BE(8)).toBe(length);
      }
    }
  });

  it('lengths and offsets are multiples of 512 where possible: less of a hole is sent as zeros', async () => {
    const { client } = await striped(style);
    // 100 bytes of a hole, a block of data, 100 bytes of a hole.
    const chunks = await readChunks(client, 3996, 4296);
    expect(chunks.map(({ type }) => type)).toEqual([NBD_REPLY_TYPE_OFFSET_DATA]);
  });

  it('DF: at most one content chunk, with the zeroes explicitly present', async () => {
    const { client, disk } = await striped(style);
    for (const readsAtOnce of [true, false]) {
      disk.readsAtOnce = readsAtOnce;
      for (const length of [4096, 65536, 2 ** 20]) {
        const chunks = await readChunks(client, 0, length, nbd.NBD_CMD_FLAG_DF);
        expect(chunks.map(({ type }) => type)).toEqual([NBD_REPLY_TYPE_OFFSET_DATA]);
        expect(assemble(chunks, 0, length).equals(disk.bytes.subarray(0, length))).toBe(true);
      }
    }
  });

  it('DF: the server MUST support 65,536 bytes; here it may be as many as without', async () => {
    const { enter } = await serve();
    const client = await enter(style);
    const chunks = await readChunks(client, 0, DISK_BYTES, nbd.NBD_CMD_FLAG_DF);
    expect(chunks.length).toBe(1);
    expect(chunks[0]!.payload.length).toBe(8 + DISK_BYTES);
  });

  it('a server SHOULD try to minimize the number of chunks: many small holes are sent as data', async () => {
    const { client, disk } = await striped(style);
    const chunks = await readChunks(client, 0, 4 * 2 ** 20);
    expect(chunks.length).toBeLessThan(140);
    expect(assemble(chunks, 0, 4 * 2 ** 20).equals(disk.bytes.subarray(0, 4 * 2 ** 20))).toBe(true);
  });

  for (const seed of seeds(2)) {
    it(`chunks cover the range exactly, wherever it lies (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const { client, disk } = await striped(style);
      for (let round = 0; round < 300; round++) {
        disk.readsAtOnce = random.chance(50);
        const offset = random.below(4 * 2 ** 20);
        const length = 1 + random.below(random.pick([10, 5000, 70_000, 600_000]));
        const chunks = await readChunks(client, offset, length);
        expect(assemble(chunks, offset, length).equals(disk.bytes.subarray(offset, offset + length))).toBe(
          true,
        );
      }
    });
  }

  it('ERROR_OFFSET: where the error is, if that is known; what was read is not sent', async () => {
    const { client, disk } = await striped(style);
    const error = new StoreError('CORRUPTION', 'chunk 3 of /a/secret/path');
    for (const [diskOffset, told] of [
      [12288, 12288],
      [4096, 8192],
      [0, 8192],
    ] as const) {
      error.diskOffset = diskOffset;
      disk.error = error;
      const [chunk, ...more] = await readChunks(client, 8192, 16384);
      expect(more).toEqual([]);
      expect(chunk).toMatchObject({ type: nbd.NBD_REPLY_TYPE_ERROR_OFFSET, error: nbd.NBD_EIO });
      const textBytes = chunk!.payload.readUInt16BE(4);
      expect(chunk!.payload.length).toBe(14 + textBytes);
      expect(Number(chunk!.payload.readBigUInt64BE(6 + textBytes))).toBe(told);
      expect(chunk!.payload.toString()).not.toContain('secret');
    }
  });

  it('ERROR: an offset that MUST lie within the request, and does not, is not told', async () => {
    const { client, disk } = await striped(style);
    disk.error = new StoreError('CORRUPTION', 'elsewhere');
    disk.error.diskOffset = 2 ** 20;
    const [chunk] = await readChunks(client, 8192, 16384);
    expect(chunk).toMatchObject({ type: nbd.NBD_REPLY_TYPE_ERROR, error: nbd.NBD_EIO });
  });

  it('a length of 0: the server SHOULD NOT disconnect', async () => {
    const { client } = await striped(style);
    expect((await readChunks(client, 100, 0))[0]).toMatchObject({ type: nbd.NBD_REPLY_TYPE_NONE, error: 0 });
    expect((await readChunks(client, 0, 4096))[0]).toMatchObject({ error: 0 });
  });
});

describe('NBD_CMD_READ, simple replies', () => {
  it('contain length bytes of data, zeros of holes too', async () => {
    const { client, disk } = await striped({});
    const reply = await client.ask({ type: NBD_CMD_READ, length: 65536 }, undefined, 65536);
    expect(reply.payload.equals(disk.bytes.subarray(0, 65536))).toBe(true);
  });

  it('an error MUST NOT have any payload', async () => {
    const { client, disk } = await striped({});
    disk.error = new StoreError('CORRUPTION', 'gone');
    expect(await client.ask({ type: NBD_CMD_READ, length: 65536 }, undefined, 65536)).toMatchObject({
      error: nbd.NBD_EIO,
    });
    disk.error = undefined;
    expect(await client.ask({ type: NBD_CMD_READ, length: 1 }, undefined, 1)).toMatchObject({ error: 0 });
  });
});
