/** The handshake on raw sockets, clause by clause, and what hostile clients send in it. */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../src/nbd/protocol.ts';
import { DISK_BYTES, pause, serve, until } from './fixture.ts';
import { encodeContexts, encodeInfo, encodeOption, type OptionReply, u32 } from './raw-client.ts';

const NOTHING = Buffer.alloc(0);
const names = (replies: OptionReply[]): string[] =>
  replies
    .filter((reply) => reply.type === nbd.NBD_REP_SERVER)
    .map((reply) => reply.payload.subarray(4).toString());
const last = (replies: OptionReply[]): number => replies.at(-1)!.type;
const facts = (replies: OptionReply[]) => {
  const payload = replies.find(
    (reply) => reply.payload.length === 12 && reply.payload.readUInt16BE(0) === 0,
  )!.payload;
  return { sizeBytes: Number(payload.readBigUInt64BE(2)), flags: payload.readUInt16BE(10) };
};

describe('the greeting', () => {
  it('is the one of fixed newstyle, byte for byte', async () => {
    const { connect } = await serve();
    const client = await connect();
    expect((await client.greet()).toString('hex')).toBe('4e42444d4147494349484156454f50540003');
  });

  it('opens no device', async () => {
    const { connect, disk } = await serve();
    const client = await connect();
    await client.greet();
    await client.negotiate(nbd.NBD_OPT_LIST);
    expect(disk.opens).toBe(0);
  });

  it('is followed by a hang-up if the client sets a flag we did not offer', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet(1 << 2);
    expect((await client.takeRest()).length).toBe(0);
  });

  it('serves a client that does not claim fixed newstyle', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet(0);
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });
});

describe('options', () => {
  it('list every export', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    expect(names(await client.negotiate(nbd.NBD_OPT_LIST))).toEqual(['disk', 'disk@monday']);
  });

  it('that are unknown are refused, and the next one is understood', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    for (const option of [0, 4, 12, 0xffffffff]) {
      const replies = await client.negotiate(option, Buffer.from('whatever'));
      expect(replies).toMatchObject([{ option, type: nbd.NBD_REP_ERR_UNSUP }]);
    }
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
  });

  it('that take no data are refused with data', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    for (const option of [nbd.NBD_OPT_LIST, nbd.NBD_OPT_STRUCTURED_REPLY]) {
      expect(last(await client.negotiate(option, Buffer.from('x')))).toBe(nbd.NBD_REP_ERR_INVALID);
    }
  });

  it('of more than 8 KiB are refused, of more than 64 KiB they end the connection', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    expect(last(await client.negotiate(nbd.NBD_OPT_GO, Buffer.alloc(8193)))).toBe(nbd.NBD_REP_ERR_TOO_BIG);
    expect(last(await client.negotiate(99, Buffer.alloc(65536)))).toBe(nbd.NBD_REP_ERR_UNSUP);
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(nbd.NBD_REP_ACK);
    client.send(encodeOption(nbd.NBD_OPT_GO, NOTHING, 65537));
    expect((await client.takeRest()).length).toBe(0);
  });

  it('of four gigabytes are not waited for (CVE-2017-15119)', async () => {
    const { connect } = await serve();
    for (const length of [2 ** 31, 2 ** 32 - 1]) {
      const client = await connect();
      await client.greet();
      client.send(encodeOption(nbd.NBD_OPT_LIST, NOTHING, length));
      await client.takeRest();
    }
  });

  it('with a bad magic end the connection', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    client.send(Buffer.from('IHAVEOPS'), u32(3), u32(0));
    expect((await client.takeRest()).length).toBe(0);
  });

  it('are at most as many as the limit says', async () => {
    const { connect } = await serve({ limits: { optionsMax: 1024 } });
    const client = await connect();
    await client.greet();
    for (let count = 0; count < 1024; count++) await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    client.send(encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY, NOTHING));
    await client.takeRest();
  });

  it('end with ABORT, which is acknowledged whatever it carries', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    expect(last(await client.negotiate(nbd.NBD_OPT_ABORT, Buffer.from('bye')))).toBe(nbd.NBD_REP_ACK);
    await client.takeRest();
  });

  it('are understood when they come byte by byte', async () => {
    const { connect, exports } = await serve();
    const client = await connect();
    await client.take(nbd.GREETING_BYTES);
    const bytes = Buffer.concat([
      u32(3),
      encodeOption(77, Buffer.from('unknown')),
      encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk')),
    ]);
    client.socket.setNoDelay(true);
    for (const byte of bytes) {
      client.send(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(last(await client.replies())).toBe(nbd.NBD_REP_ERR_UNSUP);
    expect(last(await client.replies())).toBe(nbd.NBD_REP_ACK);
    expect(exports.openCount).toBe(1);
  });

  it('stop when the client does not read the answers', async () => {
    const { connect, exports } = await serve();
    let asked = 0;
    exports.list = () => {
      asked += 1;
      return Array.from({ length: 1000 }, (_, index) => `${index}`.padStart(200, 'x'));
    };
    const client = await connect();
    await client.greet();
    client.socket.pause();
    for (let count = 0; count < 100; count++) client.send(encodeOption(nbd.NBD_OPT_LIST, NOTHING));
    await pause(100);
    // The kernel's buffers swallow one or two answers of 225 KiB.
    expect(asked).toBeLessThan(10);
    client.socket.resume();
    for (let count = 0; count < 100; count++) expect(names(await client.replies()).length).toBe(1000);
  });
});

describe('INFO and GO', () => {
  it('describe a volume and a snapshot', async () => {
    const { connect, exports } = await serve();
    const client = await connect();
    await client.greet();
    const volume = facts(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk')));
    const writable = nbd.NBD_FLAG_SEND_TRIM | nbd.NBD_FLAG_SEND_WRITE_ZEROES | nbd.NBD_FLAG_SEND_FAST_ZERO;
    const always =
      nbd.NBD_FLAG_HAS_FLAGS |
      nbd.NBD_FLAG_SEND_FLUSH |
      nbd.NBD_FLAG_SEND_FUA |
      nbd.NBD_FLAG_CAN_MULTI_CONN |
      nbd.NBD_FLAG_SEND_CACHE;
    expect(volume).toEqual({ sizeBytes: DISK_BYTES, flags: always | writable });
    const snapshot = facts(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk@monday')));
    expect(snapshot.flags).toBe(always | nbd.NBD_FLAG_READ_ONLY);
    expect(exports.openCount).toBe(0);
  });

  it('offer DF only after structured replies', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    const before = facts(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk')));
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    const after = facts(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk')));
    expect(before.flags & nbd.NBD_FLAG_SEND_DF).toBe(0);
    expect(after.flags).toBe(before.flags | nbd.NBD_FLAG_SEND_DF);
  });

  it('tell name and block sizes to whoever asks', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    const types = [nbd.NBD_INFO_NAME, nbd.NBD_INFO_BLOCK_SIZE, 1234];
    const replies = await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('', types));
    const payloads = replies.map((reply) => reply.payload.toString('hex'));
    expect(payloads).toContain('0003' + '00000001' + '00001000' + '02000000');
    expect(payloads).toContain(`0001${Buffer.from('disk').toString('hex')}`);
    expect(replies.length).toBe(4);
  });

  it('take the empty name for the only volume', async () => {
    const { connect, exports, disk } = await serve();
    const client = await connect();
    await client.greet();
    expect(last(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('')))).toBe(nbd.NBD_REP_ACK);
    exports.devices.set('other', disk);
    expect(last(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('')))).toBe(nbd.NBD_REP_ERR_UNKNOWN);
  });

  it('refuse what does not exist, and the client may try again', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    for (const name of ['nope', '../disk', '/', 'LOCK', 'disk@', '@', 'disk ']) {
      const replies = await client.negotiate(nbd.NBD_OPT_GO, encodeInfo(name));
      expect(replies.length).toBe(1);
      expect(last(replies)).toBe(nbd.NBD_REP_ERR_UNKNOWN);
      expect(replies[0]!.payload.toString()).not.toContain('disk');
    }
    expect(last(await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('disk')))).toBe(nbd.NBD_REP_ACK);
  });

  it('refuse lengths that lie (CVE-2022-26495, CVE-2022-26496, CVE-2017-15118)', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    const bodies = [
      NOTHING,
      u32(0),
      ...[1, 5, 4096, 4097, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1].map((length) =>
        encodeInfo('disk', [], length),
      ),
      Buffer.concat([encodeInfo('disk'), Buffer.from('x')]),
      Buffer.concat([u32(4), Buffer.from('disk'), Buffer.from([0xff, 0xff, 0, 0])]),
      encodeInfo('x'.repeat(4097)),
    ];
    for (const body of bodies) {
      for (const option of [nbd.NBD_OPT_INFO, nbd.NBD_OPT_GO]) {
        expect(last(await client.negotiate(option, body))).toBe(nbd.NBD_REP_ERR_INVALID);
      }
    }
    expect(last(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('x'.repeat(4096))))).toBe(
      nbd.NBD_REP_ERR_UNKNOWN,
    );
  });

  it('refuse names that are not UTF-8 or contain NUL', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    for (const name of [Buffer.from([0xff]), Buffer.from([0xc0, 0x80]), Buffer.from('disk\0')]) {
      expect(last(await client.negotiate(nbd.NBD_OPT_GO, encodeInfo(name)))).toBe(nbd.NBD_REP_ERR_INVALID);
    }
    // A byte order mark is part of the name, not decoration.
    expect(last(await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('\ufeffdisk')))).toBe(
      nbd.NBD_REP_ERR_UNKNOWN,
    );
  });

  it('make every export read-only if the server is', async () => {
    const { connect } = await serve({ readOnly: true });
    const client = await connect();
    await client.greet();
    const { flags } = facts(await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk')));
    expect(flags & nbd.NBD_FLAG_READ_ONLY).toBe(nbd.NBD_FLAG_READ_ONLY);
    expect(flags & nbd.NBD_FLAG_SEND_TRIM).toBe(0);
  });

  it('leave bytes behind GO to the transmission', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    const { encodeRequest } = await import('./raw-client.ts');
    const flush = encodeRequest({ type: nbd.NBD_CMD_FLUSH, cookie: 42 });
    client.send(encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk')), flush);
    await client.replies();
    expect(await client.reply()).toMatchObject({ error: 0, cookie: 42 });
  });

  it('behind more options than a turn has, leave the payload that follows to its write', async () => {
    const { connect, disk } = await serve();
    disk.holds = true;
    const client = await connect();
    await client.greet();
    // The last options wait for the next turn: GO is answered outside of any read of the socket.
    const infos = Array.from({ length: 20 }, () => encodeOption(nbd.NBD_OPT_INFO, encodeInfo('disk')));
    client.send(...infos, encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk')));
    for (let index = 0; index <= infos.length; index++) await client.replies();
    const payload = Buffer.alloc(4096, 0x77);
    client.send(client.encode({ type: nbd.NBD_CMD_WRITE, length: payload.length }), payload);
    await until(() => disk.waitingCount === 1);
    const other = await connect();
    await other.greet();
    other.send(encodeOption(nbd.NBD_OPT_LIST, Buffer.alloc(8000, 0x21)));
    await other.replies();
    disk.letGo();
    expect(await client.reply()).toMatchObject({ error: 0 });
    expect(disk.bytes.subarray(0, payload.length).equals(payload)).toBe(true);
  });
});

describe('EXPORT_NAME', () => {
  it.each([
    [0, 134],
    [nbd.NBD_FLAG_C_NO_ZEROES, 10],
  ])('under client flags %d answers %d bytes', async (flags, bytes) => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet(nbd.NBD_FLAG_C_FIXED_NEWSTYLE | flags);
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    const answer = await client.take(bytes);
    expect(Number(answer.readBigUInt64BE(0))).toBe(DISK_BYTES);
    expect(answer.subarray(10).every((byte) => byte === 0)).toBe(true);
    expect(await client.ask({ type: nbd.NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });

  it('ends the connection if there is no such export, or the name is too long', async () => {
    const { connect } = await serve();
    for (const name of ['nope', 'x'.repeat(4096), 'x'.repeat(4097)]) {
      const client = await connect();
      await client.greet();
      client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)));
      expect((await client.takeRest()).length).toBe(0);
    }
  });
});

describe('metadata contexts', () => {
  const context = (replies: OptionReply[]) =>
    replies
      .filter((reply) => reply.type === nbd.NBD_REP_META_CONTEXT)
      .map((reply) => reply.payload.subarray(4).toString());

  it('need structured replies first', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    for (const option of [nbd.NBD_OPT_LIST_META_CONTEXT, nbd.NBD_OPT_SET_META_CONTEXT]) {
      expect(last(await client.negotiate(option, encodeContexts('disk', [])))).toBe(nbd.NBD_REP_ERR_INVALID);
    }
  });

  const ALL = [
    'base:allocation',
    'qemu:allocation-depth',
    'coppice:changed-since:monday',
    'qemu:dirty-bitmap:monday',
  ];

  it.each([
    [[], ALL, []],
    [['base:'], ['base:allocation'], []],
    [['base:allocation'], ['base:allocation'], ['base:allocation']],
    [['x-other:thing', 'base:allocation'], ['base:allocation'], ['base:allocation']],
    [['base:nonsense'], [], []],
    [['qemu:dirty-bitmap:x'], [], []],
    [['qemu:'], ['qemu:allocation-depth', 'qemu:dirty-bitmap:monday'], []],
    [['coppice:'], ['coppice:changed-since:monday'], []],
    [['coppice:changed-since:'], ['coppice:changed-since:monday'], []],
    [['qemu:dirty-bitmap:'], ['qemu:dirty-bitmap:monday'], []],
    [['qemu:dirty-bitmap:disk@monday'], ['qemu:dirty-bitmap:disk@monday'], ['qemu:dirty-bitmap:disk@monday']],
    [['base:allocation', 'base:allocation'], ['base:allocation'], ['base:allocation']],
    [ALL, ALL, ALL],
  ])('%j are listed as %j, selected: %j', async (queries, listed, selected) => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    const body = encodeContexts('disk', queries);
    const list = await client.negotiate(nbd.NBD_OPT_LIST_META_CONTEXT, body);
    expect(context(list)).toEqual(listed);
    const set = await client.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, body);
    expect(context(set)).toEqual(selected);
    expect([last(list), last(set)]).toEqual([nbd.NBD_REP_ACK, nbd.NBD_REP_ACK]);
  });

  it('are refused for unknown exports and lengths that lie', async () => {
    const { connect } = await serve();
    const client = await connect();
    await client.greet();
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    const option = nbd.NBD_OPT_SET_META_CONTEXT;
    expect(last(await client.negotiate(option, encodeContexts('nope', [])))).toBe(nbd.NBD_REP_ERR_UNKNOWN);
    const lies = [
      NOTHING,
      u32(4),
      Buffer.concat([u32(0), u32(2 ** 32 - 1)]),
      Buffer.concat([u32(0), u32(1), u32(2 ** 32 - 1)]),
      Buffer.concat([encodeContexts('disk', ['base:']), Buffer.from('x')]),
    ];
    for (const body of lies) expect(last(await client.negotiate(option, body))).toBe(nbd.NBD_REP_ERR_INVALID);
  });

  it('count only for the export they were selected for, and only the last selection', async () => {
    const { connect } = await serve();
    const status = { type: nbd.NBD_CMD_BLOCK_STATUS, length: 4096 };
    const run = async (steps: [string, string[]][]): Promise<number> => {
      const client = await connect();
      await client.greet();
      await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
      for (const [name, queries] of steps) {
        await client.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts(name, queries));
      }
      await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('disk'));
      return (await client.ask(status)).error;
    };
    expect(await run([['disk', ['base:allocation']]])).toBe(0);
    expect(await run([['', ['base:allocation']]])).toBe(0);
    expect(await run([['disk@monday', ['base:allocation']]])).toBe(nbd.NBD_EINVAL);
    expect(
      await run([
        ['disk', ['base:allocation']],
        ['disk', []],
      ]),
    ).toBe(nbd.NBD_EINVAL);
    expect(
      await run([
        ['disk', ['base:allocation']],
        ['nope', ['base:allocation']],
      ]),
    ).toBe(nbd.NBD_EINVAL);
  });
});

describe('a client that goes nowhere', () => {
  it('is cut off when the time for the handshake is over', async () => {
    const { connect, server } = await serve({ limits: { handshakeMsMax: 50 } });
    const silent = await connect();
    const trickling = await connect();
    await trickling.greet();
    await trickling.negotiate(nbd.NBD_OPT_LIST);
    await Promise.all([silent.takeRest(), trickling.takeRest()]);
    await until(() => server.connectionCount === 0);
    expect(server.connectionCount).toBe(0);
  });

  it('is not cut off once it has an export', async () => {
    const { enter } = await serve({ limits: { handshakeMsMax: 50 } });
    const client = await enter();
    await pause(100);
    expect(await client.ask({ type: nbd.NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });

  it('makes room for the next when too many haggle', async () => {
    const { connect, enter, server } = await serve({ limits: { handshakesMax: 4 } });
    const good = await enter();
    const idlers = [];
    for (let count = 0; count < 6; count++) idlers.push(await connect());
    await Promise.all([idlers[0]!.takeRest(), idlers[1]!.takeRest()]);
    expect(idlers.slice(2).map((idler) => idler.isClosed)).toEqual([false, false, false, false]);
    expect(server.connectionCount).toBe(5);
    expect(await good.ask({ type: nbd.NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });

  it('is refused when there are too many connections', async () => {
    const { enter, connect } = await serve({ limits: { connectionsMax: 2 } });
    await enter();
    await enter();
    const third = await connect();
    expect((await third.takeRest()).length).toBe(0);
  });

  it('may close after any byte of the handshake', async () => {
    const { connect, exports, server } = await serve();
    const bytes = Buffer.concat([
      u32(3),
      encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY, NOTHING),
      encodeOption(nbd.NBD_OPT_GO, encodeInfo('disk')),
    ]);
    for (let length = 0; length <= bytes.length; length++) {
      const client = await connect();
      client.send(bytes.subarray(0, length));
      if (length % 2 === 0) client.socket.end();
      else client.close();
    }
    await until(() => server.connectionCount === 0);
    expect(server.connectionCount).toBe(0);
    expect(exports.openCount).toBe(0);
  });
});
