/** proto.md, "Ordering of messages and writes", "Command flags", WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, "Error values". */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../../src/nbd/protocol.ts';
import { DISK_BYTES, serve, until } from '../fixture.ts';
import { NOTHING } from './negotiation.ts';

const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE } = nbd;
const { NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS } = nbd;
const { NBD_EINVAL, NBD_ENOSPC, NBD_EPERM, NBD_ENOTSUP } = nbd;
const { NBD_CMD_FLAG_FUA: FUA, NBD_CMD_FLAG_NO_HOLE: NO_HOLE, NBD_CMD_FLAG_DF: DF } = nbd;
const { NBD_CMD_FLAG_REQ_ONE: REQ_ONE, NBD_CMD_FLAG_FAST_ZERO: FAST_ZERO } = nbd;
const STYLES = [
  ['simple', {}],
  ['structured', { structured: true }],
  ['extended', { extended: true }],
] as const;
const COMMANDS = [
  ['READ', NBD_CMD_READ],
  ['WRITE', NBD_CMD_WRITE],
  ['FLUSH', NBD_CMD_FLUSH],
  ['TRIM', NBD_CMD_TRIM],
  ['CACHE', NBD_CMD_CACHE],
  ['WRITE_ZEROES', NBD_CMD_WRITE_ZEROES],
] as const;

describe.each(STYLES)('Error values, %s replies', (_, style) => {
  const outside: [command: string, type: number, error: number][] = [
    ['READ', NBD_CMD_READ, NBD_EINVAL],
    ['WRITE', NBD_CMD_WRITE, NBD_ENOSPC],
    ['TRIM', NBD_CMD_TRIM, NBD_EINVAL],
    ['CACHE', NBD_CMD_CACHE, NBD_EINVAL],
    ['WRITE_ZEROES', NBD_CMD_WRITE_ZEROES, NBD_ENOSPC],
  ];

  it.each(outside)('%s beyond the size of the device', async (_name, type, error) => {
    const { enter, disk } = await serve();
    const client = await enter(style);
    for (const [offset, length] of [
      [DISK_BYTES, 1],
      [DISK_BYTES - 511, 512],
      [2 ** 40, 512],
      [2n ** 63n, 512],
      [2n ** 64n - 1n, 1],
    ] as const) {
      const payload = type === NBD_CMD_WRITE ? Buffer.alloc(length) : NOTHING;
      expect(await client.ask({ type, offset, length }, payload)).toMatchObject({ error });
    }
    expect(disk.log).toEqual([]);
  });

  it.each([NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES])(
    'EPERM for command %d on a read-only export, before anything else is said',
    async (type) => {
      const { enter } = await serve();
      const client = await enter({ ...style, name: 'disk@monday' });
      const payload = type === NBD_CMD_WRITE ? Buffer.alloc(512) : NOTHING;
      expect(await client.ask({ type, length: 512 }, payload)).toMatchObject({ error: NBD_EPERM });
    },
  );

  it.each([8, 9, 255, 0x7fff, 0xffff])('EINVAL for the unknown command %d', async (type) => {
    const { enter } = await serve();
    const client = await enter(style);
    expect(await client.ask({ type, length: 512 })).toMatchObject({ error: NBD_EINVAL });
    expect(await client.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });
});

describe('Command flags', () => {
  /** Flags that are documented for a command, under structured replies. */
  const documented: Record<string, number> = {
    READ: FUA | DF,
    WRITE: FUA,
    FLUSH: FUA,
    TRIM: FUA,
    CACHE: FUA,
    WRITE_ZEROES: FUA | NO_HOLE | FAST_ZERO,
  };

  it.each(COMMANDS)(
    '%s: EINVAL for each flag that is not documented for it, and for no other',
    async (name, type) => {
      const { enter } = await serve();
      const client = await enter({ structured: true });
      const length = type === NBD_CMD_FLUSH ? 0 : 4096;
      for (let bit = 0; bit < 16; bit++) {
        const flags = 1 << bit;
        const payload = type === NBD_CMD_WRITE ? Buffer.alloc(4096) : NOTHING;
        const { error } = await client.ask({ type, flags, length }, payload);
        expect([bit, error]).toEqual([bit, (documented[name]! & flags) !== 0 ? 0 : NBD_EINVAL]);
      }
    },
  );

  it.each(COMMANDS)('FUA: %s MUST be accepted with it', async (_, type) => {
    const { enter } = await serve();
    const client = await enter();
    const length = type === NBD_CMD_FLUSH ? 0 : 512;
    const payload = type === NBD_CMD_WRITE ? Buffer.alloc(512) : NOTHING;
    const bytes = type === NBD_CMD_READ ? 512 : 0;
    expect(await client.ask({ type, flags: FUA, length }, payload, bytes)).toMatchObject({ error: 0 });
  });

  it('DF: MUST NOT be set without structured replies', async () => {
    const { enter } = await serve();
    const client = await enter();
    const reply = await client.ask({ type: NBD_CMD_READ, flags: DF, length: 512 }, NOTHING, 512);
    expect(reply).toMatchObject({ error: NBD_EINVAL });
  });

  it('REQ_ONE belongs to BLOCK_STATUS', async () => {
    const { enter } = await serve();
    const client = await enter({ structured: true });
    const flags = REQ_ONE;
    expect(await client.ask({ type: NBD_CMD_TRIM, flags, length: 512 })).toMatchObject({ error: NBD_EINVAL });
  });
});

describe.each(STYLES)('NBD_CMD_WRITE_ZEROES, %s replies', (_, style) => {
  it('reads back as zero, at odd offsets too', async () => {
    const { enter, disk } = await serve();
    const client = await enter(style);
    disk.bytes.fill(7);
    const shape = { type: NBD_CMD_WRITE_ZEROES, offset: 1001, length: 20_003 };
    expect(await client.ask(shape)).toMatchObject({ error: 0 });
    expect(disk.bytes.subarray(1001, 21_004).every((byte) => byte === 0)).toBe(true);
    expect([disk.bytes[1000], disk.bytes[21_004]]).toEqual([7, 7]);
  });

  it.each([
    [0, 4096, 0],
    [0, DISK_BYTES, 0],
    [100, 8192, 0],
    [DISK_BYTES - 4096, 4096, 0],
    [0, 0, 0],
    [0, 4095, NBD_ENOTSUP],
    [1, 4096, NBD_ENOTSUP],
    [4095, 4096, NBD_ENOTSUP],
    [100, 3, NBD_ENOTSUP],
  ])('FAST_ZERO of offset %d, length %d: %d', async (offset, length, error) => {
    const { enter, disk } = await serve();
    const client = await enter(style);
    const shape = { type: NBD_CMD_WRITE_ZEROES, flags: FAST_ZERO, offset, length };
    expect(await client.ask(shape)).toMatchObject({ error });
    // An ENOTSUP has changed nothing.
    expect(disk.log).toEqual(error === 0 && length > 0 ? ['zero'] : []);
  });

  it('without FAST_ZERO the server MUST NOT fail with ENOTSUP', async () => {
    const { enter } = await serve();
    const client = await enter(style);
    expect(await client.ask({ type: NBD_CMD_WRITE_ZEROES, offset: 1, length: 3 })).toMatchObject({
      error: 0,
    });
  });

  it('NO_HOLE MUST be supported', async () => {
    const { enter } = await serve();
    const client = await enter(style);
    for (const flags of [NO_HOLE, NO_HOLE | FUA, NO_HOLE | FAST_ZERO])
      expect(await client.ask({ type: NBD_CMD_WRITE_ZEROES, flags, length: 4096 })).toMatchObject({
        error: 0,
      });
  });
});

describe('a length of 0: the server SHOULD NOT disconnect', () => {
  it.each(COMMANDS)('%s', async (_, type) => {
    const { enter } = await serve();
    const client = await enter();
    expect(await client.ask({ type, length: 0 })).toMatchObject({ error: 0 });
    expect(await client.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });
});

describe('NBD_CMD_FLUSH', () => {
  it.each([
    [1, 0],
    [0, 1],
    [4096, 4096],
  ])('offset and length MUST be zero: %d, %d', async (offset, length) => {
    const { enter } = await serve();
    const client = await enter();
    expect(await client.ask({ type: NBD_CMD_FLUSH, offset, length })).toMatchObject({ error: NBD_EINVAL });
  });

  it('CAN_MULTI_CONN: covers what other connections were answered', async () => {
    const { enter, disk } = await serve();
    const [writer, flusher] = [await enter(), await enter()];
    await writer.ask({ type: NBD_CMD_WRITE, length: 512 }, Buffer.alloc(512, 1));
    await flusher.ask({ type: NBD_CMD_FLUSH });
    expect(disk.log).toEqual(['write', 'flush']);
  });

  it('CAN_MULTI_CONN: what one connection wrote the others read', async () => {
    const { enter } = await serve();
    const [writer, reader] = [await enter(), await enter({ structured: true })];
    for (let value = 1; value < 20; value++) {
      await writer.ask({ type: NBD_CMD_WRITE, flags: FUA, length: 512 }, Buffer.alloc(512, value));
      const read = await reader.ask({ type: NBD_CMD_READ, length: 512 });
      expect(read.payload.subarray(8).every((byte) => byte === value)).toBe(true);
    }
  });
});

describe('Ordering of messages and writes', () => {
  it('replies need not be sent in the order of requests', async () => {
    const { enter, disk } = await serve();
    const client = await enter();
    disk.holds = true;
    client.send(client.encode({ type: NBD_CMD_WRITE, length: 4, cookie: 1 }), Buffer.from('late'));
    client.send(client.encode({ type: NBD_CMD_FLUSH, cookie: 2 }));
    for (let cookie = 3; cookie < 20; cookie++)
      expect(await client.ask({ type: NBD_CMD_READ, length: 4, cookie }, NOTHING, 4)).toMatchObject({
        cookie,
      });
    disk.letGo();
    expect(new Set([(await client.reply()).cookie, (await client.reply()).cookie])).toEqual(new Set([1, 2]));
  });

  it('cookies MAY be reused, even while they are in flight', async () => {
    const { enter, disk } = await serve();
    const client = await enter();
    disk.holds = true;
    for (let count = 0; count < 5; count++) client.send(client.encode({ type: NBD_CMD_FLUSH, cookie: 7 }));
    await until(() => disk.waitingCount === 5);
    disk.letGo();
    for (let count = 0; count < 5; count++) expect((await client.reply()).cookie).toBe(7);
  });

  it('FUA is handed to the device with each kind of write', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ extended: true });
    await client.ask({ type: NBD_CMD_WRITE, flags: FUA, length: 512 }, Buffer.alloc(512));
    await client.ask({ type: NBD_CMD_TRIM, flags: FUA, length: 4096 });
    await client.ask({ type: NBD_CMD_WRITE_ZEROES, flags: FUA, length: 4096 });
    expect(disk.log).toEqual(['write fua', 'zero fua', 'zero fua']);
  });

  it('a BLOCK_STATUS that waits holds no other request back', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ structured: true, context: true });
    disk.holds = true;
    client.send(client.encode({ type: NBD_CMD_BLOCK_STATUS, length: 4096, cookie: 1 }));
    expect(await client.ask({ type: NBD_CMD_CACHE, length: 512, cookie: 2 })).toMatchObject({ cookie: 2 });
    disk.letGo();
    expect(await client.reply()).toMatchObject({ cookie: 1, error: 0 });
  });
});
