/** The transmission phase on raw sockets: every command, every rejection, splits at every byte. */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import * as nbd from '../../src/nbd/protocol.ts';
import { DISK_BYTES, pause, serve, until } from './fixture.ts';
import { encodeRequest, extentsOf, RawClient, type Reply } from './raw-client.ts';

const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_DISC } = nbd;
const { NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS, NBD_EINVAL, NBD_EPERM, NBD_ENOSPC } = nbd;
const MIB = 2 ** 20;

/** Bytes that differ at every position and for every seed. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 31 + (index >> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** Extents of a BLOCK_STATUS reply as [bytes, flags]. */
function extents(reply: Reply): [number, number][] {
  expect(reply.payload.readUInt32BE(0)).toBe(1);
  return extentsOf(reply);
}

describe.each([false, true])('with structured replies: %s', (structured) => {
  it.each([1, 511, 4096, 65536, 65537, 1_000_003])(
    'reads back what was written, %d bytes',
    async (length) => {
      const { enter, disk } = await serve();
      const client = await enter({ structured });
      for (const [round, readsAtOnce] of [true, false].entries()) {
        disk.readsAtOnce = readsAtOnce;
        const payload = pattern(length, round);
        const offset = 12345;
        const written = await client.ask({ type: NBD_CMD_WRITE, offset, length, cookie: 7 }, payload);
        expect(written).toMatchObject({ error: 0, cookie: 7, type: -1 });
        const read = await client.ask({ type: NBD_CMD_READ, offset, length, cookie: 8 }, undefined, length);
        expect(read).toMatchObject({ error: 0, cookie: 8 });
        const payloadRead = structured ? read.payload.subarray(8) : read.payload;
        expect(payloadRead.equals(payload)).toBe(true);
        if (structured) {
          expect(read).toMatchObject({
            type: nbd.NBD_REPLY_TYPE_OFFSET_DATA,
            flags: nbd.NBD_REPLY_FLAG_DONE,
          });
          expect(Number(read.payload.readBigUInt64BE(0))).toBe(offset);
        }
      }
    },
  );

  it('answers requests of no length with success', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ structured });
    for (const type of [NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES]) {
      expect(await client.ask({ type, offset: DISK_BYTES, length: 0 })).toMatchObject({ error: 0 });
      expect((await client.ask({ type, offset: DISK_BYTES + 1, length: 0 })).error).not.toBe(0);
    }
    expect(disk.log).toEqual([]);
  });

  it('refuses what lies outside the disk, also where 64 bits wrap', async () => {
    const { enter } = await serve();
    const client = await enter({ structured });
    const outside: [bigint, number][] = [
      [BigInt(DISK_BYTES), 1],
      [BigInt(DISK_BYTES) - 1n, 2],
      [2n ** 32n, 512],
      [2n ** 53n - 1n, 512],
      [2n ** 53n, 512],
      [2n ** 53n + 1n, 512],
      [2n ** 63n, 512],
      [2n ** 64n - 512n, 512],
      [2n ** 64n - 1n, 1],
    ];
    const expected: [number, number][] = [
      [NBD_CMD_READ, NBD_EINVAL],
      [NBD_CMD_WRITE, NBD_ENOSPC],
      [NBD_CMD_TRIM, NBD_EINVAL],
      [NBD_CMD_CACHE, NBD_EINVAL],
      [NBD_CMD_WRITE_ZEROES, NBD_ENOSPC],
    ];
    for (const [offset, length] of outside) {
      for (const [type, error] of expected) {
        const payload = Buffer.alloc(type === NBD_CMD_WRITE ? length : 0, 'x');
        expect(await client.ask({ type, offset, length, cookie: type }, payload)).toMatchObject({
          error,
          cookie: type,
        });
      }
    }
  });

  it('refuses unknown commands and flags that do not belong', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ structured });
    const wrong = [
      { type: 8 },
      { type: 0xffff },
      { type: NBD_CMD_READ, length: 512, flags: nbd.NBD_CMD_FLAG_NO_HOLE },
      { type: NBD_CMD_READ, length: 512, flags: 1 << 15 },
      { type: NBD_CMD_FLUSH, flags: nbd.NBD_CMD_FLAG_REQ_ONE },
      { type: NBD_CMD_FLUSH, offset: 1 },
      { type: NBD_CMD_FLUSH, length: 1 },
      { type: NBD_CMD_TRIM, length: 512, flags: nbd.NBD_CMD_FLAG_NO_HOLE },
      { type: NBD_CMD_WRITE_ZEROES, length: 512, flags: nbd.NBD_CMD_FLAG_DF },
      { type: NBD_CMD_BLOCK_STATUS, length: 512 },
      { type: NBD_CMD_CACHE, length: 512, flags: nbd.NBD_CMD_FLAG_DF },
    ];
    for (const shape of wrong) expect(await client.ask(shape)).toMatchObject({ error: NBD_EINVAL });
    const write = { type: NBD_CMD_WRITE, length: 512, flags: nbd.NBD_CMD_FLAG_DF };
    expect(await client.ask(write, Buffer.alloc(512))).toMatchObject({ error: NBD_EINVAL });
    expect(disk.log).toEqual([]);
  });

  it('passes over the payload of a refused write, however long, and stays in step', async () => {
    const { enter, disk, server } = await serve();
    const client = await enter({ structured });
    const length = nbd.PAYLOAD_BYTES_MAX + 1;
    client.send(encodeRequest({ type: NBD_CMD_WRITE, length, cookie: 3 }));
    for (let sent = 0; sent < length; sent += MIB) {
      client.send(Buffer.alloc(Math.min(MIB, length - sent), 0x25));
      await new Promise((resolve) => setImmediate(resolve));
      expect(server.inFlightBytes).toBe(0);
    }
    expect(await client.reply()).toMatchObject({ error: NBD_EINVAL, cookie: 3 });
    expect(await client.ask({ type: NBD_CMD_FLUSH, cookie: 4 })).toMatchObject({ error: 0, cookie: 4 });
    expect(disk.log).toEqual(['flush']);
  });

  it('refuses a read of more than 32 MiB', async () => {
    const { enter } = await serve();
    const client = await enter({ structured });
    const reply = await client.ask({ type: NBD_CMD_READ, length: nbd.PAYLOAD_BYTES_MAX + 1 });
    expect(reply.error).toBe(structured ? nbd.NBD_EOVERFLOW : NBD_EINVAL);
  });

  it('tells a read-only export from a full one', async () => {
    const { enter, snapshot } = await serve();
    const client = await enter({ structured, name: 'disk@monday' });
    for (const type of [NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES]) {
      const payload = Buffer.alloc(type === NBD_CMD_WRITE ? 4096 : 0, 'x');
      expect(await client.ask({ type, length: 4096 }, payload)).toMatchObject({ error: NBD_EPERM });
    }
    expect(await client.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
    expect(await client.ask({ type: NBD_CMD_READ, length: 512 }, undefined, 512)).toMatchObject({ error: 0 });
    expect(snapshot.log).toEqual(['flush']);
  });

  it('answers each error of the device by its table, and never sends what a failed read left behind', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ structured });
    for (const length of [4096, 262144]) {
      for (const [code, error] of Object.entries(nbd.NBD_ERROR)) {
        disk.error = new StoreError(code as keyof typeof nbd.NBD_ERROR, 'on purpose');
        const read = await client.ask({ type: NBD_CMD_READ, length }, undefined, length);
        expect(read).toMatchObject({ error });
        expect(read.payload.includes(0xdb)).toBe(false);
        const write = { type: NBD_CMD_WRITE, length };
        expect(await client.ask(write, Buffer.alloc(length))).toMatchObject({ error });
        expect(await client.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error });
        expect(await client.ask({ type: NBD_CMD_TRIM, length })).toMatchObject({ error });
      }
    }
    disk.error = undefined;
    const read = await client.ask({ type: NBD_CMD_READ, length: 4096 }, undefined, 4096);
    expect(read).toMatchObject({ error: 0 });
    expect(read.payload.includes(0xdb)).toBe(false);
  });

  it('understands requests cut at every byte', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ structured });
    client.socket.setNoDelay(true);
    const offset = 8192;
    const bytes = Buffer.concat([
      encodeRequest({ type: NBD_CMD_WRITE, offset, length: 10, cookie: 1 }),
      Buffer.from('0123456789'),
      encodeRequest({ type: NBD_CMD_FLUSH, cookie: 2 }),
      encodeRequest({ type: NBD_CMD_WRITE, offset: DISK_BYTES, length: 5, cookie: 3 }),
      Buffer.from('extra'),
    ]);
    for (let cut = 1; cut < bytes.length; cut++) {
      disk.bytes.fill(0);
      client.send(bytes.subarray(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setImmediate(resolve));
      client.send(bytes.subarray(cut));
      const replies = [await client.reply(), await client.reply(), await client.reply()];
      const errors = new Map(replies.map((reply) => [reply.cookie, reply.error]));
      expect([errors.get(1), errors.get(2), errors.get(3)]).toEqual([0, 0, NBD_ENOSPC]);
      expect(disk.bytes.toString('latin1', offset, offset + 10)).toBe('0123456789');
    }
  });

  it('answers a storm of mixed requests, each once', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ structured });
    disk.readsAtOnce = false;
    const count = 2000;
    for (let cookie = 0; cookie < count; cookie++) {
      if (cookie % 3 === 0) client.send(encodeRequest({ type: NBD_CMD_FLUSH, cookie }));
      else if (cookie % 3 === 1) client.send(encodeRequest({ type: NBD_CMD_TRIM, length: 4096, cookie }));
      else client.send(encodeRequest({ type: NBD_CMD_WRITE, length: 100, cookie }), Buffer.alloc(100));
    }
    const seen = new Set<number>();
    for (let index = 0; index < count; index++) seen.add((await client.reply()).cookie);
    expect(seen.size).toBe(count);
  });
});

describe('writes', () => {
  it('with FUA say so, and so do trims and zeroes', async () => {
    const { enter, disk } = await serve();
    const client = await enter();
    const flags = nbd.NBD_CMD_FLAG_FUA;
    await client.ask({ type: NBD_CMD_WRITE, length: 512 }, Buffer.alloc(512));
    await client.ask({ type: NBD_CMD_WRITE, length: 512, flags }, Buffer.alloc(512));
    await client.ask({ type: NBD_CMD_TRIM, length: 4096 });
    await client.ask({ type: NBD_CMD_TRIM, length: 4096, flags });
    await client.ask({ type: NBD_CMD_WRITE_ZEROES, length: 4096, flags: nbd.NBD_CMD_FLAG_NO_HOLE });
    await client.ask({ type: NBD_CMD_WRITE_ZEROES, length: 4096, flags });
    expect(disk.log).toEqual(['write', 'write fua', 'zero', 'zero fua', 'zero', 'zero fua']);
  });

  it('take FUA on every command', async () => {
    const { enter } = await serve();
    const client = await enter();
    const flags = nbd.NBD_CMD_FLAG_FUA;
    expect(await client.ask({ type: NBD_CMD_READ, length: 512, flags }, undefined, 512)).toMatchObject({
      error: 0,
    });
    expect(await client.ask({ type: NBD_CMD_FLUSH, flags })).toMatchObject({ error: 0 });
    expect(await client.ask({ type: NBD_CMD_CACHE, length: 512, flags })).toMatchObject({ error: 0 });
  });

  it('may be answered out of order', async () => {
    const { enter, disk } = await serve();
    const client = await enter();
    disk.holds = true;
    client.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4, cookie: 1 }), Buffer.from('late'));
    expect(await client.ask({ type: NBD_CMD_READ, length: 4, cookie: 2 }, undefined, 4)).toMatchObject({
      cookie: 2,
    });
    disk.letGo();
    expect(await client.reply()).toMatchObject({ cookie: 1, error: 0 });
  });
});

describe('trims', () => {
  it('may be as long as the field allows', async () => {
    const { enter, exports } = await serve();
    const { MemoryDevice } = await import('./memory-device.ts');
    exports.add(new MemoryDevice('large', 8 * 2 ** 40));
    const client = await enter({ name: 'large' });
    for (const type of [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE]) {
      const shape = { type, offset: 2n ** 42n, length: 2 ** 32 - 1 };
      expect(await client.ask(shape)).toMatchObject({ error: 0 });
    }
  });
});

describe('block status', () => {
  it('calls written blocks data, and others holes that read as zeros', async () => {
    const { enter } = await serve();
    const client = await enter({ structured: true, context: true });
    await client.ask({ type: NBD_CMD_WRITE, offset: 8192, length: 4096 }, Buffer.alloc(4096));
    const reply = await client.ask({ type: NBD_CMD_BLOCK_STATUS, offset: 0, length: 65536 });
    expect(reply).toMatchObject({ type: nbd.NBD_REPLY_TYPE_BLOCK_STATUS, flags: nbd.NBD_REPLY_FLAG_DONE });
    expect(extents(reply)).toEqual([
      [8192, 3],
      [4096, 0],
      [53248, 3],
    ]);
  });

  it('answers one extent to whoever wants one', async () => {
    const { enter } = await serve();
    const client = await enter({ structured: true, context: true });
    await client.ask({ type: NBD_CMD_WRITE, offset: 8192, length: 4096 }, Buffer.alloc(4096));
    const shape = { type: NBD_CMD_BLOCK_STATUS, flags: nbd.NBD_CMD_FLAG_REQ_ONE, offset: 100, length: 65536 };
    expect(extents(await client.ask(shape))).toEqual([[8092, 3]]);
  });

  it('is bounded for a fragmented disk', async () => {
    const { enter, disk } = await serve();
    for (let block = 0; block < disk.allocated.length; block += 2) disk.allocated[block] = 1;
    const client = await enter({ structured: true, context: true });
    const list = extents(await client.ask({ type: NBD_CMD_BLOCK_STATUS, length: DISK_BYTES }));
    expect(list.length).toBe(2048);
  });

  it('takes the longest length there is (CVE-2025-47711, CVE-2025-47712)', async () => {
    const { enter, exports } = await serve();
    const { MemoryDevice } = await import('./memory-device.ts');
    exports.add(new MemoryDevice('large', 8 * 2 ** 40));
    const client = await enter({ name: 'large', structured: true, context: true });
    for (const length of [2 ** 31 - 1, 2 ** 31, 2 ** 32 - 4096, 2 ** 32 - 1]) {
      const reply = await client.ask({ type: NBD_CMD_BLOCK_STATUS, offset: 2n ** 42n, length });
      expect(extents(reply)).toEqual([[length, 3]]);
    }
  });

  it('of nothing, or outside the disk, is refused', async () => {
    const { enter } = await serve();
    const client = await enter({ structured: true, context: true });
    for (const [offset, length] of [
      [0, 0],
      [DISK_BYTES, 1],
      [DISK_BYTES - 1, 2],
    ]) {
      expect(await client.ask({ type: NBD_CMD_BLOCK_STATUS, offset, length })).toMatchObject({
        error: NBD_EINVAL,
      });
    }
  });
});

describe('DF', () => {
  it('is accepted with structured replies only', async () => {
    const { enter } = await serve();
    const shape = { type: NBD_CMD_READ, length: 1024, flags: nbd.NBD_CMD_FLAG_DF };
    const simple = await enter();
    expect(await simple.ask(shape, undefined, 1024)).toMatchObject({ error: NBD_EINVAL });
    const structured = await enter({ structured: true });
    expect(await structured.ask(shape)).toMatchObject({ error: 0 });
  });
});

describe('the end', () => {
  it('by DISC comes after everything in flight is answered', async () => {
    const { enter, disk, exports } = await serve();
    const client = await enter();
    disk.holds = true;
    const write = encodeRequest({ type: NBD_CMD_WRITE, length: 4, cookie: 5 });
    const ignored = encodeRequest({ type: NBD_CMD_WRITE, length: 4, cookie: 6 });
    client.send(
      write,
      Buffer.from('last'),
      encodeRequest({ type: NBD_CMD_DISC }),
      ignored,
      Buffer.from('gone'),
    );
    await until(() => disk.waitingCount === 1);
    expect(exports.openCount).toBe(1);
    disk.letGo();
    expect(await client.reply()).toMatchObject({ cookie: 5, error: 0 });
    expect((await client.takeRest()).length).toBe(0);
    expect(disk.bytes.toString('latin1', 0, 4)).toBe('last');
    await until(() => exports.openCount === 0);
    expect(exports.openCount).toBe(0);
  });

  it('by closing our direction still brings the replies', async () => {
    const { enter, disk } = await serve();
    const client = await enter();
    disk.holds = true;
    client.send(encodeRequest({ type: NBD_CMD_FLUSH, cookie: 9 }));
    client.socket.end();
    await until(() => disk.waitingCount === 1);
    disk.letGo();
    expect(await client.reply()).toMatchObject({ cookie: 9 });
  });

  it('comes at once for a bad magic', async () => {
    const { enter } = await serve();
    for (const magic of [0, 0x12560953, 0x25609514, 0x21e41c71]) {
      const client = await enter();
      client.send(encodeRequest({ type: NBD_CMD_FLUSH, magic }));
      expect((await client.takeRest()).length).toBe(0);
    }
  });

  it.each(['farewell', 'reset'])('may come at any byte, with a %s', async (how) => {
    const { enter, disk, server, exports } = await serve();
    const tcp = await server.listenTcp('127.0.0.1', 0);
    disk.readsAtOnce = false;
    const bytes = Buffer.concat([
      encodeRequest({ type: NBD_CMD_READ, length: 200_000, cookie: 1 }),
      encodeRequest({ type: NBD_CMD_WRITE, length: 20, cookie: 2 }),
      Buffer.alloc(20),
      encodeRequest({ type: NBD_CMD_FLUSH, cookie: 3 }),
    ]);
    for (let length = 0; length <= bytes.length; length += 3) {
      const client = await RawClient.connect(tcp);
      await client.enter('disk', { structured: length % 2 === 0 });
      client.send(bytes.subarray(0, length));
      if (length % 4 === 0) await pause(1);
      if (how === 'reset') client.reset();
      else client.close();
    }
    await until(() => server.connectionCount === 0 && exports.openCount === 0);
    expect(exports.openCount).toBe(0);
    const survivor = await enter();
    expect(await survivor.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });

  it('by a reset over TCP, with replies under way, ends nothing but the connection', async () => {
    const { server } = await serve();
    const { host, port } = await server.listenTcp('127.0.0.1', 0);
    for (let round = 0; round < 20; round++) {
      const client = await RawClient.connect({ host, port });
      await client.enter('disk');
      for (let cookie = 0; cookie < 8; cookie++)
        client.send(encodeRequest({ type: NBD_CMD_READ, length: MIB, cookie }));
      await pause(round % 5);
      client.reset();
    }
    await until(() => server.connectionCount === 0);
    expect(server.connectionCount).toBe(0);
  });

  it('does not release the device before its requests are done', async () => {
    const { disk, exports, server } = await serve();
    const tcp = await server.listenTcp('127.0.0.1', 0);
    disk.holds = true;
    disk.readsAtOnce = false;
    const client = await RawClient.connect(tcp);
    await client.enter('disk');
    client.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4 }), Buffer.from('abcd'));
    client.send(
      encodeRequest({ type: NBD_CMD_READ, length: 4 }),
      encodeRequest({ type: NBD_CMD_READ, length: MIB }),
    );
    await until(() => disk.waitingCount === 3);
    client.reset();
    await until(() => server.connectionCount === 0);
    expect(server.connectionCount).toBe(0);
    await pause();
    expect(exports.openCount).toBe(1);
    disk.letGo();
    await until(() => exports.openCount === 0);
    expect(exports.openCount).toBe(0);
    expect(disk.bytes.toString('latin1', 0, 4)).toBe('abcd');
  });
});

describe('failures', () => {
  it('are logged with what the errno does not say, and not each of thousands', async () => {
    const { enter, disk, logged } = await serve();
    disk.error = new StoreError('NO_SPACE', 'the disk is full');
    const client = await enter();
    for (let count = 0; count < 100; count++)
      await client.ask({ type: NBD_CMD_WRITE, length: 4 }, Buffer.alloc(4));
    const failures = logged.filter((line) => line['msg'] === 'a request failed');
    expect(failures.length).toBe(7);
    expect(failures[0]).toMatchObject({ code: 'NO_SPACE', command: 'write', export: 'disk', lengthBytes: 4 });
  });
});
