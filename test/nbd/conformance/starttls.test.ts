/** proto.md, "TLS support", "Server-side requirements", "NBD_OPT_STARTTLS". */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../../src/nbd/protocol.ts';
import { pause, serve, until } from '../fixture.ts';
import { encodeContexts, encodeInfo, encodeOption, RawClient, u32 } from '../raw-client.ts';
import { complaintsOf, serveTls, Wire, withKey } from '../tls-fixture.ts';
import { contextsOf, flagsOf, greeted, isDropped, last, NOTHING, serverNames } from './negotiation.ts';

const { NBD_OPT_STARTTLS, NBD_OPT_LIST, NBD_OPT_GO, NBD_OPT_INFO, NBD_OPT_SET_META_CONTEXT } = nbd;
/** Every option but ABORT and STARTTLS, and some that nobody knows. */
const OTHERS = [0, 3, 4, 6, 7, 8, 9, 10, 11, 12, 255, 2 ** 31, 2 ** 32 - 1];

async function encrypted(mode: 'on' | 'require' = 'require'): Promise<RawClient> {
  const client = await greeted(await serveTls(mode));
  await client.startTls(withKey());
  return client;
}

describe('NOTLS mode', () => {
  it('STARTTLS: the server MUST respond with ERR_POLICY, and goes on', async () => {
    const client = await greeted(await serve());
    for (const data of ['', 'data'])
      expect(last(await client.negotiate(NBD_OPT_STARTTLS, Buffer.from(data)))).toBe(nbd.NBD_REP_ERR_POLICY);
    expect(last(await client.negotiate(NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('the server MUST NOT respond to any option with ERR_TLS_REQD', async () => {
    for (const option of OTHERS) {
      const client = await greeted(await serve());
      expect(last(await client.negotiate(option, Buffer.alloc(1)))).not.toBe(nbd.NBD_REP_ERR_TLS_REQD);
    }
  });

  it.each([0, nbd.NBD_FLAG_C_NO_ZEROES])(
    'the server MUST operate in it unless the client replied with FIXED_NEWSTYLE: flags %d',
    async (flags) => {
      const client = await (await serveTls('on')).connect();
      await client.greet(flags);
      expect(last(await client.negotiate(NBD_OPT_STARTTLS))).toBe(nbd.NBD_REP_ERR_POLICY);
      const fixture = await serveTls('require');
      const other = await fixture.connect();
      await other.greet(flags);
      expect(await isDropped(other)).toBe(true);
      expect(complaintsOf(fixture)).toEqual(['TLS is required, and the client has no way to begin it']);
    },
  );
});

describe('FORCEDTLS mode', () => {
  it.each(OTHERS)(
    'option %d before TLS MUST be answered with ERR_TLS_REQD, whatever is in it',
    async (option) => {
      const fixture = await serveTls();
      const client = await greeted(fixture);
      for (const body of [NOTHING, encodeInfo('disk'), Buffer.alloc(20_000)])
        expect(last(await client.negotiate(option, body))).toBe(nbd.NBD_REP_ERR_TLS_REQD);
      expect(fixture.disk.opens).toBe(0);
      await client.startTls(withKey());
      expect(last(await client.negotiate(NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
    },
  );

  it('EXPORT_NAME before TLS cannot be answered with an error, so the server MUST terminate the session', async () => {
    const fixture = await serveTls();
    const client = await greeted(fixture);
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    expect(await isDropped(client)).toBe(true);
    expect([fixture.disk.opens, complaintsOf(fixture)]).toEqual([0, ['an export was asked for without TLS']]);
  });

  it('ABORT is acknowledged without TLS', async () => {
    const client = await greeted(await serveTls());
    expect(last(await client.negotiate(nbd.NBD_OPT_ABORT))).toBe(nbd.NBD_REP_ACK);
    expect(await isDropped(client)).toBe(true);
  });

  it('the server MUST NOT send ERR_TLS_REQD once TLS has been initiated', async () => {
    const client = await encrypted();
    for (const option of OTHERS) {
      if (option === NBD_OPT_GO) continue;
      const body = option === NBD_OPT_INFO ? encodeInfo('absent') : Buffer.alloc(1);
      expect(last(await client.negotiate(option, body))).not.toBe(nbd.NBD_REP_ERR_TLS_REQD);
    }
    expect(last(await client.negotiate(NBD_OPT_GO, encodeInfo('absent')))).toBe(nbd.NBD_REP_ERR_UNKNOWN);
    expect(last(await client.negotiate(NBD_OPT_GO, encodeInfo('disk')))).toBe(nbd.NBD_REP_ACK);
  });
});

describe('SELECTIVETLS mode', () => {
  it('the client may begin TLS, or do without', async () => {
    const fixture = await serveTls('on');
    const plain = await fixture.enter();
    const other = await fixture.enter({ tls: withKey() });
    for (const client of [plain, other])
      expect((await client.ask({ type: nbd.NBD_CMD_FLUSH })).error).toBe(nbd.NBD_SUCCESS);
  });

  it('the server MUST NOT send ERR_TLS_REQD where no export needs TLS, not for one that is not there either', async () => {
    const client = await greeted(await serveTls('on'));
    for (const option of OTHERS)
      if (option !== NBD_OPT_GO)
        expect(last(await client.negotiate(option, encodeInfo('absent')))).not.toBe(nbd.NBD_REP_ERR_TLS_REQD);
    expect(last(await client.negotiate(NBD_OPT_GO, encodeInfo('absent')))).toBe(nbd.NBD_REP_ERR_UNKNOWN);
  });
});

describe.each(['on', 'require'] as const)('NBD_OPT_STARTTLS, --tls %s', (mode) => {
  it('The server MUST reply with ACK; all further data is sent and received over TLS', async () => {
    const client = await encrypted(mode);
    expect(serverNames(await client.negotiate(NBD_OPT_LIST))).toEqual(['disk', 'disk@monday']);
    expect(client.socket).toMatchObject({ encrypted: true });
  });

  it('when TLS has already been negotiated, the server MUST reply with ERR_INVALID', async () => {
    const client = await encrypted(mode);
    expect(last(await client.negotiate(NBD_OPT_STARTTLS))).toBe(nbd.NBD_REP_ERR_INVALID);
    expect(last(await client.negotiate(NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('the client MUST NOT send data with it: ERR_INVALID, and TLS may still begin', async () => {
    const client = await greeted(await serveTls(mode));
    for (const data of ['x', 'x'.repeat(8192)])
      expect(last(await client.negotiate(NBD_OPT_STARTTLS, Buffer.from(data)))).toBe(nbd.NBD_REP_ERR_INVALID);
    expect(last(await client.negotiate(NBD_OPT_STARTTLS, Buffer.alloc(20_000)))).toBe(
      nbd.NBD_REP_ERR_TOO_BIG,
    );
    await client.startTls(withKey());
    expect(last(await client.negotiate(NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('may come in pieces, a byte at a time', async () => {
    const client = await greeted(await serveTls(mode));
    for (const byte of encodeOption(NBD_OPT_STARTTLS, NOTHING)) {
      client.send(Buffer.from([byte]));
      await pause(1);
    }
    expect(last(await client.replies())).toBe(nbd.NBD_REP_ACK);
    await client.encrypt(withKey());
    expect(last(await client.negotiate(NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('may be the last of many options in one packet, which take several turns', async () => {
    const client = await greeted(await serveTls(mode));
    client.send(
      ...Array.from({ length: 30 }, () => encodeOption(77, NOTHING)),
      encodeOption(NBD_OPT_STARTTLS, NOTHING),
    );
    for (let i = 0; i < 30; i++) expect((await client.replies())[0]!.option).toBe(77);
    expect(last(await client.replies())).toBe(nbd.NBD_REP_ACK);
    await client.encrypt(withKey());
    expect(last(await client.negotiate(NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('may come from a client that is late to read the answers before it: TLS begins behind them', async () => {
    const client = await greeted(await serveTls(mode));
    client.socket.pause();
    const count = 4000;
    client.send(
      ...Array.from({ length: count }, () => encodeOption(77, NOTHING)),
      encodeOption(NBD_OPT_STARTTLS, NOTHING),
    );
    await pause(100);
    client.socket.resume();
    for (let i = 0; i < count; i++) expect((await client.replies())[0]!.option).toBe(77);
    expect(last(await client.replies())).toBe(nbd.NBD_REP_ACK);
    await client.encrypt(withKey());
    expect(last(await client.negotiate(NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('If the handshake is unsuccessful the server MUST terminate the session, and others do not notice', async () => {
    const fixture = await serveTls(mode);
    const other = await fixture.enter({ tls: withKey() });
    const client = await greeted(fixture);
    await expect(client.startTls(withKey('alice', Buffer.alloc(32, 7)))).rejects.toThrow();
    expect(await isDropped(client)).toBe(true);
    expect(complaintsOf(fixture)).toEqual(['a TLS handshake failed']);
    expect((await other.ask({ type: nbd.NBD_CMD_FLUSH })).error).toBe(nbd.NBD_SUCCESS);
    await until(() => fixture.server.connectionCount === 1);
    expect(fixture.server.connectionCount).toBe(1);
  });

  it('There is no downgrade: plain options instead of the handshake end the session', async () => {
    const fixture = await serveTls(mode);
    const client = await greeted(fixture);
    expect(last(await client.negotiate(NBD_OPT_STARTTLS))).toBe(nbd.NBD_REP_ACK);
    client.send(encodeOption(NBD_OPT_GO, encodeInfo('disk')));
    // An alert of TLS may come, no reply.
    expect((await client.takeRest()).includes(u32(nbd.NBD_REP_MAGIC[0]))).toBe(false);
    expect([fixture.disk.opens, complaintsOf(fixture)]).toEqual([0, ['a TLS handshake failed']]);
  });
});

describe('the server MUST NOT preserve any negotiation state issued before STARTTLS', () => {
  it('structured replies', async () => {
    const fixture = await serveTls('on');
    const client = await greeted(fixture);
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    await client.startTls(withKey());
    const replies = await client.negotiate(NBD_OPT_GO, encodeInfo('disk'));
    expect(flagsOf(replies) & nbd.NBD_FLAG_SEND_DF).toBe(0);
    expect(await client.ask({ type: nbd.NBD_CMD_READ, length: 512 }, NOTHING, 512)).toMatchObject({
      type: -1,
    });
  });

  it('extended headers', async () => {
    const client = await greeted(await serveTls('on'));
    await client.negotiate(nbd.NBD_OPT_EXTENDED_HEADERS);
    await client.startTls(withKey());
    // With extended headers this would be refused, with ERR_EXT_HEADER_REQD.
    expect(last(await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY))).toBe(nbd.NBD_REP_ACK);
  });

  it('metadata contexts, also where structured replies are agreed on again', async () => {
    const client = await greeted(await serveTls('on'));
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    const selected = await client.negotiate(
      NBD_OPT_SET_META_CONTEXT,
      encodeContexts('disk', ['base:allocation']),
    );
    expect(contextsOf(selected).size).toBe(1);
    await client.startTls(withKey());
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    expect(last(await client.negotiate(NBD_OPT_GO, encodeInfo('disk')))).toBe(nbd.NBD_REP_ACK);
    expect((await client.ask({ type: nbd.NBD_CMD_BLOCK_STATUS, length: 512 })).error).toBe(nbd.NBD_EINVAL);
  });

  it('what is agreed on behind it counts: each style, and contexts', async () => {
    const fixture = await serveTls();
    for (const style of [{}, { structured: true, context: true }, { extended: true, context: true }]) {
      const client = await fixture.enter({ ...style, tls: withKey() });
      client.send(client.encode({ type: nbd.NBD_CMD_READ, length: 512, cookie: 5 }));
      expect(await client.reply(512)).toMatchObject({ error: 0, cookie: 5 });
    }
  });

  it('flags of the client are no option, and hold: without NO_ZEROES, EXPORT_NAME is answered with 124 zeroes', async () => {
    const client = await (await serveTls()).connect();
    await client.greet(nbd.NBD_FLAG_C_FIXED_NEWSTYLE);
    await client.startTls(withKey());
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    expect((await client.take(134)).subarray(10)).toEqual(Buffer.alloc(124));
  });
});

describe('Terminating over TLS', () => {
  it.each([['NBD_CMD_DISC'], ['NBD_OPT_ABORT']])(
    '%s: the server MUST close down the TLS session, and then the connection',
    async (how) => {
      const fixture = await serveTls();
      const wire = await Wire.to(fixture.socketPath);
      const client = await RawClient.connect(wire.path);
      // In 1.2 the type of a record can be seen from outside.
      const options = withKey('alice', undefined, { maxVersion: 'TLSv1.2' });
      if (how === 'NBD_CMD_DISC') {
        await client.enter('disk', { tls: options });
        client.send(client.encode({ type: nbd.NBD_CMD_DISC }));
      } else {
        await client.greet();
        await client.startTls(options);
        expect(last(await client.negotiate(nbd.NBD_OPT_ABORT))).toBe(nbd.NBD_REP_ACK);
      }
      expect(await isDropped(client)).toBe(true);
      await until(() => fixture.server.connectionCount === 0);
      expect(fixture.server.connectionCount).toBe(0);
      await wire.close();
      expect(recordTypes(wire.fromServer).at(-1)).toBe(ALERT);
    },
  );
});

const ALERT = 21;

/** Types of the TLS records behind the plain ACK to STARTTLS. */
function recordTypes(stream: Buffer): number[] {
  const types: number[] = [];
  let at = nbd.GREETING_BYTES + nbd.OPTION_REPLY_HEADER_BYTES;
  for (; at < stream.length; at += 5 + stream.readUInt16BE(at + 3)) types.push(stream[at]!);
  return types;
}
