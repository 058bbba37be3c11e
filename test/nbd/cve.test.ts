/**
 * What other NBD servers, and storage services, have been attacked with: a test for each class, named by where it was
 * seen. Lists of addresses (CVE-2013-6410) are not here: there are none.
 */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import * as nbd from '../../src/nbd/protocol.ts';
import { Store } from '../../src/volume/store.ts';
import { onStore, read, write } from '../support/stores.ts';
import { requireTools } from '../support/tools.ts';
import { tool, runTool } from '../support/programs.ts';
import { DISK_BYTES, type Fixture, makeDirectory, pause, serve, until } from './fixture.ts';
import { MemoryDevice } from './memory-device.ts';
import { complaintsOf, serveTls, withKey } from './tls-fixture.ts';
import {
  encodeContexts,
  encodeInfo,
  encodeOption,
  encodeRequest,
  RawClient,
  u16,
  u32,
} from './raw-client.ts';

const NOTHING = Buffer.alloc(0);
const MIB = 2 ** 20;
const LENGTHS = [
  0,
  1,
  255,
  256,
  257,
  4095,
  4096,
  4097,
  8192,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 2,
  2 ** 32 - 1,
];

async function greeted({ connect }: Fixture): Promise<RawClient> {
  const client = await connect();
  await client.greet();
  return client;
}

/** The server still does what it is for. */
async function isAlive({ enter }: Fixture): Promise<boolean> {
  const client = await enter();
  const reply = await client.ask({ type: nbd.NBD_CMD_FLUSH });
  client.close();
  return reply.error === 0;
}

describe('CVE-2022-26495, CVE-2022-26496, CVE-2017-15118: lengths of names', () => {
  it.each(LENGTHS)('a name of %d bytes, as it is claimed in INFO and GO', async (length) => {
    const fixture = await serve();
    const client = await greeted(fixture);
    for (const option of [nbd.NBD_OPT_INFO, nbd.NBD_OPT_GO]) {
      const replies = await client.negotiate(option, encodeInfo('x'.repeat(300), [], length));
      expect(replies.at(-1)!.type).toBeGreaterThan(2 ** 31);
    }
    expect(await isAlive(fixture)).toBe(true);
  });

  it.each(LENGTHS)('a name of %d bytes, as the header of EXPORT_NAME claims it', async (length) => {
    const fixture = await serve();
    const client = await greeted(fixture);
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, NOTHING, length));
    await pause(5);
    client.send(Buffer.alloc(Math.min(length, 10_000), 'x'));
    if (length > 0 && length <= 10_000) expect((await client.takeRest()).length).toBe(0);
    client.close();
    expect(await isAlive(fixture)).toBe(true);
  });

  it.each([257, 1000, 4096])('a name of %d bytes that is there, beyond any small buffer', async (length) => {
    const fixture = await serve();
    const name = 'x'.repeat(length);
    fixture.exports.add(new MemoryDevice(name, 4096));
    for (const option of [nbd.NBD_OPT_INFO, nbd.NBD_OPT_GO]) {
      const replies = await (await greeted(fixture)).negotiate(option, encodeInfo(name, [1, 2, 3]));
      expect(replies.at(-1)!.type).toBe(nbd.NBD_REP_ACK);
    }
  });

  it.each(LENGTHS)('queries of contexts: %d as a length, and as a number of them', async (length) => {
    const fixture = await serve();
    const client = await greeted(fixture);
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    const disk = Buffer.concat([u32(4), Buffer.from('disk')]);
    for (const body of [Buffer.concat([disk, u32(1), u32(length)]), Buffer.concat([disk, u32(length)])]) {
      for (const option of [nbd.NBD_OPT_LIST_META_CONTEXT, nbd.NBD_OPT_SET_META_CONTEXT]) {
        const [first] = await client.negotiate(option, body);
        if (length > 0) expect(first!.type).toBe(nbd.NBD_REP_ERR_INVALID);
      }
    }
    expect(await isAlive(fixture)).toBe(true);
  });
});

describe('CVE-2013-7441, CVE-2017-9524, CVE-2017-7539: a client ends the server', () => {
  const handshake = Buffer.concat([
    u32(3),
    encodeOption(nbd.NBD_OPT_EXTENDED_HEADERS, NOTHING),
    encodeOption(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', ['coppice:changed-since:monday'])),
    encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk', [3])),
  ]);

  it.each(['farewell', 'reset'])('by a %s after each byte of the handshake', async (how) => {
    const fixture = await serve();
    const tcp = await fixture.server.listenTcp('127.0.0.1', 0);
    for (let length = 0; length <= handshake.length; length++) {
      const client = await RawClient.connect(tcp);
      client.send(handshake.subarray(0, length));
      if (length % 3 === 0) await pause(1);
      if (how === 'reset') client.reset();
      else client.close();
    }
    await until(() => fixture.server.connectionCount === 0);
    expect(fixture.exports.openCount).toBe(0);
    expect(await isAlive(fixture)).toBe(true);
  });

  it('by asking for an export that is absent, in any way', async () => {
    const fixture = await serve();
    const old = await greeted(fixture);
    old.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('absent')));
    await old.takeRest();
    const client = await greeted(fixture);
    for (const option of [nbd.NBD_OPT_INFO, nbd.NBD_OPT_GO])
      await client.negotiate(option, encodeInfo('absent'));
    client.close();
    expect(await isAlive(fixture)).toBe(true);
  });

  it('by data that belongs to another state: requests in the handshake, options in the transmission', async () => {
    const fixture = await serve();
    const early = await fixture.connect();
    early.send(encodeRequest({ type: nbd.NBD_CMD_READ, length: 512 }));
    await early.takeRest();
    const between = await greeted(fixture);
    between.send(encodeRequest({ type: nbd.NBD_CMD_WRITE, length: 512 }), Buffer.alloc(512));
    await between.takeRest();
    const late = await fixture.enter();
    late.send(encodeOption(nbd.NBD_OPT_INFO, encodeInfo('disk', [1, 2, 3])));
    await late.takeRest();
    expect(await isAlive(fixture)).toBe(true);
  });
});

describe('CVE-2017-15119: options of gigabytes that are read to their end', () => {
  it.each([65537, 2 ** 20, 2 ** 31, 2 ** 32 - 1])('%d bytes are not waited for', async (length) => {
    const fixture = await serve();
    const client = await greeted(fixture);
    client.send(encodeOption(nbd.NBD_OPT_LIST, NOTHING, length));
    expect((await client.takeRest()).length).toBe(0);
  });
});

describe('CVE-2024-7409: connections that only exist', () => {
  it('do not keep a server from ending, nor others from coming in', async () => {
    const fixture = await serve({ limits: { handshakesMax: 50, connectionsMax: 100 } });
    const tcp = await fixture.server.listenTcp('127.0.0.1', 0);
    const idlers: RawClient[] = [];
    for (let count = 0; count < 300; count++) idlers.push(await RawClient.connect(tcp));
    expect(fixture.server.connectionCount).toBeLessThanOrEqual(100);
    expect(await isAlive(fixture)).toBe(true);
    const before = Date.now();
    await fixture.server.close(5000);
    expect(Date.now() - before).toBeLessThan(2000);
    for (const idler of idlers) idler.close();
  });
});

describe('CVE-2019-14850: a disk that is opened for whoever knocks', () => {
  it('is not: nothing is attached before GO, and nothing is opened before it is named', async () => {
    const fixture = await serve();
    const client = await greeted(fixture);
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    await client.negotiate(nbd.NBD_OPT_LIST);
    expect(fixture.disk.opens).toBe(0);
    await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk'));
    expect([fixture.exports.openCount, fixture.disk.attached.size]).toEqual([0, 0]);
  });
});

describe('CVE-2019-14851: options in an order that nobody thought of', () => {
  const options: [name: string, bytes: Buffer][] = [
    ['ABORT', encodeOption(nbd.NBD_OPT_ABORT, NOTHING)],
    ['LIST', encodeOption(nbd.NBD_OPT_LIST, NOTHING)],
    ['STARTTLS', encodeOption(nbd.NBD_OPT_STARTTLS, NOTHING)],
    ['INFO', encodeOption(nbd.NBD_OPT_INFO, encodeInfo('disk', [0, 1, 2, 3]))],
    ['INFO absent', encodeOption(nbd.NBD_OPT_INFO, encodeInfo('absent'))],
    ['GO', encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk'))],
    ['GO absent', encodeOption(nbd.NBD_OPT_GO, encodeInfo('absent'))],
    ['STRUCTURED_REPLY', encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY, NOTHING)],
    ['EXTENDED_HEADERS', encodeOption(nbd.NBD_OPT_EXTENDED_HEADERS, NOTHING)],
    ['LIST_META_CONTEXT', encodeOption(nbd.NBD_OPT_LIST_META_CONTEXT, encodeContexts('disk', []))],
    [
      'SET_META_CONTEXT',
      encodeOption(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', ['base:allocation'])),
    ],
    ['EXPORT_NAME', encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk'))],
    ['unknown', encodeOption(77, Buffer.alloc(100))],
  ];

  it.each(options)('%s, then each of the others, then GO', async (_, first) => {
    const fixture = await serve();
    for (const [, second] of options) {
      const client = await fixture.connect();
      client.send(u32(3), first, second, options[5]![1], encodeRequest({ type: nbd.NBD_CMD_FLUSH }));
      await pause(3);
      client.close();
    }
    expect(await isAlive(fixture)).toBe(true);
  });
});

describe('CVE-2021-3716, CVE-2019-14842: what was agreed on before STARTTLS, and what came with it', () => {
  const injected: [name: string, bytes: Buffer][] = [
    ['an option', encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY, NOTHING)],
    ['GO', encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk'))],
    ['EXPORT_NAME', encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk'))],
    ['a second STARTTLS', encodeOption(nbd.NBD_OPT_STARTTLS, NOTHING)],
    ['a byte', Buffer.from([0])],
    ['what looks like TLS', Buffer.from('160301020001000100', 'hex')],
  ];

  it.each(['on', 'require'] as const)(
    '--tls %s: bytes glued behind STARTTLS end the connection',
    async (mode) => {
      const fixture = await serveTls(mode);
      for (const [, bytes] of injected) {
        const client = await greeted(fixture);
        client.send(encodeOption(nbd.NBD_OPT_STARTTLS, NOTHING), bytes);
        // The answer may have gone out; to what was injected there is none.
        expect((await client.takeRest()).length).toBeLessThanOrEqual(nbd.OPTION_REPLY_HEADER_BYTES);
      }
      const count = complaintsOf(fixture).length;
      expect(complaintsOf(fixture)).toEqual(Array(count).fill('bytes in plain text came with STARTTLS'));
      expect([count, fixture.disk.opens]).toEqual([3, 0]);
    },
  );

  it('bytes that come a little later, before the client speaks TLS, are not taken for encrypted ones', async () => {
    const fixture = await serveTls('on');
    for (const [, bytes] of injected.slice(0, 5)) {
      const client = await greeted(fixture);
      client.send(encodeOption(nbd.NBD_OPT_STARTTLS, NOTHING));
      await client.replies();
      client.send(bytes);
      await expect(client.encrypt(withKey())).rejects.toThrow();
      client.close();
    }
    expect(fixture.disk.opens).toBe(0);
  });

  it('bytes glued behind an option before it, amid a turn that is over, are no secret way in', async () => {
    const fixture = await serveTls('on');
    const client = await greeted(fixture);
    const many = Array.from({ length: 20 }, () => encodeOption(77, NOTHING));
    const tail = encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk'));
    client.send(...many, encodeOption(nbd.NBD_OPT_STARTTLS, NOTHING), tail);
    await client.takeRest();
    expect(fixture.disk.opens).toBe(0);
    expect(complaintsOf(fixture)).toEqual(['bytes in plain text came with STARTTLS']);
  });

  it('an export that was asked about before STARTTLS has to be asked for again', async () => {
    const fixture = await serveTls('on');
    const client = await greeted(fixture);
    await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk'));
    await client.startTls(withKey());
    expect([fixture.disk.attached.size, fixture.exports.openCount]).toEqual([0, 0]);
    client.send(encodeRequest({ type: nbd.NBD_CMD_FLUSH }));
    expect((await client.takeRest()).length).toBe(0);
    expect(fixture.disk.log).toEqual([]);
  });
});

describe('downgrade: somebody on the way takes TLS out of what the two sides say', () => {
  it('a client whose STARTTLS never arrives gets nothing where TLS is required, by any option or style', async () => {
    const fixture = await serveTls('require');
    for (const option of [3, 6, 7, 8, 9, 10, 11]) {
      const client = await greeted(fixture);
      const replies = await client.negotiate(option, option === 3 ? NOTHING : encodeInfo('disk'));
      expect(replies.map(({ type }) => type)).toEqual([nbd.NBD_REP_ERR_TLS_REQD]);
    }
    expect(fixture.disk.opens).toBe(0);
  });

  it('TLS of a version before 1.2 is not spoken', async () => {
    const fixture = await serveTls();
    const client = await greeted(fixture);
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' } as const;
    const ciphers = 'PSK:@SECLEVEL=0';
    await expect(client.startTls(withKey('alice', undefined, { ...old, ciphers }))).rejects.toThrow();
    expect(complaintsOf(fixture)).toEqual(['a TLS handshake failed']);
  });

  it.each([
    'PSK-AES128-CBC-SHA',
    'PSK-NULL-SHA256',
    'ECDHE-PSK-NULL-SHA',
    'RSA-PSK-AES128-CBC-SHA',
    'ADH-AES128-SHA',
  ])('%s, which encrypts badly, keeps no secret later or proves nothing, is not spoken', async (ciphers) => {
    const client = await greeted(await serveTls());
    const weak = { ciphers: `${ciphers}:@SECLEVEL=0`, maxVersion: 'TLSv1.2' } as const;
    await expect(client.startTls(withKey('alice', undefined, weak))).rejects.toThrow();
  });
});

describe('CVE-2025-47711, CVE-2025-47712: block status over more than fits', () => {
  const lengths = [2 ** 31 - 1, 2 ** 31, 2 ** 32 - 4096, 2 ** 32 - 512, 2 ** 32 - 1];

  it.each(lengths)('%d bytes, of one extent, of many, and one wanted', async (length) => {
    const fixture = await serve();
    fixture.exports.add(new MemoryDevice('huge', 2 ** 46));
    fixture.exports.devices.get('huge')!.allocated.fill(1, 1, 2);
    for (const style of [{ structured: true }, { extended: true }]) {
      const client = await fixture.enter({ name: 'huge', ...style, context: true });
      for (const offset of [0, 2 ** 32, 2 ** 45])
        for (const flags of [0, nbd.NBD_CMD_FLAG_REQ_ONE]) {
          const extents = (await client.status({ offset, length, flags })).get(1)!;
          const sum = extents.reduce((all, [bytes]) => all + bytes, 0);
          expect(sum).toBeLessThanOrEqual(length);
          expect(extents.every(([bytes]) => bytes > 0)).toBe(true);
          if (flags === 0) expect(sum).toBe(length);
        }
    }
  });
});

describe.skipIf(!requireTools(['nbdcopy']))('CVE-2022-0485: a copy that takes an error for zeros', () => {
  it('a read that fails is told, and the copy fails', async () => {
    const fixture = await serve();
    const read = fixture.disk.read.bind(fixture.disk);
    fixture.disk.readsAtOnce = false;
    let reads = 0;
    fixture.disk.read = async (...request) => {
      if (++reads === 20) throw new StoreError('CORRUPTION', 'on purpose');
      await read(...request);
    };
    const uri = `nbd+unix:///disk?socket=${fixture.socketPath}`;
    const copy = await runTool('nbdcopy', ['--no-extents', '--request-size=262144', uri, 'null:']);
    expect(copy.result).not.toBe(0);
    expect(await tool('nbdinfo', ['--size', uri])).toContain(String(DISK_BYTES));
  });
});

describe('CVE-2012-5625, CVE-2013-4183: what somebody else has stored', () => {
  it('is not in a new volume, behind a trim, nor behind a delete', async () => {
    const directory = makeDirectory();
    await Store.init(`${directory}/store`, { segmentBytes: MIB });
    const store = await Store.open(`${directory}/store`);
    const secret = Buffer.alloc(MIB, 'SECRET! ');
    for (const name of ['one', 'two']) {
      await store.createVolume(name, 4 * MIB);
      expect(
        (await onStore(store, name, (device) => read(device, 0, 4 * MIB))).every((byte) => byte === 0),
      ).toBe(true);
      await onStore(store, name, (device) => write(device, 512, secret));
      await onStore(store, name, (device) => device.zero(1000, 4 * MIB - 1000, true));
      const left = await onStore(store, name, (device) => read(device, 1000, 4 * MIB - 1000));
      expect(left.every((byte) => byte === 0)).toBe(true);
      await store.delete([name]);
    }
    await store.close();
  });

  it('is not in the memory that replies are made in', async () => {
    const fixture = await serve();
    const empty = fixture.exports.add(new MemoryDevice('empty', DISK_BYTES));
    fixture.disk.bytes.fill('SECRET! ');
    fixture.disk.allocated.fill(1);
    const owner = await fixture.enter({ structured: true });
    for (const length of [512, 4096, 65536, 65537, MIB]) {
      for (let round = 0; round < 4; round++) await owner.ask({ type: nbd.NBD_CMD_READ, length });
      for (const style of [{}, { structured: true }, { extended: true }]) {
        const other = await fixture.enter({ name: 'empty', ...style });
        for (const readsAtOnce of [true, false]) {
          empty.readsAtOnce = readsAtOnce;
          empty.hasHoles = length % 2 === 0;
          const reply = await other.ask({ type: nbd.NBD_CMD_READ, length, flags: 0 }, NOTHING, length);
          expect(reply.payload.includes('SECRET')).toBe(false);
          empty.error = new StoreError('IO', 'on purpose');
          const failed = await other.ask({ type: nbd.NBD_CMD_READ, length }, NOTHING, length);
          expect(failed.payload.includes('SECRET')).toBe(false);
          empty.error = undefined;
        }
        other.close();
      }
    }
  });

  it('is not in answers to options and in errors', async () => {
    const fixture = await serve();
    const client = await greeted(fixture);
    const body = Buffer.concat([u32(2000), Buffer.from('disk'), u16(0)]);
    const [reply] = await client.negotiate(nbd.NBD_OPT_GO, body);
    expect(reply!.payload.toString()).toMatch(/^[a-z ]+$/);
  });
});
