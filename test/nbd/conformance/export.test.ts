/** proto.md, "NBD_OPT_EXPORT_NAME", "NBD_OPT_LIST", "NBD_OPT_INFO and NBD_OPT_GO", "Size constraints", "Transmission flags". */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../../src/nbd/protocol.ts';
import { DISK_BYTES, serve } from '../fixture.ts';
import { MemoryDevice } from '../memory-device.ts';
import { encodeContexts, encodeInfo, encodeOption, u16, u32 } from '../raw-client.ts';
import { flagsOf, greeted, informationOf, isDropped, last, NOTHING, serverNames } from './negotiation.ts';

const { NBD_OPT_INFO, NBD_OPT_GO, NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_ERR_UNKNOWN } = nbd;

describe('NBD_OPT_EXPORT_NAME', () => {
  it.each([
    [3, 10],
    [1, 134],
  ])('under client flags %d is answered with size, flags and padding: %d bytes', async (flags, bytes) => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet(flags);
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    const answer = await client.take(bytes);
    expect(Number(answer.readBigUInt64BE(0))).toBe(DISK_BYTES);
    expect(answer.readUInt16BE(8) & nbd.NBD_FLAG_HAS_FLAGS).toBe(1);
    expect(answer.subarray(10).every((byte) => byte === 0)).toBe(true);
    expect(client.pendingBytes).toBe(0);
  });

  it('the empty name is the default export', async () => {
    const client = await greeted(await serve());
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, NOTHING));
    expect(Number((await client.take(10)).readBigUInt64BE(0))).toBe(DISK_BYTES);
  });

  it.each(['absent', 'disk\0', 'x'.repeat(4096), 'x'.repeat(4097), 'disk@', 'DISK'])(
    'the server MUST terminate the session if the export %j does not exist',
    async (name) => {
      const client = await greeted(await serve());
      client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)));
      expect(await isDropped(client)).toBe(true);
    },
  );

  it('NBD_OPT_EXTENDED_HEADERS: a client that has it MUST NOT use this option', async () => {
    const client = await greeted(await serve());
    await client.extend();
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    expect(await isDropped(client)).toBe(true);
  });

  it('after structured replies the transmission is structured', async () => {
    const client = await greeted(await serve());
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    expect((await client.take(10)).readUInt16BE(8) & nbd.NBD_FLAG_SEND_DF).not.toBe(0);
    const flags = nbd.NBD_CMD_FLAG_DF;
    const read = await client.ask({ type: nbd.NBD_CMD_READ, length: 512, flags });
    expect(read.type).toBe(nbd.NBD_REPLY_TYPE_OFFSET_DATA);
  });
});

describe('NBD_OPT_LIST', () => {
  it('zero or more SERVER replies, one for each export, then ACK', async () => {
    const client = await greeted(await serve());
    const replies = await client.negotiate(nbd.NBD_OPT_LIST);
    expect(serverNames(replies)).toEqual(['disk', 'disk@monday']);
    expect(last(replies)).toBe(NBD_REP_ACK);
  });

  it('of no export is an ACK alone', async () => {
    const fixture = await serve();
    fixture.exports.devices.clear();
    expect((await (await greeted(fixture)).negotiate(nbd.NBD_OPT_LIST)).length).toBe(1);
  });

  it.each([1, 4, 8192])('SHOULD be rejected with ERR_INVALID if it has %d bytes of data', async (bytes) => {
    const client = await greeted(await serve());
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST, Buffer.alloc(bytes)))).toBe(NBD_REP_ERR_INVALID);
  });

  it('each name that is listed can be asked for', async () => {
    const client = await greeted(await serve());
    for (const name of serverNames(await client.negotiate(nbd.NBD_OPT_LIST)))
      expect(last(await client.negotiate(NBD_OPT_INFO, encodeInfo(name)))).toBe(NBD_REP_ACK);
  });
});

describe.each([
  ['NBD_OPT_INFO', NBD_OPT_INFO],
  ['NBD_OPT_GO', NBD_OPT_GO],
])('%s', (_, option) => {
  it('on success the server MUST send at least one INFO, of type EXPORT, of 12 bytes', async () => {
    const client = await greeted(await serve());
    const replies = await client.negotiate(option, encodeInfo('disk'));
    expect(informationOf(replies).get(nbd.NBD_INFO_EXPORT)!.length).toBe(10);
    expect(last(replies)).toBe(NBD_REP_ACK);
  });

  it('BLOCK_SIZE: 1, 4096 and 32 MiB', async () => {
    const client = await greeted(await serve());
    const replies = await client.negotiate(option, encodeInfo('disk', [nbd.NBD_INFO_BLOCK_SIZE]));
    const sizes = informationOf(replies).get(nbd.NBD_INFO_BLOCK_SIZE)!;
    expect([0, 4, 8].map((at) => sizes.readUInt32BE(at))).toEqual([1, 4096, 2 ** 25]);
  });

  it('NAME: the canonical name, also of the default export; DESCRIPTION: for people', async () => {
    const client = await greeted(await serve());
    const types = [nbd.NBD_INFO_NAME, nbd.NBD_INFO_DESCRIPTION];
    const information = informationOf(await client.negotiate(option, encodeInfo('', types)));
    expect(information.get(nbd.NBD_INFO_NAME)!.toString()).toBe('disk');
    expect(information.get(nbd.NBD_INFO_DESCRIPTION)!.toString()).toBe('what disk is for');
  });

  it('the server MUST ignore information requests that it does not understand, or that come twice', async () => {
    const client = await greeted(await serve());
    const replies = await client.negotiate(option, encodeInfo('disk', [4, 77, 0xffff, 3, 3, 3]));
    expect(new Set(informationOf(replies).keys())).toEqual(new Set([0, 3]));
    expect(replies.length).toBe(3);
  });

  it('ERR_UNKNOWN: the export does not exist, and the server SHOULD NOT send INFO', async () => {
    const client = await greeted(await serve());
    const replies = await client.negotiate(option, encodeInfo('absent', [1, 2, 3]));
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ERR_UNKNOWN]);
  });

  it.each<[string, Buffer]>([
    ['no data at all', NOTHING],
    ['less than a length', Buffer.alloc(3)],
    ['a length alone', u32(0)],
    ['a name that goes beyond the option', Buffer.concat([u32(5), Buffer.from('disk')])],
    ['a name into which the count would fit', Buffer.concat([u32(6), Buffer.from('disk'), u16(0)])],
    ['a name of 4,294,967,295 bytes', Buffer.concat([u32(2 ** 32 - 1), Buffer.from('disk'), u16(0)])],
    ['more requests than there are', Buffer.concat([u32(4), Buffer.from('disk'), u16(2), u16(3)])],
    ['fewer requests than there are', Buffer.concat([u32(4), Buffer.from('disk'), u16(0), u16(3)])],
    ['half a request', Buffer.concat([u32(4), Buffer.from('disk'), u16(1), Buffer.alloc(1)])],
    ['a name that is not UTF-8', encodeInfo(Buffer.from([0x80]))],
    ['a name with NUL', encodeInfo('a\0b')],
    ['a name of 4,097 bytes', encodeInfo('x'.repeat(4097))],
  ])('ERR_INVALID: %s', async (_name, body) => {
    const fixture = await serve();
    const client = await greeted(fixture);
    expect(last(await client.negotiate(option, body))).toBe(NBD_REP_ERR_INVALID);
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(NBD_REP_ACK);
    expect(fixture.exports.openCount).toBe(0);
  });

  it('strings MAY have 4,096 bytes, of any UTF-8', async () => {
    const fixture = await serve();
    const name = `${'ü'.repeat(2046)}@😀`.slice(0, 2046);
    fixture.exports.add(new MemoryDevice(name, 4096));
    const client = await greeted(fixture);
    expect(last(await client.negotiate(option, encodeInfo(name)))).toBe(NBD_REP_ACK);
  });
});

describe('NBD_OPT_GO', () => {
  it('on success both sides enter transmission at once, without padding', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet(1);
    await client.negotiate(NBD_OPT_GO, encodeInfo('disk'));
    expect(client.pendingBytes).toBe(0);
    expect(await client.ask({ type: nbd.NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });

  it('MUST send what an INFO with the same parameters has sent', async () => {
    const client = await greeted(await serve());
    await client.extend();
    const contexts = encodeContexts('disk', ['base:allocation']);
    await client.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, contexts);
    const body = encodeInfo('disk', [1, 2, 3]);
    const payloads = async (option: number) =>
      (await client.negotiate(option, body)).map(({ payload }) => payload.toString('hex'));
    expect(await payloads(NBD_OPT_INFO)).toEqual(await payloads(NBD_OPT_GO));
  });

  it('after an error, options go on', async () => {
    const client = await greeted(await serve());
    for (let round = 0; round < 3; round++)
      expect(last(await client.negotiate(NBD_OPT_GO, encodeInfo('absent')))).toBe(NBD_REP_ERR_UNKNOWN);
    expect(last(await client.negotiate(NBD_OPT_GO, encodeInfo('disk')))).toBe(NBD_REP_ACK);
  });
});

describe('Transmission flags', () => {
  const table: [name: string, flag: number, volume: boolean, snapshot: boolean][] = [
    ['HAS_FLAGS MUST always be set', nbd.NBD_FLAG_HAS_FLAGS, true, true],
    ['READ_ONLY', nbd.NBD_FLAG_READ_ONLY, false, true],
    ['SEND_FLUSH', nbd.NBD_FLAG_SEND_FLUSH, true, true],
    ['SEND_FUA', nbd.NBD_FLAG_SEND_FUA, true, true],
    ['ROTATIONAL', 1 << 4, false, false],
    ['SEND_TRIM', nbd.NBD_FLAG_SEND_TRIM, true, false],
    ['SEND_WRITE_ZEROES', nbd.NBD_FLAG_SEND_WRITE_ZEROES, true, false],
    ['SEND_DF, without structured replies, MUST be clear', nbd.NBD_FLAG_SEND_DF, false, false],
    ['CAN_MULTI_CONN', nbd.NBD_FLAG_CAN_MULTI_CONN, true, true],
    ['SEND_RESIZE', 1 << 9, false, false],
    ['SEND_CACHE', nbd.NBD_FLAG_SEND_CACHE, true, true],
    ['SEND_FAST_ZERO', nbd.NBD_FLAG_SEND_FAST_ZERO, true, false],
    ['BLOCK_STATUS_PAYLOAD, without extended headers', nbd.NBD_FLAG_BLOCK_STATUS_PAYLOAD, false, false],
  ];

  it.each(table)('%s', async (_, flag, ofVolume, ofSnapshot) => {
    const client = await greeted(await serve());
    const volume = flagsOf(await client.negotiate(NBD_OPT_INFO, encodeInfo('disk')));
    const snapshot = flagsOf(await client.negotiate(NBD_OPT_INFO, encodeInfo('disk@monday')));
    expect([(volume & flag) !== 0, (snapshot & flag) !== 0]).toEqual([ofVolume, ofSnapshot]);
  });
});

describe('Size constraints', () => {
  it.each([1, 511, 513, 4095, 4097])('a minimum block size of 1: %d bytes at odd offsets', async (length) => {
    const { enter } = await serve();
    const client = await enter();
    const payload = Buffer.alloc(length, length);
    const offset = 12_345;
    expect(await client.ask({ type: nbd.NBD_CMD_WRITE, offset, length }, payload)).toMatchObject({
      error: 0,
    });
    const read = await client.ask({ type: nbd.NBD_CMD_READ, offset, length }, NOTHING, length);
    expect(read.payload.equals(payload)).toBe(true);
  });

  it('a maximum payload of 32 MiB is served, in both directions', async () => {
    const { enter, exports } = await serve();
    exports.add(new MemoryDevice('large', 40 * 2 ** 20));
    const client = await enter({ name: 'large' });
    const length = 2 ** 25;
    const payload = Buffer.alloc(length, 7);
    expect(await client.ask({ type: nbd.NBD_CMD_WRITE, length }, payload)).toMatchObject({ error: 0 });
    const read = await client.ask({ type: nbd.NBD_CMD_READ, length }, NOTHING, length);
    expect(read.payload.equals(payload)).toBe(true);
  }, 30_000);

  it('a server with another maximum says so, and holds to it', async () => {
    const { connect } = await serve({ limits: { requestBytesMax: 2 ** 20 } });
    const client = await connect();
    await client.greet();
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    const replies = await client.negotiate(NBD_OPT_GO, encodeInfo('disk', [nbd.NBD_INFO_BLOCK_SIZE]));
    expect(informationOf(replies).get(nbd.NBD_INFO_BLOCK_SIZE)!.readUInt32BE(8)).toBe(2 ** 20);
    const length = 2 ** 20 + 1;
    expect((await client.ask({ type: nbd.NBD_CMD_READ, length })).error).toBe(nbd.NBD_EOVERFLOW);
    const write = await client.ask({ type: nbd.NBD_CMD_WRITE, length }, Buffer.alloc(length));
    expect(write.error).toBe(nbd.NBD_EINVAL);
  });
});
