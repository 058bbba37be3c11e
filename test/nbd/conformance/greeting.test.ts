/** proto.md, "Newstyle negotiation", "Fixed newstyle negotiation", "Handshake flags", "Client flags". */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../../src/nbd/protocol.ts';
import { serve } from '../fixture.ts';
import { encodeOption, u32 } from '../raw-client.ts';
import { greeted, isDropped, last, NOTHING } from './negotiation.ts';

const { NBD_FLAG_C_FIXED_NEWSTYLE, NBD_FLAG_C_NO_ZEROES } = nbd;

describe('Newstyle negotiation', () => {
  it('S: NBDMAGIC, IHAVEOPT, 16 bits of handshake flags, and nothing more before the client speaks', async () => {
    const { connect } = await serve();
    const client = await connect();
    const greeting = await client.take(18);
    expect(greeting.toString('latin1', 0, 16)).toBe('NBDMAGICIHAVEOPT');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(client.pendingBytes).toBe(0);
  });

  it('Handshake flags: FIXED_NEWSTYLE and NO_ZEROES are set, and the server MUST NOT set any other', async () => {
    const { connect } = await serve();
    const client = await connect();
    expect((await client.take(18)).readUInt16BE(16)).toBe(3);
  });

  it('C: client flags may come in pieces', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.take(18);
    for (const byte of u32(3)) {
      client.send(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it.each([0, NBD_FLAG_C_FIXED_NEWSTYLE, NBD_FLAG_C_NO_ZEROES, 3])(
    'Client flags: %d are accepted',
    async (flags) => {
      const { connect } = await serve();
      const client = await connect();
      await client.greet(flags);
      expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
    },
  );

  it.each([2, 3, 7, 8, 16, 30, 31].map((bit) => 2 ** bit))(
    'Client flags: the server MUST drop the connection for the unknown flag %d',
    async (flag) => {
      const { connect } = await serve();
      const client = await connect();
      await client.take(18);
      client.send(u32((flag | NBD_FLAG_C_FIXED_NEWSTYLE) >>> 0));
      expect(await isDropped(client)).toBe(true);
    },
  );
});

describe('Fixed newstyle negotiation: the generic format of an option', () => {
  it.each(['', 'x', 'x'.repeat(8192), 'x'.repeat(60_000)])(
    'a reply has the magic, the option, a type and a length, for unknown options with any data',
    async (body) => {
      const client = await greeted(await serve());
      client.send(encodeOption(4711, Buffer.from(body)));
      const header = await client.take(20);
      expect(header.toString('hex', 0, 8)).toBe('0003e889045565a9');
      expect(header.readUInt32BE(8)).toBe(4711);
      expect(header.readUInt32BE(12)).toBeGreaterThan(2 ** 31);
      await client.take(header.readUInt32BE(16));
      expect(client.pendingBytes).toBe(0);
      expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
    },
  );

  it.each([0, 4, 12, 13, 255, 2 ** 16, 2 ** 31, 2 ** 32 - 1])(
    'Baseline: option %d, which is not implemented, MUST be answered with ERR_UNSUP, and the next one parsed',
    async (option) => {
      const client = await greeted(await serve());
      expect(last(await client.negotiate(option))).toBe(nbd.NBD_REP_ERR_UNSUP);
      expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
    },
  );

  it.each(['HAVEOPTI', 'IHAVEOPS', 'NBDMAGIC', '\0\0\0\0\0\0\0\0'])(
    'an option with the magic %j violates a mandatory condition: hard disconnect',
    async (magic) => {
      const client = await greeted(await serve());
      client.send(Buffer.from(magic, 'latin1'), u32(nbd.NBD_OPT_LIST), u32(0));
      expect(await isDropped(client)).toBe(true);
    },
  );

  it('ERR_TOO_BIG: an option that is too long is skipped, and the next one parsed; ERR_UNSUP if it is unknown', async () => {
    const client = await greeted(await serve());
    for (const option of [nbd.NBD_OPT_GO, nbd.NBD_OPT_SET_META_CONTEXT])
      expect(last(await client.negotiate(option, Buffer.alloc(20_000)))).toBe(nbd.NBD_REP_ERR_TOO_BIG);
    expect(last(await client.negotiate(99, Buffer.alloc(20_000)))).toBe(nbd.NBD_REP_ERR_UNSUP);
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('many options in one packet are each answered, in their order', async () => {
    const client = await greeted(await serve());
    const options = Array.from({ length: 100 }, (_, i) => encodeOption(100 + i, NOTHING));
    client.send(...options);
    for (let i = 0; i < 100; i++) expect((await client.replies())[0]!.option).toBe(100 + i);
  });
});

describe('Termination of the session during option haggling', () => {
  it.each(['', 'goodbye', 'x'.repeat(4096)])(
    'NBD_OPT_ABORT: the server MUST reply with ACK, and SHOULD ignore data',
    async (data) => {
      const client = await greeted(await serve());
      expect(last(await client.negotiate(nbd.NBD_OPT_ABORT, Buffer.from(data)))).toBe(nbd.NBD_REP_ACK);
      expect(await isDropped(client)).toBe(true);
    },
  );

  it('NBD_OPT_ABORT: a client that does not wait for the reply does no harm', async () => {
    const fixture = await serve();
    for (let round = 0; round < 20; round++) {
      const client = await greeted(fixture);
      client.send(encodeOption(nbd.NBD_OPT_ABORT, NOTHING));
      client.close();
    }
    expect(last(await (await greeted(fixture)).negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('what follows an ABORT is not answered', async () => {
    const client = await greeted(await serve());
    client.send(encodeOption(nbd.NBD_OPT_ABORT, NOTHING), encodeOption(nbd.NBD_OPT_LIST, NOTHING));
    expect(last(await client.replies())).toBe(nbd.NBD_REP_ACK);
    expect(await isDropped(client)).toBe(true);
  });

  it('a hard disconnect of the client at any option leaves no export open', async () => {
    const fixture = await serve();
    for (const option of [1, 3, 6, 7, 8, 9, 10, 11]) {
      const client = await greeted(fixture);
      client.send(encodeOption(option, Buffer.alloc(3), 1000));
      client.close();
    }
    expect(fixture.exports.openCount).toBe(0);
  });
});
