/** A client that does not read its replies, and clients that want more than there is: held back, served fairly. */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../src/nbd/protocol.ts';
import { pause, serve, until } from './fixture.ts';
import { encodeExtended, encodeInfo, encodeOption, encodeRequest, u32 } from './raw-client.ts';

const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH } = nbd;
const MIB = 2 ** 20;

describe('memory', () => {
  it('does not grow for a client that reads no replies', async () => {
    const { enter, server } = await serve();
    const client = await enter();
    client.socket.pause();
    const count = 4000;
    for (let cookie = 0; cookie < count; cookie++) {
      client.send(encodeRequest({ type: NBD_CMD_READ, length: 65536, cookie }));
    }
    await pause(200);
    // 4 MiB of replies, and the last one that went in below that.
    expect(server.inFlightBytes).toBeGreaterThan(3 * MIB);
    expect(server.inFlightBytes).toBeLessThan(5 * MIB);
    const other = await enter();
    expect(await other.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
    client.socket.resume();
    const seen = new Set<number>();
    for (let index = 0; index < 400; index++) seen.add((await client.reply(65536)).cookie);
    expect(seen.size).toBe(400);
  });

  it('holds at most 64 MiB of payloads for one connection', async () => {
    const { enter, server, disk } = await serve();
    disk.holds = true;
    const client = await enter();
    for (let cookie = 0; cookie < 80; cookie++) {
      client.send(encodeRequest({ type: NBD_CMD_WRITE, length: MIB, cookie }), Buffer.alloc(MIB, cookie));
    }
    await until(() => disk.waitingCount === 64);
    await pause(100);
    expect(disk.waitingCount).toBe(64);
    expect(server.inFlightBytes).toBe(64 * MIB);
    disk.letGo();
    const seen = new Set<number>();
    for (let index = 0; index < 80; index++) seen.add((await client.reply()).cookie);
    expect(seen.size).toBe(80);
  }, 20_000);

  it('is shared by all connections, and who waits for it goes on when some is given back', async () => {
    // Each of four connections has 256 KiB of its own, 3 MiB are shared.
    const { enter, server, disk } = await serve({ limits: { serverBytesMax: 4 * MIB, connectionsMax: 4 } });
    disk.holds = true;
    const clients = [await enter(), await enter(), await enter()];
    for (const client of clients) {
      for (let cookie = 0; cookie < 4; cookie++) {
        client.send(encodeRequest({ type: NBD_CMD_WRITE, length: MIB, cookie }), Buffer.alloc(MIB));
      }
    }
    await until(() => disk.waitingCount === 3);
    await pause(50);
    expect(server.inFlightBytes).toBe(3 * MIB);
    disk.letGo();
    for (const client of clients) for (let cookie = 0; cookie < 4; cookie++) await client.reply();
  });

  it('has a share for each connection that nobody else can take', async () => {
    const { enter, server, disk } = await serve({ limits: { serverBytesMax: 64 * MIB, stallMsMax: 60_000 } });
    disk.holds = true;
    const hogs = await Promise.all(Array.from({ length: 20 }, () => enter()));
    for (const hog of hogs) {
      // Announced and never sent, until nothing is left.
      hog.send(encodeRequest({ type: NBD_CMD_WRITE, length: 16 * MIB }), Buffer.alloc(10));
    }
    await until(() => server.inFlightBytes >= 32 * MIB);
    const small = await enter();
    const length = server.ownBytes;
    expect(length).toBeGreaterThanOrEqual(32 << 10);
    for (let round = 0; round < 20; round++) {
      expect(await small.ask({ type: NBD_CMD_READ, length }, undefined, length)).toMatchObject({ error: 0 });
    }
    expect(server.inFlightBytes).toBeLessThanOrEqual(64 * MIB);
  });

  it('is counted for a question from its header on, also where its contexts come behind it', async () => {
    const { enter, server, disk } = await serve({ limits: { serverBytesMax: 4 * MIB, connectionsMax: 4 } });
    disk.holds = true;
    const contexts = ['base:allocation', 'qemu:allocation-depth', 'coppice:changed-since:monday'];
    const askers = [];
    for (let i = 0; i < 3; i++) askers.push(await enter({ extended: true, contexts }));
    const payload = Buffer.concat([u32(0), u32(4096), u32(1), u32(2), u32(3)]);
    const flags = nbd.NBD_CMD_FLAG_PAYLOAD_LEN;
    const question = encodeExtended({ type: nbd.NBD_CMD_BLOCK_STATUS, flags, length: payload.length });
    for (const asker of askers) asker.send(question);
    await until(() => server.inFlightBytes >= 3 * 384 * 1024);
    expect(server.inFlightBytes).toBe(3 * 384 * 1024);
    for (const asker of askers) asker.send(payload);
    await until(() => disk.waitingCount === 3);
    expect(server.inFlightBytes).toBe(3 * 384 * 1024);
    disk.letGo();
    for (const asker of askers) expect(await asker.chunks()).toHaveLength(3);
  });

  it('held by a client that trickles, while another waits for it, is taken back', async () => {
    const { enter, server } = await serve({ limits: { serverBytesMax: 4 * MIB, stallMsMax: 200 } });
    const hog = await enter();
    hog.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4 * MIB }));
    const trickle = setInterval(() => hog.send(Buffer.alloc(1)), 5);
    await until(() => server.inFlightBytes === 4 * MIB);
    const patient = await enter();
    const read = await patient.ask({ type: NBD_CMD_READ, length: MIB }, undefined, MIB);
    clearInterval(trickle);
    expect(read).toMatchObject({ error: 0 });
    expect(hog.isClosed).toBe(true);
  });

  it('held by a client that does not move, while another waits for it, is taken back', async () => {
    const { enter, server } = await serve({ limits: { serverBytesMax: 4 * MIB, stallMsMax: 100 } });
    const hog = await enter();
    // A payload that is announced and never sent.
    hog.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4 * MIB }), Buffer.alloc(10));
    await until(() => server.inFlightBytes === 4 * MIB);
    const patient = await enter();
    expect(await patient.ask({ type: NBD_CMD_READ, length: MIB }, undefined, MIB)).toMatchObject({
      error: 0,
    });
    expect(hog.isClosed).toBe(true);
  });

  it('is not taken from a client that waits for the device', async () => {
    const { enter, disk } = await serve({ limits: { serverBytesMax: 4 * MIB, stallMsMax: 50 } });
    disk.holds = true;
    const writer = await enter();
    writer.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4 * MIB }), Buffer.alloc(4 * MIB));
    await until(() => disk.waitingCount === 1);
    const patient = await enter();
    patient.send(encodeRequest({ type: NBD_CMD_READ, length: MIB }));
    await pause(200);
    expect(writer.isClosed).toBe(false);
    disk.letGo();
    expect(await writer.reply()).toMatchObject({ error: 0 });
    expect(await patient.reply(MIB)).toMatchObject({ error: 0 });
  });
});

describe('fairness', () => {
  it('gives no connection more than its share of a turn of the event loop', async () => {
    const { enter, disk } = await serve();
    const tryRead = disk.tryRead.bind(disk);
    let readsThisTurn = 0;
    let readsMax = 0;
    disk.tryRead = (...request) => {
      if (readsThisTurn++ === 0) setImmediate(() => (readsThisTurn = 0));
      readsMax = Math.max(readsMax, readsThisTurn);
      return tryRead(...request);
    };
    const flooder = await enter();
    const count = 10_000;
    const requests = Array.from({ length: count }, (_, cookie) =>
      encodeRequest({ type: NBD_CMD_READ, length: 1, cookie }),
    );
    flooder.send(Buffer.concat(requests));
    for (let index = 0; index < count; index++) await flooder.reply(1);
    // The end of one share and the next, between two looks at the others. A chunk of the socket has 2,340 requests.
    expect(readsMax).toBeLessThanOrEqual(256);
  });

  it('answers a few options of a handshake in a turn, however many come at once', async () => {
    const { connect, exports } = await serve();
    const open = exports.open.bind(exports);
    let opensThisTurn = 0;
    let opensMax = 0;
    exports.open = (name) => {
      if (opensThisTurn++ === 0) setImmediate(() => (opensThisTurn = 0));
      opensMax = Math.max(opensMax, opensThisTurn);
      return open(name);
    };
    const client = await connect();
    await client.greet();
    const count = 2000;
    client.send(...Array.from({ length: count }, () => encodeOption(nbd.NBD_OPT_INFO, encodeInfo('disk'))));
    for (let index = 0; index < count; index++)
      expect((await client.replies()).at(-1)!.type).toBe(nbd.NBD_REP_ACK);
    expect(opensMax).toBeLessThanOrEqual(16);
  });
});
