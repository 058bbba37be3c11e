/** Clients whose export is deleted or rolled back, and who counts as working on one. */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../src/nbd/protocol.ts';
import { BASE_ALLOCATION } from '../../src/nbd/status-contexts.ts';
import { pause, serve, until } from './fixture.ts';
import { encodeContexts, encodeInfo, encodeOption, encodeRequest, RawClient } from './raw-client.ts';

const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS } = nbd;

describe('a device', () => {
  it('is attached when transmission begins, and by no question before it', async () => {
    const { connect, disk, exports } = await serve();
    const client = await connect();
    await client.greet();
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    await client.negotiate(nbd.NBD_OPT_LIST);
    await client.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk', [nbd.NBD_INFO_BLOCK_SIZE]));
    const contexts = encodeContexts('disk', [BASE_ALLOCATION]);
    await client.negotiate(nbd.NBD_OPT_LIST_META_CONTEXT, contexts);
    await client.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, contexts);
    expect(disk.opens).toBeGreaterThan(0);
    expect(disk.attached.size).toBe(0);
    expect(exports.openCount).toBe(0);
    expect((await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('disk'))).at(-1)!.type).toBe(nbd.NBD_REP_ACK);
    expect(disk.attached.size).toBe(1);
    client.close();
    await until(() => disk.attached.size === 0);
    expect(disk.attached.size).toBe(0);
  });

  it('is attached by clients that know the oldest option only', async () => {
    const { connect, disk } = await serve();
    const client = await connect();
    await client.greet();
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    await client.take(10);
    expect(disk.attached.size).toBe(1);
  });

  it('is attached once for each of its clients, until they hang up', async () => {
    const { enter, disk, snapshot } = await serve();
    const clients: RawClient[] = [];
    for (let count = 1; count <= 3; count++) {
      clients.push(await enter());
      expect(disk.attached.size).toBe(count);
    }
    expect(snapshot.attached.size).toBe(0);
    clients[0]!.send(encodeRequest({ type: nbd.NBD_CMD_DISC }));
    clients[1]!.close();
    await until(() => disk.attached.size === 1);
    expect(disk.attached.size).toBe(1);
    expect(await clients[2]!.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });

  it('stays attached while a request of a client that hung up is with it', async () => {
    const { enter, disk } = await serve();
    disk.holds = true;
    const client = await enter();
    client.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4 }), Buffer.from('last'));
    await until(() => disk.waitingCount === 1);
    client.close();
    await pause();
    expect(disk.attached.size).toBe(1);
    disk.letGo();
    await until(() => disk.attached.size === 0);
    expect(disk.bytes.toString('latin1', 0, 4)).toBe('last');
  });
});

describe('a device that is taken back', () => {
  it('ends the connections of all its clients, and no other', async () => {
    const { enter, disk, snapshot, server, logged } = await serve();
    const doomed = [await enter(), await enter()];
    const other = await enter({ name: 'disk@monday' });
    disk.revoke();
    for (const client of doomed) expect(await client.takeRest()).toHaveLength(0);
    await until(() => disk.attached.size === 0);
    expect(disk.attached.size).toBe(0);
    expect(snapshot.attached.size).toBe(1);
    expect(await other.ask({ type: NBD_CMD_READ, length: 4 }, undefined, 4)).toMatchObject({ error: 0 });
    await until(() => server.connectionCount === 1);
    const said = logged.filter(({ msg }) => msg === 'connection dropped');
    expect(said).toHaveLength(2);
    expect(said[0]).toMatchObject({ export: 'disk', reason: expect.stringContaining('deleted') });
  });

  it.each([false, true])(
    'answers no request in flight with success, structured replies: %s',
    async (structured) => {
      const { enter, disk, exports } = await serve();
      disk.readsAtOnce = false;
      disk.holds = true;
      const client = await enter({ structured, context: structured });
      const requests = [
        { type: NBD_CMD_READ, length: 4096 },
        { type: NBD_CMD_READ, length: 100_000 },
        { type: NBD_CMD_FLUSH },
        { type: NBD_CMD_WRITE_ZEROES, length: 4096 },
        ...(structured ? [{ type: NBD_CMD_BLOCK_STATUS, length: 4096 }] : []),
      ];
      requests.forEach((shape, cookie) => client.send(encodeRequest({ ...shape, cookie })));
      client.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4 }), Buffer.from('late'));
      await until(() => disk.waitingCount === requests.length + 1);
      disk.revoke();
      disk.letGo(); // all of them fail now, some before the socket is closed and some behind it
      const rest = await client.takeRest();
      for (let at = 0; at < rest.length; ) {
        const isSimple = rest.readUInt32BE(at) === nbd.NBD_SIMPLE_REPLY_MAGIC;
        const error = rest.readUInt32BE(at + (isSimple ? 4 : nbd.STRUCTURED_REPLY_BYTES));
        expect(error).toBe(nbd.NBD_ESHUTDOWN);
        at += isSimple
          ? nbd.SIMPLE_REPLY_BYTES
          : nbd.STRUCTURED_REPLY_BYTES + rest.readUInt32BE(at + nbd.STRUCTURED_REPLY_BYTES - 4);
      }
      await until(() => exports.openCount === 0);
      expect(exports.openCount).toBe(0);
    },
  );

  it('is released when its last request is over, however long that takes', async () => {
    const { enter, disk, exports } = await serve();
    disk.holds = true;
    const client = await enter();
    client.send(encodeRequest({ type: NBD_CMD_WRITE, length: 4 }), Buffer.from('long'));
    client.send(encodeRequest({ type: NBD_CMD_FLUSH }));
    await until(() => disk.waitingCount === 2);
    disk.revoke();
    expect(await client.takeRest()).toHaveLength(0);
    await pause();
    expect(exports.openCount).toBe(1);
    disk.letGo();
    await until(() => exports.openCount === 0);
    expect(exports.openCount).toBe(0);
  });

  it('does not mind a client that is in the middle of a write, or does not read', async () => {
    const { enter, disk, exports, server } = await serve();
    const writer = await enter();
    writer.send(encodeRequest({ type: NBD_CMD_WRITE, length: 2 ** 20 }), Buffer.alloc(1000, 1));
    const deaf = await enter();
    deaf.socket.pause();
    for (let count = 0; count < 200; count++)
      deaf.send(encodeRequest({ type: NBD_CMD_READ, length: 65_536 }));
    await until(() => server.inFlightBytes > 0);
    await pause();
    disk.revoke();
    await until(() => exports.openCount === 0);
    expect(exports.openCount).toBe(0);
    expect(disk.log).toEqual([]);
    await until(() => server.connectionCount === 0);
    expect(server.connectionCount).toBe(0);
  });

  it('is told once, also when the client hangs up at the same moment', async () => {
    const { enter, disk, server } = await serve();
    const client = await enter();
    client.send(encodeRequest({ type: nbd.NBD_CMD_DISC }));
    disk.revoke();
    await until(() => server.connectionCount === 0);
    expect(server.connectionCount).toBe(0);
    disk.error = undefined;
    expect(await (await enter()).ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });
});

describe('a snapshot that changes are counted from', () => {
  it('is not taken from its clients without being told: they are cut off', async () => {
    const { enter, snapshot, exports } = await serve();
    const client = await enter({ structured: true, contexts: ['coppice:changed-since:monday'] });
    const other = await enter({ structured: true, contexts: ['base:allocation'] });
    snapshot.revoke();
    expect((await client.takeRest()).length).toBe(0);
    await until(() => exports.openCount === 1);
    expect(await other.ask({ type: NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
  });
});
