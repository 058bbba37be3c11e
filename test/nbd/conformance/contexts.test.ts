/** proto.md, "Metadata querying", LIST_META_CONTEXT, SET_META_CONTEXT, BLOCK_STATUS; and extension-ext-header's form of it. */

import { describe, expect, it } from 'vitest';
import * as nbd from '../../../src/nbd/protocol.ts';
import { DISK_BYTES, type Fixture, serve, until } from '../fixture.ts';
import { MemoryDevice } from '../memory-device.ts';
import { encodeContexts, encodeInfo, type RawClient, u32 } from '../raw-client.ts';
import { contextsOf, greeted, last, NOTHING } from './negotiation.ts';

const { NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK } = nbd;
const { NBD_REP_ERR_INVALID, NBD_REP_ERR_UNKNOWN, NBD_REP_ERR_TOO_BIG } = nbd;
const { NBD_CMD_BLOCK_STATUS, NBD_EINVAL } = nbd;
const ALLOCATION = 'base:allocation';
const DEPTH = 'qemu:allocation-depth';
const CHANGED = 'coppice:changed-since:monday';
const BITMAP = 'qemu:dirty-bitmap:monday';
const ALL = [ALLOCATION, DEPTH, CHANGED, BITMAP];

async function structured(fixture: Fixture): Promise<RawClient> {
  const client = await greeted(fixture);
  await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
  return client;
}

describe.each([
  ['NBD_OPT_LIST_META_CONTEXT', NBD_OPT_LIST_META_CONTEXT],
  ['NBD_OPT_SET_META_CONTEXT', NBD_OPT_SET_META_CONTEXT],
])('%s', (_, option) => {
  it('ERR_INVALID unless structured replies or extended headers have been negotiated', async () => {
    const client = await greeted(await serve());
    expect(last(await client.negotiate(option, encodeContexts('disk', [])))).toBe(NBD_REP_ERR_INVALID);
    await client.extend();
    expect(last(await client.negotiate(option, encodeContexts('disk', [])))).toBe(NBD_REP_ACK);
  });

  it('ERR_UNKNOWN for an export that there is not', async () => {
    const client = await structured(await serve());
    expect(last(await client.negotiate(option, encodeContexts('absent', ALL)))).toBe(NBD_REP_ERR_UNKNOWN);
  });

  it('the server MUST ignore queries of an unknown namespace, and answers ACK alone if none is known', async () => {
    const client = await structured(await serve());
    const replies = await client.negotiate(
      option,
      encodeContexts('disk', ['x-other:', 'y:z', 'nbd-server:a']),
    );
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ACK]);
  });

  it.each([
    'base:nothing',
    'qemu:dirty-bitmap:absent',
    'coppice:changed-since:absent',
    'coppice:nothing',
    'qemu:x',
  ])('a leaf-name that is not recognized MUST be ignored: %s', async (query) => {
    const client = await structured(await serve());
    expect((await client.negotiate(option, encodeContexts('disk', [query]))).length).toBe(1);
  });

  it.each(['base', '', ':allocation', 'base.allocation'])(
    'ERR_INVALID for the query %j, which has no namespace and colon',
    async (query) => {
      const client = await structured(await serve());
      const replies = await client.negotiate(option, encodeContexts('disk', [query]));
      expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ERR_INVALID]);
    },
  );

  it.each<[string, Buffer]>([
    ['no data', NOTHING],
    ['a name beyond the option', u32(1)],
    ['no number of queries', Buffer.concat([u32(4), Buffer.from('disk')])],
    ['more queries than there are', Buffer.concat([u32(0), u32(2), u32(1), Buffer.from('a')])],
    ['4,294,967,295 queries', Buffer.concat([u32(0), u32(2 ** 32 - 1)])],
    ['a query beyond the option', Buffer.concat([u32(0), u32(1), u32(5), Buffer.from('base')])],
    ['a query of 4,294,967,295 bytes', Buffer.concat([u32(0), u32(1), u32(2 ** 32 - 1)])],
    ['bytes behind the last query', Buffer.concat([encodeContexts('disk', ALL), Buffer.alloc(1)])],
    ['a query that is not UTF-8', Buffer.concat([u32(0), u32(1), u32(2), Buffer.from([0x3a, 0xff])])],
    ['a query with NUL', Buffer.concat([u32(0), u32(1), u32(3), Buffer.from('b:\0')])],
  ])('the server MUST fail with ERR_INVALID: %s', async (_name, body) => {
    const client = await structured(await serve());
    expect(last(await client.negotiate(option, body))).toBe(NBD_REP_ERR_INVALID);
    expect(last(await client.negotiate(nbd.NBD_OPT_LIST))).toBe(NBD_REP_ACK);
  });
});

describe('NBD_OPT_LIST_META_CONTEXT', () => {
  const table: [queries: string[], listed: string[]][] = [
    [[], ALL],
    [['base:'], [ALLOCATION]],
    [['qemu:'], [DEPTH, BITMAP]],
    [['coppice:'], [CHANGED]],
    [['qemu:dirty-bitmap:'], [BITMAP]],
    [['coppice:changed-since:'], [CHANGED]],
    [['base:', 'base:', ALLOCATION], [ALLOCATION]],
    [['x-unknown:', 'base:'], [ALLOCATION]],
    [
      [BITMAP, ALLOCATION],
      [ALLOCATION, BITMAP],
    ],
    [['coppice:changed-since:disk@monday'], ['coppice:changed-since:disk@monday']],
  ];

  it.each(table)('the queries %j list %j', async (queries, listed) => {
    const client = await structured(await serve());
    const replies = await client.negotiate(NBD_OPT_LIST_META_CONTEXT, encodeContexts('disk', queries));
    expect([...contextsOf(replies).keys()]).toEqual(listed);
    // The context ID SHOULD be set to zero.
    expect([...contextsOf(replies).values()].every((id) => id === 0)).toBe(true);
  });

  it('a snapshot has the other snapshots of its volume', async () => {
    const fixture = await serve();
    for (const name of ['disk@tuesday', 'other', 'other@sunday'])
      fixture.exports.add(new MemoryDevice(name, 4096, true));
    const client = await structured(fixture);
    const replies = await client.negotiate(
      NBD_OPT_LIST_META_CONTEXT,
      encodeContexts('disk@monday', ['coppice:']),
    );
    expect([...contextsOf(replies).keys()]).toEqual(['coppice:changed-since:tuesday']);
  });

  it('MAY send a wildcard for more than it lists: every name below it can be selected', async () => {
    const fixture = await serve();
    for (let i = 0; i < 600; i++) fixture.exports.add(new MemoryDevice(`disk@s${i}`, 4096, true));
    const client = await structured(fixture);
    const replies = await client.negotiate(NBD_OPT_LIST_META_CONTEXT, encodeContexts('disk', []));
    expect([...contextsOf(replies).keys()]).toEqual([
      ALLOCATION,
      DEPTH,
      'coppice:changed-since:',
      'qemu:dirty-bitmap:',
    ]);
    const set = await client.negotiate(
      NBD_OPT_SET_META_CONTEXT,
      encodeContexts('disk', ['qemu:dirty-bitmap:s599']),
    );
    expect([...contextsOf(set).keys()]).toEqual(['qemu:dirty-bitmap:s599']);
  });
});

describe('NBD_OPT_SET_META_CONTEXT', () => {
  it('each selected context has a unique ID', async () => {
    const client = await structured(await serve());
    const selected = contextsOf(
      await client.negotiate(NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', ALL)),
    );
    expect([...selected.keys()]).toEqual(ALL);
    expect(new Set(selected.values()).size).toBe(4);
  });

  it.each(['base:', 'qemu:', 'coppice:', 'qemu:dirty-bitmap:', 'coppice:changed-since:'])(
    'the wildcard %s selects nothing',
    async (query) => {
      const client = await structured(await serve());
      const replies = await client.negotiate(NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', [query]));
      expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ACK]);
    },
  );

  it('ERR_TOO_BIG for more contexts than one connection may have', async () => {
    const fixture = await serve();
    const queries: string[] = [];
    for (let i = 0; i < 20; i++) {
      fixture.exports.add(new MemoryDevice(`disk@s${i}`, 4096, true));
      queries.push(`coppice:changed-since:s${i}`);
    }
    const client = await structured(fixture);
    const replies = await client.negotiate(NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', queries));
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ERR_TOO_BIG]);
  });

  const selections: [what: string, steps: [string, string[]][], error: number][] = [
    ['the same export', [['disk', [ALLOCATION]]], 0],
    ['the default export, entered by its name', [['', [ALLOCATION]]], 0],
    ['another export', [['disk@monday', [ALLOCATION]]], NBD_EINVAL],
    ['nothing', [['disk', []]], NBD_EINVAL],
    [
      'something, then nothing',
      [
        ['disk', [ALLOCATION]],
        ['disk', []],
      ],
      NBD_EINVAL,
    ],
    [
      'something, then a failure',
      [
        ['disk', [ALLOCATION]],
        ['absent', [ALLOCATION]],
      ],
      NBD_EINVAL,
    ],
    [
      'something, then a query without a colon',
      [
        ['disk', [ALLOCATION]],
        ['disk', ['base']],
      ],
      NBD_EINVAL,
    ],
    [
      'something for another, then for this',
      [
        ['disk@monday', [ALLOCATION]],
        ['disk', [ALLOCATION]],
      ],
      0,
    ],
  ];

  it.each(selections)('replaces all that was set before: %s', async (_, steps, error) => {
    const client = await structured(await serve());
    for (const [name, queries] of steps)
      await client.negotiate(NBD_OPT_SET_META_CONTEXT, encodeContexts(name, queries));
    await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('disk'));
    expect((await client.ask({ type: NBD_CMD_BLOCK_STATUS, length: 4096 })).error).toBe(error);
  });

  it('a snapshot that is gone by GO refuses the export, and leaves nothing open', async () => {
    const fixture = await serve();
    const client = await structured(fixture);
    await client.negotiate(NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', [ALLOCATION, BITMAP]));
    fixture.exports.devices.delete('disk@monday');
    const replies = await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('disk'));
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ERR_UNKNOWN]);
    expect(fixture.exports.openCount).toBe(0);
  });

  it('a snapshot that changes are counted from is attached until the client is gone', async () => {
    const { enter, snapshot } = await serve();
    const client = await enter({ structured: true, contexts: [CHANGED, BITMAP] });
    expect(snapshot.attached.size).toBe(2);
    client.close();
    await until(() => snapshot.attached.size === 0);
    expect(snapshot.attached.size).toBe(0);
  });
});

describe.each([
  ['NBD_REPLY_TYPE_BLOCK_STATUS', { structured: true }, nbd.NBD_REPLY_TYPE_BLOCK_STATUS],
  ['NBD_REPLY_TYPE_BLOCK_STATUS_EXT', { extended: true }, nbd.NBD_REPLY_TYPE_BLOCK_STATUS_EXT],
] as const)('NBD_CMD_BLOCK_STATUS: %s', (_, style, type) => {
  /** 0 hole, 1 data inherited, 2 data of its own and changed, 3 changed to zeros, then nothing. */
  async function described(contexts: readonly string[]): Promise<Fixture & { client: RawClient }> {
    const fixture = await serve();
    const { disk } = fixture;
    disk.allocated.set([0, 1, 1, 0]);
    disk.depths.set([0, 2, 1, 1]);
    disk.changed.set([0, 0, 1, 3]);
    return { ...fixture, client: await fixture.enter({ ...style, contexts }) };
  }

  it('base:allocation', async () => {
    const { client } = await described([ALLOCATION]);
    expect((await client.status({ length: 20_480 })).get(1)).toEqual([
      [4096, 3],
      [8192, 0],
      [8192, 3],
    ]);
  });

  it('qemu:allocation-depth', async () => {
    const { client } = await described([DEPTH]);
    expect((await client.status({ length: 20_480 })).get(1)).toEqual([
      [4096, 0],
      [4096, 2],
      [8192, 1],
      [4096, 0],
    ]);
  });

  it('coppice:changed-since and qemu:dirty-bitmap', async () => {
    const { client, disk } = await described([CHANGED, BITMAP]);
    const answers = await client.status({ length: 20_480 });
    expect(answers.get(1)).toEqual([
      [8192, 0],
      [4096, 1],
      [4096, 3],
      [4096, 0],
    ]);
    expect(answers.get(2)).toEqual([
      [8192, 0],
      [8192, 1],
      [4096, 0],
    ]);
    expect(disk.log).toEqual(['changes since disk@monday', 'changes since disk@monday']);
  });

  it('exactly one chunk for each context, the last with DONE', async () => {
    const { client } = await described(ALL);
    client.send(client.encode({ type: NBD_CMD_BLOCK_STATUS, offset: 4096, length: 8192 }));
    const chunks = await client.chunks();
    expect(chunks.map((chunk) => chunk.type)).toEqual([type, type, type, type]);
    expect(chunks.map((chunk) => chunk.payload.readUInt32BE(0))).toEqual([1, 2, 3, 4]);
    expect(chunks.map((chunk) => chunk.flags)).toEqual([0, 0, 0, 1]);
  });

  it('REQ_ONE: exactly one descriptor for each context, not longer than the request', async () => {
    const { client } = await described(ALL);
    const answers = await client.status({ offset: 5000, length: 9000, flags: nbd.NBD_CMD_FLAG_REQ_ONE });
    expect([...answers.values()].map((extents) => extents.length)).toEqual([1, 1, 1, 1]);
    expect([...answers.values()].every(([extent]) => extent![0] <= 9000)).toBe(true);
    expect(answers.get(1)).toEqual([[7288, 0]]);
  });

  it('SHOULD NOT send too many descriptors: 2,048 at most, and a client makes progress', async () => {
    const { client, disk } = await described([ALLOCATION]);
    for (let block = 0; block < disk.allocated.length; block++) disk.allocated[block] = block % 2;
    const extents = (await client.status({ length: DISK_BYTES })).get(1)!;
    expect(extents.length).toBe(2048);
    const rest = (await client.status({ offset: 2048 * 4096, length: DISK_BYTES - 2048 * 4096 })).get(1)!;
    expect(rest[0]).toEqual([4096, 3]);
  });

  it.each([
    ['a length of 0', 0, 0],
    ['a range beyond the device', DISK_BYTES - 1, 2],
    ['an offset beyond the device', DISK_BYTES, 1],
  ])('EINVAL for %s, and no disconnect', async (_name, offset, length) => {
    const { client } = await described([ALLOCATION]);
    expect(await client.ask({ type: NBD_CMD_BLOCK_STATUS, offset, length })).toMatchObject({
      error: NBD_EINVAL,
    });
    expect((await client.status({ length: 4096 })).size).toBe(1);
  });

  it('EINVAL without a context', async () => {
    const { client } = await described([]);
    expect(await client.ask({ type: NBD_CMD_BLOCK_STATUS, length: 512 })).toMatchObject({
      error: NBD_EINVAL,
    });
  });
});

describe('NBD_CMD_BLOCK_STATUS under extended headers', () => {
  it('lengths of 64 bits, in the request and in the reply', async () => {
    const { enter, exports } = await serve();
    exports.add(new MemoryDevice('huge', 2 ** 46));
    const client = await enter({ name: 'huge', extended: true, contexts: [ALLOCATION] });
    expect((await client.status({ length: 2 ** 46 })).get(1)).toEqual([[2 ** 46, 3]]);
  });

  const payloadOf = (length: number | bigint, ids: readonly number[]): Buffer =>
    Buffer.concat([
      u32(Number(BigInt(length) >> 32n)),
      u32(Number(BigInt(length) & 0xffffffffn)),
      ...ids.map(u32),
    ]);
  const flags = nbd.NBD_CMD_FLAG_PAYLOAD_LEN;

  it.each([[[1]], [[4]], [[2, 1]], [[4, 3, 2, 1]]])(
    'PAYLOAD_LEN: an answer of the contexts %j only',
    async (ids) => {
      const { enter } = await serve();
      const client = await enter({ extended: true, contexts: ALL });
      const payload = payloadOf(8192, ids);
      const answers = await client.status({ flags, length: payload.length }, payload);
      expect(new Set(answers.keys())).toEqual(new Set(ids));
      expect([...answers.values()].every(([extent]) => extent![0] === 8192)).toBe(true);
    },
  );

  it.each<[string, Buffer]>([
    ['a context twice', payloadOf(4096, [1, 1])],
    ['a context that was not selected', payloadOf(4096, [3])],
    ['the context 0', payloadOf(4096, [0])],
    ['the context 4,294,967,295', payloadOf(4096, [2 ** 32 - 1])],
    ['no context', payloadOf(4096, [])],
    ['half a context', payloadOf(4096, [1]).subarray(0, 10)],
    ['less than a length', Buffer.alloc(4)],
    ['more contexts than there are', payloadOf(4096, [1, 2, 3, 4, 5, 6])],
    ['a length of 0', payloadOf(0, [1])],
    ['a length beyond the device', payloadOf(DISK_BYTES + 1, [1])],
    ['a length of 2^63', payloadOf(2n ** 63n, [1])],
    ['a payload of a megabyte', Buffer.alloc(2 ** 20)],
  ])('the server MUST consume the payload before failing with EINVAL: %s', async (_, payload) => {
    const { enter } = await serve();
    const client = await enter({ extended: true, contexts: [ALLOCATION, DEPTH] });
    const reply = await client.ask({ type: NBD_CMD_BLOCK_STATUS, flags, length: payload.length }, payload);
    expect(reply).toMatchObject({ error: NBD_EINVAL });
    expect((await client.status({ length: 4096 })).size).toBe(2);
  });
});
