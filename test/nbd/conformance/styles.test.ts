/** proto.md, "NBD_OPT_STRUCTURED_REPLY"; extension-ext-header, "NBD_OPT_EXTENDED_HEADERS": what replies look like. */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../../src/base/errors.ts';
import * as nbd from '../../../src/nbd/protocol.ts';
import { DISK_BYTES, pause, serve, until } from '../fixture.ts';
import { encodeContexts, encodeExtended, encodeInfo, encodeRequest, u32 } from '../raw-client.ts';
import { flagsOf, greeted, isDropped, last, NOTHING } from './negotiation.ts';

const { NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ACK, NBD_REP_ERR_INVALID } = nbd;
const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES } = nbd;

describe.each([
  ['NBD_OPT_STRUCTURED_REPLY', NBD_OPT_STRUCTURED_REPLY],
  ['NBD_OPT_EXTENDED_HEADERS', NBD_OPT_EXTENDED_HEADERS],
])('%s', (_, option) => {
  it('is acknowledged', async () => {
    expect(last(await (await greeted(await serve())).negotiate(option))).toBe(NBD_REP_ACK);
  });

  it('SHOULD be rejected with ERR_INVALID if it has data, and nothing is agreed on then', async () => {
    const client = await greeted(await serve());
    expect(last(await client.negotiate(option, Buffer.alloc(1)))).toBe(NBD_REP_ERR_INVALID);
    const replies = await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('disk'));
    expect(flagsOf(replies) & nbd.NBD_FLAG_SEND_DF).toBe(0);
    const read = await client.ask({ type: NBD_CMD_READ, length: 512 }, NOTHING, 512);
    expect(read.type).toBe(-1);
  });

  it('MAY come twice', async () => {
    const client = await greeted(await serve());
    await client.negotiate(option);
    expect(last(await client.negotiate(option))).toBe(NBD_REP_ACK);
  });

  it('SEND_DF is set from then on', async () => {
    const client = await greeted(await serve());
    await client.negotiate(option);
    const replies = await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk'));
    expect(flagsOf(replies) & nbd.NBD_FLAG_SEND_DF).not.toBe(0);
  });
});

describe('Simple reply message', () => {
  it('MUST be sent for all requests if no other style was agreed on, errors too', async () => {
    const { enter } = await serve();
    const client = await enter();
    for (const type of [NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, 99]) {
      const payload = type === NBD_CMD_WRITE ? Buffer.alloc(512) : NOTHING;
      expect((await client.ask({ type, length: 512 }, payload, type === NBD_CMD_READ ? 512 : 0)).type).toBe(
        -1,
      );
      const outside = await client.ask({ type, offset: DISK_BYTES, length: 512 }, payload);
      expect(outside.type).toBe(-1);
      expect(outside.error).not.toBe(0);
    }
  });

  it('carries the cookie as an opaque field of 64 bits', async () => {
    const { enter } = await serve();
    const client = await enter();
    const request = encodeRequest({ type: NBD_CMD_FLUSH });
    Buffer.from('ffffffff80000001', 'hex').copy(request, 8);
    client.send(request);
    expect((await client.take(16)).toString('hex', 8)).toBe('ffffffff80000001');
  });
});

describe('Structured reply chunk message', () => {
  it('MUST NOT be a simple reply for READ, even for an early error', async () => {
    const { enter } = await serve();
    const client = await enter({ structured: true });
    for (const shape of [{ length: 0 }, { offset: DISK_BYTES, length: 1 }, { flags: 1 << 9, length: 1 }])
      expect((await client.ask({ type: NBD_CMD_READ, ...shape })).type).toBeGreaterThanOrEqual(0);
  });

  it('errors are structured, with a text that is UTF-8 without NUL and lies in the payload', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ structured: true });
    const refused = await client.ask({ type: NBD_CMD_TRIM, offset: DISK_BYTES, length: 512 });
    disk.error = new StoreError('NO_SPACE', '/a/secret/path is full');
    const failed = await client.ask({ type: NBD_CMD_WRITE, length: 512 }, Buffer.alloc(512));
    for (const reply of [refused, failed]) {
      expect(reply.type).toBe(nbd.NBD_REPLY_TYPE_ERROR);
      expect(reply.flags).toBe(nbd.NBD_REPLY_FLAG_DONE);
      const text = reply.payload.subarray(6).toString();
      expect(reply.payload.readUInt16BE(4)).toBe(text.length);
      expect(text).toMatch(/^[a-z][a-z ,;-]+$/);
      expect(text).not.toContain('secret');
    }
  });

  it('NBD_REPLY_TYPE_NONE has no payload and DONE', async () => {
    const { enter } = await serve();
    const client = await enter({ structured: true });
    const reply = await client.ask({ type: NBD_CMD_READ, length: 0 });
    expect(reply).toMatchObject({ type: nbd.NBD_REPLY_TYPE_NONE, flags: nbd.NBD_REPLY_FLAG_DONE });
    expect(reply.payload.length).toBe(0);
  });
});

describe('NBD_OPT_EXTENDED_HEADERS', () => {
  it('takes precedence over structured replies, before or after', async () => {
    const client = await greeted(await serve());
    await client.negotiate(NBD_OPT_STRUCTURED_REPLY);
    await client.extend();
    expect(last(await client.negotiate(NBD_OPT_STRUCTURED_REPLY))).toBe(nbd.NBD_REP_ERR_EXT_HEADER_REQD);
    await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('disk'));
    expect(await client.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0, type: 0 });
  });

  it('BLOCK_STATUS_PAYLOAD is offered if contexts were selected for the export', async () => {
    const client = await greeted(await serve());
    await client.extend();
    const has = async (name: string): Promise<boolean> => {
      const flags = flagsOf(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo(name)));
      return (flags & nbd.NBD_FLAG_BLOCK_STATUS_PAYLOAD) !== 0;
    };
    expect(await has('disk')).toBe(false);
    await client.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', ['base:allocation']));
    expect([await has('disk'), await has('disk@monday')]).toEqual([true, false]);
  });

  it('all replies MUST be extended, with cookie and offset of the request', async () => {
    const { enter } = await serve();
    const client = await enter({ extended: true });
    const offset = 8192;
    for (const type of [NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES]) {
      const payload = type === NBD_CMD_WRITE ? Buffer.alloc(512) : NOTHING;
      const reply = await client.ask({ type, offset, length: 512, cookie: type }, payload);
      expect(reply).toMatchObject({ error: 0, cookie: type, offset, flags: nbd.NBD_REPLY_FLAG_DONE });
    }
    const flushed = await client.ask({ type: NBD_CMD_FLUSH, cookie: 9 });
    expect(flushed).toMatchObject({ type: nbd.NBD_REPLY_TYPE_NONE, error: 0, cookie: 9, offset: 0 });
  });

  it('errors carry the offset of the request as well, also one beyond 2^53', async () => {
    const { enter } = await serve();
    const client = await enter({ extended: true });
    client.send(encodeExtended({ type: NBD_CMD_READ, offset: 2n ** 64n - 1n, length: 2n ** 64n - 1n }));
    const header = await client.take(32);
    expect(header.toString('hex', 16, 24)).toBe('ffffffffffffffff');
    expect(header.readUInt16BE(6)).toBe(nbd.NBD_REPLY_TYPE_ERROR);
  });

  it('PAYLOAD_LEN: a WRITE without it is EINVAL, and has no payload', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ extended: true });
    const request = encodeExtended({ type: NBD_CMD_WRITE, length: 512 });
    request.writeUInt16BE(0, 4);
    client.send(request);
    expect(await client.reply()).toMatchObject({ error: nbd.NBD_EINVAL });
    expect(await client.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
    expect(disk.log).toEqual(['flush']);
  });

  it.each([NBD_CMD_READ, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, 7, 8, 1000])(
    'PAYLOAD_LEN on command %d: the payload is consumed, then EINVAL',
    async (type) => {
      const { enter } = await serve();
      const client = await enter({ extended: true });
      const flags = nbd.NBD_CMD_FLAG_PAYLOAD_LEN;
      const reply = await client.ask({ type, flags, length: 5000 }, Buffer.alloc(5000, 0x21));
      expect(reply).toMatchObject({ error: nbd.NBD_EINVAL });
      expect(await client.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
    },
  );

  it.each([2n ** 25n + 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n])(
    'PAYLOAD_LEN with %d bytes, more than the maximum: hard disconnect',
    async (length) => {
      const { enter } = await serve();
      const client = await enter({ extended: true });
      client.send(client.encode({ type: NBD_CMD_WRITE, length }));
      expect(await isDropped(client)).toBe(true);
    },
  );

  it('PAYLOAD_LEN with more than the maximum: what is in the payload is not taken for requests', async () => {
    const { enter, disk, server } = await serve();
    const client = await enter({ extended: true });
    const inside = [client.encode({ type: NBD_CMD_WRITE, length: 5 }), Buffer.from('hello')];
    client.send(client.encode({ type: NBD_CMD_WRITE, length: 2n ** 40n }), ...inside);
    expect(await isDropped(client)).toBe(true);
    await until(() => server.connectionCount === 0);
    await pause();
    expect(disk.log).toEqual([]);
  });

  it('an effect length has 64 bits', async () => {
    const { enter, exports } = await serve();
    const { MemoryDevice } = await import('../memory-device.ts');
    exports.add(new MemoryDevice('huge', 2 ** 46));
    const client = await enter({ name: 'huge', extended: true });
    for (const type of [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE]) {
      expect(await client.ask({ type, length: 2 ** 46 })).toMatchObject({ error: 0 });
      expect((await client.ask({ type, length: 2 ** 46 + 1 })).error).not.toBe(0);
    }
  });

  it('a READ longer than the maximum payload is EOVERFLOW', async () => {
    const { enter } = await serve();
    const client = await enter({ extended: true });
    for (const length of [2n ** 25n + 1n, 2n ** 32n + 512n, 2n ** 64n - 1n])
      expect(await client.ask({ type: NBD_CMD_READ, length })).toMatchObject({ error: nbd.NBD_EOVERFLOW });
  });

  it.each([true, false])(
    'Reserved magic values: a request in the other framing ends it (extended: %s)',
    async (extended) => {
      const { enter } = await serve();
      const client = await enter(extended ? { extended } : { structured: true });
      client.send((extended ? encodeRequest : encodeExtended)({ type: NBD_CMD_FLUSH }), u32(0));
      expect(await isDropped(client)).toBe(true);
    },
  );

  it('requests are understood when they come byte by byte', async () => {
    const { enter, disk } = await serve();
    const client = await enter({ extended: true });
    client.socket.setNoDelay(true);
    const bytes = Buffer.concat([client.encode({ type: NBD_CMD_WRITE, length: 5 }), Buffer.from('hello')]);
    for (const byte of bytes) {
      client.send(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await client.reply()).toMatchObject({ error: 0 });
    expect(disk.bytes.toString('latin1', 0, 5)).toBe('hello');
  });
});
