/** proto.md, "Terminating the transmission phase", "NBD_CMD_DISC", "Request message". */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../../src/nbd/protocol.ts';
import { pause, serve, until } from '../fixture.ts';
import { encodeRequest } from '../raw-client.ts';
import { isDropped } from './negotiation.ts';

const { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_DISC, NBD_CMD_BLOCK_STATUS } = nbd;
const STYLES = [
  ['simple', {}],
  ['structured', { structured: true, context: true }],
  ['extended', { extended: true, context: true }],
] as const;

describe.each(STYLES)('Terminating the transmission phase, %s replies', (_, style) => {
  it('NBD_CMD_DISC: the server MUST handle all outstanding requests, and close the session without a reply', async () => {
    const { enter, disk, exports } = await serve();
    const client = await enter(style);
    disk.holds = true;
    client.send(client.encode({ type: NBD_CMD_WRITE, length: 4, cookie: 1 }), Buffer.from('last'));
    client.send(client.encode({ type: NBD_CMD_FLUSH, cookie: 2 }), client.encode({ type: NBD_CMD_DISC }));
    await until(() => disk.waitingCount === 2);
    disk.letGo();
    expect(new Set([(await client.reply()).cookie, (await client.reply()).cookie])).toEqual(new Set([1, 2]));
    expect(await isDropped(client)).toBe(true);
    await until(() => exports.openCount === 0);
    expect(exports.openCount).toBe(0);
  });

  it('a client MUST NOT send anything after DISC: it is ignored', async () => {
    const { enter, disk } = await serve();
    const client = await enter(style);
    client.send(client.encode({ type: NBD_CMD_DISC }), client.encode({ type: NBD_CMD_FLUSH }));
    expect(await isDropped(client)).toBe(true);
    expect(disk.log).toEqual([]);
  });

  it('On a server shutdown, requests in flight are serviced, and ESHUTDOWN is the answer to any that come then', async () => {
    const { enter, disk, server } = await serve();
    const client = await enter(style);
    disk.holds = true;
    client.send(client.encode({ type: NBD_CMD_WRITE, length: 4, cookie: 1 }), Buffer.from('kept'));
    await until(() => disk.waitingCount === 1);
    const closing = server.close(5000);
    const shapes = [
      { type: NBD_CMD_READ, length: 512 },
      { type: NBD_CMD_WRITE, length: 512 },
      { type: NBD_CMD_FLUSH },
      { type: NBD_CMD_BLOCK_STATUS, length: 512 },
      { type: 99, length: 512 },
    ];
    for (const shape of shapes) {
      const payload = shape.type === NBD_CMD_WRITE ? Buffer.alloc(512) : undefined;
      expect(await client.ask({ ...shape, cookie: 2 }, payload)).toMatchObject({
        error: nbd.NBD_ESHUTDOWN,
        cookie: 2,
      });
    }
    disk.letGo();
    expect(await client.reply()).toMatchObject({ cookie: 1, error: 0 });
    expect(await isDropped(client)).toBe(true);
    await closing;
    expect(disk.bytes.toString('latin1', 0, 4)).toBe('kept');
  });

  it('If the client receives ESHUTDOWN it MUST initiate a soft disconnect: that ends it at once', async () => {
    const { enter, disk, server } = await serve();
    const client = await enter(style);
    disk.holds = true;
    client.send(client.encode({ type: NBD_CMD_FLUSH, cookie: 1 }));
    await until(() => disk.waitingCount === 1);
    const closing = server.close(5000);
    expect(await client.ask({ type: NBD_CMD_FLUSH, cookie: 2 })).toMatchObject({ error: nbd.NBD_ESHUTDOWN });
    client.send(client.encode({ type: NBD_CMD_DISC }));
    disk.letGo();
    expect(await client.reply()).toMatchObject({ cookie: 1 });
    await closing;
    expect(server.connectionCount).toBe(0);
  });

  it('a client that drops the session in the middle of a payload writes nothing', async () => {
    const { enter, disk, server } = await serve();
    const client = await enter(style);
    client.send(client.encode({ type: NBD_CMD_WRITE, length: 4096 }), Buffer.alloc(4095, 1));
    await pause(10);
    client.close();
    await until(() => server.connectionCount === 0);
    expect(disk.log).toEqual([]);
    expect(server.inFlightBytes).toBe(0);
  });
});

describe('Reserved magic values: the stream is out of step, hard disconnect', () => {
  it.each([0, 0x12560953, 0x96744668, 0x25609514, 0x21e41c71, 0x6e8a278c, 0x67446698, 0xffffffff])(
    '%d',
    async (magic) => {
      const { enter } = await serve();
      const client = await enter();
      client.send(encodeRequest({ type: NBD_CMD_FLUSH, magic }));
      expect(await isDropped(client)).toBe(true);
    },
  );
});
